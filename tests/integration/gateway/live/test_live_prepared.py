"""Most of the work for the result is done while people still talk, and the result does not depend on it."""

from __future__ import annotations

from typing import Any

import pytest

from careca.errors import Unavailable
from careca.types import SAMPLE_RATE
from careca_gateway.live import service
from careca_gateway.live.models import WindowModels
from integration.gateway.live.conftest import Sessions
from support.live import LiveClient, SpokenDiarizer, SpokenTranscriber, pace, spoken, words
from support.waiting import until

TALK = spoken([0.5, *words(0, 1, 30), 1.0, *words(1, 101, 30), 1.0, *words(0, 41, 30), 1.0])


async def spoken_result(client: LiveClient, sessions: Sessions) -> Any:
    live = await client.begin()
    await pace(live, TALK, await sessions.of(live))
    await live.end()
    return (await live.ended()).result


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The lengths of the audio that was prepared, in seconds."""
    lengths: list[float] = []
    prepare = WindowModels.prepare

    async def recorded(models: WindowModels, audio: Any, *options: Any) -> None:
        await prepare(models, audio, *options)
        lengths.append(audio.digest.size_bytes / 2 / SAMPLE_RATE)

    monkeypatch.setattr(WindowModels, "prepare", recorded)
    return lengths


async def test_the_beginning_is_prepared_as_more_of_it_is_said(
    client: LiveClient,
    sessions: Sessions,
    prepared: list[float],
    transcriber: SpokenTranscriber,
    diarizer: SpokenDiarizer,
) -> None:
    live = await client.begin(transcription={"hotwords": ["Careca"], "beam_size": 3})
    session = await sessions.of(live)
    await pace(live, TALK, session)
    await until(lambda: prepared)
    await live.end()
    await live.ended()

    assert 10 <= prepared[0] < 15
    assert transcriber.options[0].beam_size == 3, "what is prepared has the options of the result"
    assert transcriber.options[0] == transcriber.options[-1]
    assert (transcriber.inferences, diarizer.inferences) == (len(prepared) + 1, len(prepared) + 1)


async def test_the_result_does_not_depend_on_it(
    client: LiveClient, sessions: Sessions, prepared: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it = await spoken_result(client, sessions)

    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(service, "prepare_repeatedly", nothing)
    count = len(prepared)
    without = await spoken_result(client, sessions)

    assert count
    assert len(prepared) == count
    assert with_it.utterances
    assert with_it.utterances == without.utterances


@pytest.mark.parametrize("gateway_settings", [{"live_prepare": False}])
async def test_it_can_be_turned_off(client: LiveClient, sessions: Sessions, prepared: list[float]) -> None:
    assert (await spoken_result(client, sessions)).utterances

    assert prepared == []


async def test_a_failure_only_makes_the_result_later(
    client: LiveClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Any] = []

    async def failing(*parts: Any) -> None:
        failures.append(parts)
        raise Unavailable("the model service is away")

    monkeypatch.setattr(WindowModels, "prepare", failing)

    assert (await spoken_result(client, sessions)).utterances
    assert failures

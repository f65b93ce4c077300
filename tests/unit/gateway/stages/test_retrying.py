"""Model stages that wait for their service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from careca.errors import CarecaError, InternalError, InvalidRequest, OutOfMemory, Overloaded, Unavailable
from careca.types import Digest, Progress, Segment, Stage
from careca_gateway.pipeline.port import StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.stages import retrying
from careca_gateway.stages.retrying import RetryingStage
from careca_gateway.storage.held_recording import StoredAudio

AUDIO = StoredAudio(Digest("b" * 64, 64_000), Path("audio.s16"))
HELLO, AGAIN = Segment(0.0, 1.0, "hello"), Segment(1.0, 2.0, "again")
NEVER = Deadline()


class Tries:
    """A stage that runs the next of ``tries`` each time: it yields events, then fails or finishes."""

    def __init__(self, *tries: Sequence[PipelineEvent | StageResult[str] | CarecaError]) -> None:
        self.tries = list(tries)

    async def run(
        self, audio: StoredAudio, options: str, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[str], None]:
        assert (audio, options, skip_cache) == (AUDIO, "options", True)
        for each in self.tries.pop(0):
            if isinstance(each, CarecaError):
                raise each
            yield each


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "WAIT_SECONDS", 0.01)


async def told(stage: Tries, *, patience_seconds: float = 60.0, deadline: Deadline = NEVER) -> list[object]:
    patient = RetryingStage(stage, patience_seconds=patience_seconds)
    return [event async for event in patient.run(AUDIO, "options", skip_cache=True, deadline=deadline)]


@pytest.mark.parametrize("error", [Overloaded("full"), Unavailable("away")])
async def test_a_stage_retries_while_its_service_is_full_or_unavailable(error: CarecaError) -> None:
    done = StageResult("all", cached=False)

    assert await told(Tries([error], [error], [Progress(Stage.DIARIZE, 0.5), done])) == [
        Progress(Stage.DIARIZE, 0.5),
        done,
    ]


async def test_segments_before_a_retry_are_not_yielded_again() -> None:
    done = StageResult("all", cached=False)
    stage = Tries([HELLO, Unavailable("gone")], [HELLO, Unavailable("gone")], [HELLO, AGAIN, done])

    assert await told(stage) == [HELLO, AGAIN, done]


@pytest.mark.parametrize("error", [InvalidRequest("no"), OutOfMemory("large"), InternalError("oops")])
async def test_other_errors_are_not_retried(error: CarecaError) -> None:
    stage = Tries([error], [StageResult("never", cached=False)])

    with pytest.raises(type(error)):
        await told(stage)

    assert len(stage.tries) == 1


async def test_retrying_ends_after_the_patience_time() -> None:
    with pytest.raises(Unavailable, match="away"):
        await told(Tries([Unavailable("away")]), patience_seconds=0.0)


async def test_retrying_ends_at_the_deadline() -> None:
    with pytest.raises(Overloaded, match="full"):
        await told(Tries([Overloaded("full")]), deadline=Deadline.after(0.0))

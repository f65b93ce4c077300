"""A stereo call with one party on each channel, with the real stack: each channel is its own speaker, also live."""

import io
import threading
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.common.dataset import parse_rttm
from careca.errors import InvalidRecording
from careca.types import Stage, Turn, Word
from careca_client import Client, LiveFinal, LiveResult, LiveSession, TranscriptionResult
from local_stack import LocalStack
from support.media import wav

DIANE, SHEILA = "speaker90", "speaker91"

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def spoken(recording: Path) -> tuple[Turn, ...]:
    """Who really spoke when."""
    return parse_rttm(recording.with_suffix(".rttm").read_text())


@pytest.fixture(scope="module")
def stereo(recording: Path, spoken: Sequence[Turn]) -> bytes:
    """The phone call with Sheila on the first channel and Diane, who speaks first, on the second."""
    with wave.open(str(recording)) as file:
        rate = file.getframerate()
        mixed = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    channels = np.zeros((len(mixed), 2), np.int16)
    for turn in spoken:
        part = slice(round(turn.start * rate), round(turn.end * rate))
        channels[part, (SHEILA, DIANE).index(turn.speaker)] = mixed[part]
    return wav(channels, rate)


@pytest.fixture(scope="module")
def first(stack: LocalStack, stereo: bytes) -> TranscriptionResult:
    with Client(stack.gateway_target) as client:
        return client.transcribe(stereo, channel_mode="separate", skip_cache=True)


def text_of(result: TranscriptionResult, speaker: str) -> str:
    return " ".join(utterance.text for utterance in result.utterances if utterance.speaker == speaker)


def shared_seconds(some: Sequence[Turn], others: Sequence[Turn]) -> float:
    return sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in some for b in others)


def test_each_channel_says_who_speaks_on_it(first: TranscriptionResult) -> None:
    assert [channel.speaker for channel in first.channels] == ["SPEAKER_01", "SPEAKER_00"]
    assert not first.partial
    assert first.candidates == ()


def test_each_party_said_what_was_said_on_its_channel(first: TranscriptionResult) -> None:
    diane, sheila = text_of(first, "SPEAKER_00"), text_of(first, "SPEAKER_01")

    assert "Jersey" in diane
    assert "Jersey" not in sheila
    assert "Texas" in sheila
    assert "Texas" not in diane


def test_turns_are_those_of_the_party_on_the_channel(first: TranscriptionResult, spoken: Sequence[Turn]) -> None:
    for label, name in (("SPEAKER_00", DIANE), ("SPEAKER_01", SHEILA)):
        found = [turn for turn in first.turns if turn.speaker == label]
        true = [turn for turn in spoken if turn.speaker == name]
        shared = shared_seconds(found, true)

        assert shared > 0.85 * sum(turn.end - turn.start for turn in true)
        assert shared > 0.85 * sum(turn.end - turn.start for turn in found)


def test_a_second_request_is_answered_without_bytes_and_without_decoding(
    client: Client, first: TranscriptionResult, stereo: bytes
) -> None:
    second = client.transcribe(stereo, channel_mode="separate")

    assert {report.stage for report in second.stages if report.cached} == set(Stage)
    assert second.uploaded_bytes == 0
    assert second.utterances == first.utterances


def test_a_call_with_both_parties_on_one_channel_is_refused(client: Client, recording: Path) -> None:
    with pytest.raises(InvalidRecording) as refused:
        client.transcribe(recording, channel_mode="separate")

    assert refused.value.reason == "SINGLE_CHANNEL"


def test_live_words_have_the_speaker_of_their_channel(
    client: Client, first: TranscriptionResult, stereo: bytes
) -> None:
    with wave.open(io.BytesIO(stereo)) as file:
        rate, frames = file.getframerate(), file.readframes(file.getnframes())
    words: list[Word] = []
    with client.live(sample_rate=rate, channels=2, channel_mode="separate") as session:
        feeding = threading.Thread(target=feed, args=(session, frames))
        feeding.start()
        for event in session:
            if isinstance(event, LiveFinal):
                words += event.words
            elif isinstance(event, LiveResult):
                result = event.result
        feeding.join()

    diane, sheila = (
        " ".join(word.text for word in words if word.speaker == label) for label in ("SPEAKER_00", "SPEAKER_01")
    )
    assert "Jersey" in diane
    assert "Jersey" not in sheila
    assert "Texas" in sheila
    assert "Texas" not in diane
    assert {word.speaker for word in words} == {"SPEAKER_00", "SPEAKER_01"}
    assert result.channels == first.channels
    assert result.utterances == first.utterances


def feed(session: LiveSession, audio: bytes) -> None:
    """Sends the audio in pieces, and the end."""
    for begin in range(0, len(audio), 10_000):
        session.send(audio[begin : begin + 10_000])
    session.end()

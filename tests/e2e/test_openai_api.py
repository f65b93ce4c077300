"""A phone call through OpenAI's own client: the real stack with real models, and a web service in front of it.

Each test may take more than ten seconds, because the models run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent, TranscriptionTextSegmentEvent

from local_stack import LocalStack
from support.openai_client import openai_client
from support.web import web_service

pytestmark = pytest.mark.models


@pytest.fixture
async def openai(stack: LocalStack, tmp_path: Path) -> AsyncIterator[AsyncOpenAI]:
    async with web_service(stack.gateway_target, tmp_path) as web, openai_client(web.url) as client:
        yield client


async def test_words_have_times_and_speakers(openai: AsyncOpenAI, recording: Path) -> None:
    answer = await openai.audio.transcriptions.create(
        file=recording,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    words, segments = answer.words or [], answer.segments or []
    of_jersey = {(word.model_extra or {})["speaker"] for word in words if "Jersey" in word.word}
    of_texas = {(word.model_extra or {})["speaker"] for word in words if "Texas" in word.word}
    assert answer.language == "english"
    assert answer.duration == pytest.approx(30.0, abs=0.1)
    assert " ".join(segment.text for segment in segments) == answer.text
    assert len(words) > 60
    assert all(0 <= word.start <= word.end <= answer.duration for word in words)
    assert all(-2 < segment.avg_logprob < 0 and segment.compression_ratio > 0 for segment in segments)
    assert len(of_jersey) == len(of_texas) == 1
    assert of_jersey != of_texas


async def test_the_text_is_streamed_and_the_speakers_follow(openai: AsyncOpenAI, recording: Path) -> None:
    """The prompt differs from that of all other tests, so that the transcript is not cached and the models run."""
    stream = await openai.audio.transcriptions.create(
        file=recording,
        model="gpt-4o-transcribe-diarize",
        response_format="diarized_json",
        chunking_strategy="auto",
        stream=True,
        prompt="A call between two strangers.",
        extra_body={"speaker_count": 2},
    )
    events = [event async for event in stream]

    deltas = [event.delta for event in events if isinstance(event, TranscriptionTextDeltaEvent)]
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert deltas
    assert isinstance(events[-1], TranscriptionTextDoneEvent)
    assert events[-1].text == "".join(deltas)
    assert {segment.speaker for segment in segments} == {"SPEAKER_00", "SPEAKER_01"}
    assert "".join("".join(segment.text for segment in segments).split()) == "".join(events[-1].text.split())

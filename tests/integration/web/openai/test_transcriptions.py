"""Every response format, made by real services with scripted engines and read by OpenAI's own client."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)

from careca.types import Segment, Turn, Word
from careca_client import AsyncClient
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine, digest_of
from support.media import tone, wav
from support.stack import Stack

Recording = tuple[str, bytes]

TEXT = "hello there good morning"


def transcriber(stack: Stack) -> FakeTranscriberEngine:
    assert isinstance(stack.transcriber.engine, FakeTranscriberEngine)
    return stack.transcriber.engine


def diarizer(stack: Stack) -> FakeDiarizerEngine:
    assert isinstance(stack.diarizer.engine, FakeDiarizerEngine)
    return stack.diarizer.engine


async def test_json_has_the_text_the_languages_and_the_length(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1")

    assert isinstance(answer, Transcription)
    Transcription.model_validate(answer.model_dump(), strict=True)
    assert answer.text == TEXT
    assert [language.code for language in answer.languages or ()] == ["en"]
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 2.0
    assert answer.logprobs is None


async def test_text_is_plain_text(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1", response_format="text")

    assert answer == f"{TEXT}\n"


async def test_subtitles_have_speakers_and_times(client: AsyncOpenAI, recording: Recording) -> None:
    srt = await client.audio.transcriptions.create(file=recording, model="whisper-1", response_format="srt")
    raw = await client.audio.transcriptions.with_raw_response.create(
        file=recording, model="whisper-1", response_format="vtt"
    )

    assert "00:00:01,000 --> 00:00:02,000" in srt
    assert "SPEAKER_01" in srt
    assert raw.headers["content-type"] == "text/vtt; charset=utf-8"
    assert raw.parse().startswith("WEBVTT")


async def test_verbose_json_has_segments(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1", response_format="verbose_json")

    assert isinstance(answer, TranscriptionVerbose)
    TranscriptionVerbose.model_validate(answer.model_dump(), strict=True)
    assert (answer.language, answer.duration, answer.text) == ("english", 2.0, TEXT)
    assert answer.words is None
    assert answer.segments is not None
    assert [(each.id, each.start, each.end, each.text) for each in answer.segments] == [
        (0, 0.0, 1.0, "hello there"),
        (1, 1.0, 2.0, "good morning"),
    ]
    assert answer.segments[0].avg_logprob == pytest.approx((math.log(0.9) + math.log(0.8)) / 2, abs=1e-6)
    assert answer.segments[0].compression_ratio == pytest.approx(11 / 19)
    assert (answer.segments[0].temperature, answer.segments[0].tokens) == (0.0, [])
    assert (answer.segments[1].model_extra or {})["speaker"] == "SPEAKER_01"


async def test_verbose_json_has_words_with_speakers(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(
        file=recording, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
    )

    assert answer.segments is None
    assert answer.words is not None
    assert [(each.word, each.start, each.end) for each in answer.words] == [
        ("hello", 0.0, 0.5),
        ("there", 0.5, 1.0),
        ("good", 1.0, 1.5),
        ("morning", 1.5, 2.0),
    ]
    assert [(each.model_extra or {})["speaker"] for each in answer.words] == [*["SPEAKER_00"] * 2, *["SPEAKER_01"] * 2]


async def test_words_and_segments_can_be_had_together(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(
        file=recording,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert len(answer.words or ()) == 4
    assert len(answer.segments or ()) == 2


async def test_words_without_times_and_probabilities_follow_one_another(
    client: AsyncOpenAI, recording: Recording, stack: Stack
) -> None:
    transcriber(stack).segments = (Segment(0.5, 1.0, "hello there", (Word("hello"), Word("there", 0.7, 0.9, 0.0))),)

    answer = await client.audio.transcriptions.create(
        file=recording,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert [(each.start, each.end) for each in answer.words or ()] == [(0.5, 0.5), (0.7, 0.9)]
    assert [each.avg_logprob for each in answer.segments or ()] == [-9999.0]


async def test_a_recording_without_speech_has_no_text(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    transcriber(stack).segments, transcriber(stack).language = (), ""
    diarizer(stack).turns = ()

    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1", response_format="verbose_json")

    assert (answer.text, answer.language, answer.segments) == ("", "", [])


async def test_diarized_json_has_speakers(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(
        file=recording, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
    )

    assert isinstance(answer, TranscriptionDiarized)
    TranscriptionDiarized.model_validate(answer.model_dump(), strict=True)
    assert (answer.text, answer.duration, answer.task) == (TEXT, 2.0, "transcribe")
    assert [(each.id, each.start, each.end, each.speaker, each.text) for each in answer.segments] == [
        ("seg_0", 0.0, 1.0, "SPEAKER_00", "hello there"),
        ("seg_1", 1.0, 2.0, "SPEAKER_01", "good morning"),
    ]


async def test_known_speakers_are_shown_by_name(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    sample = wav(tone(0.5))
    decoded = sample[44:]
    diarizer(stack).turns_of = {digest_of(decoded): (Turn(0.0, 0.5, "SPEAKER_00"),)}

    answer = await client.audio.transcriptions.create(
        file=recording,
        model="gpt-4o-transcribe-diarize",
        response_format="diarized_json",
        known_speaker_names=["Ana"],
        known_speaker_references=[f"data:audio/wav;base64,{base64.b64encode(sample).decode()}"],
    )

    assert [segment.speaker for segment in answer.segments] == ["Ana", "SPEAKER_01"]


async def test_saved_voices_are_recognised_if_asked_to(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    async def speakers(**options: Any) -> list[str]:
        answer = await client.audio.transcriptions.create(
            file=recording, model="whisper-1", response_format="diarized_json", extra_body=options
        )
        return [segment.speaker for segment in answer.segments]

    unknown = await speakers()
    async with AsyncClient(stack.target) as careca:
        job = await anext(careca.jobs())
        _ = [update async for update in careca.watch(job.id)]  # the answer comes a little before the job has ended
        await careca.save_voice("Ana", job_id=job.id, speaker="SPEAKER_00")

    assert unknown == await speakers() == ["SPEAKER_00", "SPEAKER_01"]
    assert await speakers(use_saved_voices=True) == ["Ana", "SPEAKER_01"]


async def test_log_probabilities_of_words(client: AsyncOpenAI, recording: Recording) -> None:
    answer = await client.audio.transcriptions.create(file=recording, model="gpt-4o-transcribe", include=["logprobs"])

    assert isinstance(answer, Transcription)
    assert answer.logprobs is not None
    assert [each.token for each in answer.logprobs] == TEXT.split()
    assert bytes(int(value) for value in answer.logprobs[1].bytes or ()) == b"there"
    assert [math.exp(each.logprob or 0) for each in answer.logprobs] == pytest.approx([0.9, 0.8, 0.9, 0.7], abs=1e-6)


async def test_options_reach_the_models(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    await client.audio.transcriptions.create(
        file=recording,
        model="fake",
        language="pt-BR",
        prompt="Ana and Bob",
        temperature=0,
        keywords=["Careca"],
        extra_body={"hotwords": ["ITN", "WER"], "min_speaker_count": 2, "max_speaker_count": 5, "audio_track": "1"},
    )

    (transcription,), (diarization,) = transcriber(stack).options, diarizer(stack).options
    assert (transcription.language, transcription.initial_prompt) == ("pt", "Ana and Bob")
    assert transcription.hotwords == ("Careca", "ITN", "WER")
    assert not transcription.translate
    assert (diarization.min_speaker_count, diarization.max_speaker_count) == (2, 5)


async def test_one_possible_language_is_the_language(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    await client.audio.transcriptions.create(file=recording, model="gpt-transcribe", languages=["es"])

    assert transcriber(stack).options[0].language == "es"


async def test_the_number_of_speakers_can_be_given(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    await client.audio.transcriptions.create(file=recording, model="whisper-1", extra_body={"speaker_count": 2})

    assert diarizer(stack).options[0].speaker_count == 2


async def test_channels_can_be_separated(client: AsyncOpenAI) -> None:
    two_channels = wav(tone(2.0, channels=2, hertz=(300.0, 500.0)))

    answer = await client.audio.transcriptions.create(
        file=("call.wav", two_channels),
        model="whisper-1",
        response_format="diarized_json",
        extra_body={"channel_mode": "separate"},
    )

    assert {segment.speaker for segment in answer.segments} == {"SPEAKER_00", "SPEAKER_01"}


async def test_languages_without_spaces_get_none(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    words = (Word("你好", 0.0, 1.0, 0.9), Word("早上好", 1.0, 2.0, 0.9))
    transcriber(stack).segments = tuple(Segment(word.start or 0, word.end or 0, word.text, (word,)) for word in words)
    transcriber(stack).language = "zh"

    answer = await client.audio.transcriptions.create(file=recording, model="whisper-1")

    assert answer.text == "你好早上好"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the package marks all of its translations so
async def test_translations(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    transcriber(stack).language = "pt"

    short = await client.audio.translations.create(file=recording, model="whisper-1")
    verbose = await client.audio.translations.create(file=recording, model="whisper-1", response_format="verbose_json")
    text = await client.audio.translations.create(file=recording, model="whisper-1", response_format="text")
    subtitles = await client.audio.translations.create(file=recording, model="whisper-1", response_format="srt")

    assert isinstance(short, Translation)
    assert isinstance(verbose, TranslationVerbose)
    assert short.text == verbose.text == TEXT
    assert verbose.language == "english"
    assert str(text) == f"{TEXT}\n"
    assert "hello there" in str(subtitles)
    assert all(options.translate for options in transcriber(stack).options)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../call.wav", "call.wav"),
        ("..\\..\\call.wav", "call.wav"),
        ("chamada de ação.wav", "chamada de ação.wav"),
        ("a\u202eb", "a?b"),
        ("x" * 300, "x" * 255),
    ],
)
async def test_the_name_of_the_file_is_shown_and_is_no_path(
    client: AsyncOpenAI, stack: Stack, recording: Recording, name: str, shown: str
) -> None:
    await client.audio.transcriptions.create(file=(name, recording[1]), model="whisper-1")

    async with AsyncClient(stack.target) as careca:
        assert [job.display_name async for job in careca.jobs()] == [shown]

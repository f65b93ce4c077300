"""The pipeline with scripted stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRecording,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    Unavailable,
)
from careca.types import (
    AudioTracks,
    ChannelMode,
    DiarizationOptions,
    Digest,
    KnownSpeaker,
    Notice,
    Progress,
    Segment,
    Stage,
    StageReport,
    StageState,
    TranscriptionOptions,
)
from careca_gateway.pipeline.pipeline import ANSWER_SECONDS, Pipeline
from careca_gateway.pipeline.port import Found, StageResult
from careca_gateway.request import AudioSelection, Completed, Deadline, DiarizationRequest, PipelineEvent, Request
from careca_gateway.storage.held_recording import DecodedAudio, HeldRecording, StoredAudio

RECORDING = cast("HeldRecording", object())
AUDIO = StoredAudio(Digest("b" * 64, 64_000), Path("audio.s16"))
OTHER_AUDIO = StoredAudio(Digest("c" * 64, 64_000), Path("other.s16"))
REQUEST = Request(
    recording=Digest("a" * 64, 1000),
    transcription=TranscriptionOptions(language="en"),
    diarization=DiarizationOptions(speaker_count=2),
    skip_cache=True,
    known_speakers=(KnownSpeaker("Ana", b"RIFF"),),
)
SEPARATE = replace(REQUEST, channel_mode=ChannelMode.SEPARATE, diarization=DiarizationOptions())
EACH_TRACK = replace(REQUEST, audio_track=AudioTracks.EACH, diarization=DiarizationOptions())
NOTICE = Notice("CLIPPED", "the recording is clipped")
SEGMENT = Segment(0.0, 1.0, "hello")


class Decode:
    """Emits progress and returns ``AUDIO``, for separate channels or tracks also ``OTHER_AUDIO``; or fails."""

    def __init__(self, failure: Exception | None = None, *, cached: bool = False) -> None:
        self.failure = failure
        self.cached = cached

    async def decode(
        self, recording: HeldRecording, sound: AudioSelection, emit: Callable[[float], None]
    ) -> StageResult[DecodedAudio]:
        assert recording is RECORDING
        emit(0.5)
        if self.failure:
            raise self.failure
        audio = (AUDIO,) if sound == REQUEST.selection else (AUDIO, OTHER_AUDIO)
        return StageResult(DecodedAudio(audio, (NOTICE,)), self.cached)


class Model:
    """Yields ``events``, then its message, or fails; before that, waits for ``may_end``.

    It fails on the audio ``failing``, all by default. It has the audio ``cached`` in its cache.
    """

    def __init__(
        self,
        message: str | None,
        *events: Progress | Segment,
        failure: Exception | None = None,
        failing: Sequence[StoredAudio] = (AUDIO, OTHER_AUDIO),
        cached: Sequence[StoredAudio] = (),
    ) -> None:
        self.message = message
        self.events = events
        self.failure = failure
        self.failing = failing
        self.cached = cached
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.stopped = False
        self.asked: list[tuple[StoredAudio, Any, bool, Deadline]] = []

    async def run(
        self, audio: StoredAudio, options: Any, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[Progress | Segment | StageResult[str], None]:
        self.asked.append((audio, options, skip_cache, deadline))
        self.began.set()
        try:
            for event in self.events:
                yield event
            await self.may_end.wait()
            if self.failure and audio in self.failing:
                raise self.failure
            if self.message:
                yield StageResult(self.message, audio in self.cached)
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped = True
            raise


class Merge:
    """Joins what was found."""

    async def merge(
        self, request: Request, decoded: DecodedAudio, found: Found[str, str], reports: tuple[StageReport, ...]
    ) -> StageResult[str]:
        assert request in (REQUEST, SEPARATE, EACH_TRACK)
        assert decoded.audio == ((AUDIO,) if request is REQUEST else (AUDIO, OTHER_AUDIO))
        assert decoded.notices == (NOTICE,)
        parts = ("None" if each is None else ", ".join(each) for each in (found.transcripts, found.diarizations))
        return StageResult(" + ".join(parts), cached=False)

    def add_reports(self, merged: str, reports: tuple[StageReport, ...]) -> str:
        return merged


class Counts:
    def __init__(self) -> None:
        self.stages: list[tuple[Stage, bool]] = []
        self.audio: list[tuple[Stage, float]] = []

    def observe_stage(self, stage: Stage, seconds: float, *, cached: bool) -> None:
        assert seconds >= 0
        self.stages.append((stage, cached))

    def count_audio(self, stage: Stage, seconds: float) -> None:
        self.audio.append((stage, seconds))


class Course:
    """One run of the pipeline, with its events."""

    def __init__(
        self,
        transcriber: Model | None = None,
        diarizer: Model | None = None,
        decoder: Decode | None = None,
        request: Request = REQUEST,
    ) -> None:
        self.request = request
        self.transcriber = transcriber or Model("words")
        self.diarizer = diarizer or Model("turns")
        self.counts = Counts()
        self.pipeline = Pipeline(
            decoder=decoder or Decode(),
            transcriber=self.transcriber,
            diarizer=self.diarizer,
            merger=Merge(),
            observer=self.counts,
        )
        self.events: list[PipelineEvent | Completed[str]] = []

    async def run(self) -> Completed[str]:
        async with aclosing(self.pipeline.run(self.request, RECORDING, Deadline())) as events:
            async for event in events:
                self.events.append(event)
        assert isinstance(self.events[-1], Completed)
        return self.events[-1]

    def progress(self, stage: Stage) -> list[float]:
        return [event.fraction for event in self.events if isinstance(event, Progress) and event.stage is stage]


def states(completed: Completed[str]) -> dict[Stage, StageState]:
    return {report.stage: report.state for report in completed.reports}


async def test_both_models_get_the_callers_options_and_their_results_are_merged() -> None:
    course = Course()

    completed = await course.run()

    assert completed.result == "words + turns"
    assert states(completed) == dict.fromkeys(Stage, StageState.SUCCEEDED)
    (asked,) = course.transcriber.asked
    assert asked == (AUDIO, REQUEST.transcription, True, Deadline())
    (asked,) = course.diarizer.asked
    assert asked == (AUDIO, DiarizationRequest(REQUEST.diarization, REQUEST.known_speakers), True, Deadline())
    assert course.counts.stages == [(Stage.DECODE, False), (Stage.MERGE, False)]
    assert course.counts.audio == [(Stage.DECODE, 2.0), (Stage.MERGE, 2.0)]


async def test_both_models_run_at_the_same_time() -> None:
    course = Course()
    course.transcriber.may_end = course.diarizer.began
    course.diarizer.may_end = course.transcriber.began

    assert (await course.run()).result == "words + turns"


async def test_progress_of_every_stage_and_finished_segments_are_yielded() -> None:
    course = Course(Model("words", Progress(Stage.TRANSCRIBE, 0.4), SEGMENT))

    await course.run()

    assert course.progress(Stage.DECODE) == [0.0, 0.5, 1.0]
    assert course.progress(Stage.TRANSCRIBE) == [0.0, 0.4, 1.0]
    assert course.progress(Stage.DIARIZE) == [0.0, 1.0]
    assert course.progress(Stage.MERGE) == [0.0, 1.0]
    assert SEGMENT in course.events


async def test_progress_never_decreases_and_is_yielded_only_if_it_has_grown() -> None:
    steps = [Progress(Stage.DIARIZE, fraction) for fraction in (0.2, 0.201, 0.1, 0.5, 0.999, 1.0, 1.0)]
    course = Course(diarizer=Model("turns", *steps))

    await course.run()

    assert course.progress(Stage.DIARIZE) == [0.0, 0.2, 0.5, 0.999, 1.0]


async def test_cached_stages_are_reported() -> None:
    course = Course(Model("words", cached=(AUDIO,)), decoder=Decode(cached=True))

    completed = await course.run()

    assert {report.stage: report.cached for report in completed.reports} == {
        Stage.DECODE: True,
        Stage.TRANSCRIBE: True,
        Stage.DIARIZE: False,
        Stage.MERGE: False,
    }
    assert course.counts.stages == [(Stage.DECODE, True), (Stage.MERGE, False)]
    assert course.counts.audio == [(Stage.MERGE, 2.0)]


@pytest.mark.parametrize(
    "failure", [OutOfMemory("too little memory"), Unavailable("gone"), DeadlineExceeded("late"), InternalError("bug")]
)
async def test_a_model_that_fails_does_not_stop_the_other_one(failure: CarecaError) -> None:
    course = Course(diarizer=Model(None, failure=failure))

    completed = await course.run()

    assert completed.result == "words + None"
    assert states(completed)[Stage.DIARIZE] is StageState.FAILED
    report = completed.reports[2]
    assert (report.error_reason, report.error_message) == (failure.reason, failure.message)
    assert course.progress(Stage.DIARIZE) == [0.0]


async def test_the_other_model_may_fail_too() -> None:
    completed = await Course(Model(None, failure=OutOfMemory("too little memory"))).run()

    assert completed.result == "None + turns"
    assert states(completed)[Stage.TRANSCRIBE] is StageState.FAILED


async def test_the_result_waits_for_the_model_that_has_not_failed() -> None:
    course = Course(Model(None, failure=Unavailable("gone")))
    course.diarizer.may_end.clear()
    running = asyncio.create_task(course.run())
    await course.diarizer.began.wait()
    await asyncio.sleep(0)
    assert not running.done()

    course.diarizer.may_end.set()

    assert (await running).result == "None + turns"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (OutOfMemory("m"), Unavailable("u")),
        (OutOfMemory("m"), DeadlineExceeded("d")),
        (DeadlineExceeded("d"), Unavailable("u")),
        (Unavailable("u"), InternalError("i")),
    ],
)
async def test_if_both_models_fail_the_more_important_error_is_raised(first: CarecaError, second: CarecaError) -> None:
    for transcriber, diarizer in ((first, second), (second, first)):
        with pytest.raises(CarecaError) as caught:
            await Course(Model(None, failure=transcriber), Model(None, failure=diarizer)).run()
        assert caught.value is first


@pytest.mark.parametrize("refusal", [InvalidRequest("no such language", field="x"), Overloaded("full")])
async def test_a_refusal_of_one_model_fails_the_request_and_stops_the_other_model(refusal: CarecaError) -> None:
    course = Course(Model(None, failure=refusal))
    course.diarizer.may_end.clear()

    with pytest.raises(CarecaError) as caught:
        await course.run()

    assert caught.value is refusal
    assert course.diarizer.stopped


async def test_a_recording_that_cannot_be_decoded_reaches_no_model() -> None:
    course = Course(decoder=Decode(InvalidRecording("junk", reason="NOT_A_RECORDING")))

    with pytest.raises(InvalidRecording):
        await course.run()

    assert course.transcriber.asked == course.diarizer.asked == []


async def test_a_model_that_ends_without_a_result_has_failed() -> None:
    completed = await Course(Model(None)).run()

    assert completed.reports[1].error_reason == "INTERNAL"


async def test_an_unexpected_error_is_not_hidden_in_a_partial_result() -> None:
    course = Course(Model(None, failure=ZeroDivisionError("a bug")))
    course.diarizer.may_end.clear()

    with pytest.raises(ZeroDivisionError):
        await course.run()

    assert course.diarizer.stopped


async def test_models_end_shortly_before_the_deadline() -> None:
    course = Course()
    deadline = Deadline.after(100.0)

    async with aclosing(course.pipeline.run(REQUEST, RECORDING, deadline)) as events:
        assert [event async for event in events]

    given = course.transcriber.asked[0][3].at
    assert given is not None
    assert deadline.at is not None
    assert deadline.at - given == pytest.approx(ANSWER_SECONDS)


async def test_cancelling_stops_both_models() -> None:
    course = Course(Model("words", SEGMENT))
    course.transcriber.may_end.clear()
    course.diarizer.may_end.clear()
    running = asyncio.create_task(course.run())
    await course.transcriber.began.wait()
    await course.diarizer.began.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert course.transcriber.stopped
    assert course.diarizer.stopped


async def test_closing_the_stream_stops_both_models() -> None:
    course = Course(Model("words", SEGMENT))
    course.transcriber.may_end.clear()
    course.diarizer.may_end.clear()

    async with aclosing(course.pipeline.run(REQUEST, RECORDING, Deadline())) as events:
        async for event in events:
            if event is SEGMENT:
                break

    assert course.transcriber.stopped
    assert course.diarizer.stopped


async def test_each_separate_channel_is_diarized_as_one_speaker() -> None:
    course = Course(request=SEPARATE)

    completed = await course.run()

    assert completed.result == "words, words + turns, turns"
    assert [asked[:2] for asked in course.transcriber.asked] == [
        (AUDIO, REQUEST.transcription),
        (OTHER_AUDIO, REQUEST.transcription),
    ]
    one = DiarizationRequest(DiarizationOptions(speaker_count=1), REQUEST.known_speakers)
    assert [asked[:2] for asked in course.diarizer.asked] == [(AUDIO, one), (OTHER_AUDIO, one)]
    assert course.counts.audio == [(Stage.DECODE, 4.0), (Stage.MERGE, 4.0)]


async def test_each_separate_track_is_diarized_as_one_speaker() -> None:
    course = Course(request=EACH_TRACK)

    assert (await course.run()).result == "words, words + turns, turns"
    one = DiarizationRequest(DiarizationOptions(speaker_count=1), REQUEST.known_speakers)
    assert [asked[:2] for asked in course.diarizer.asked] == [(AUDIO, one), (OTHER_AUDIO, one)]


async def test_a_model_gets_one_channel_after_the_other() -> None:
    course = Course(request=SEPARATE)
    course.transcriber.may_end.clear()
    running = asyncio.create_task(course.run())
    while len(course.diarizer.asked) < 2:  # noqa: ASYNC110 - there is nothing else to wait for
        await asyncio.sleep(0)

    assert [asked[0] for asked in course.transcriber.asked] == [AUDIO]

    course.transcriber.may_end.set()
    assert (await running).result == "words, words + turns, turns"


async def test_progress_of_a_stage_is_that_of_all_channels() -> None:
    course = Course(
        Model("words", Progress(Stage.TRANSCRIBE, 0.5), SEGMENT, Progress(Stage.TRANSCRIBE, 1.0)), request=SEPARATE
    )

    await course.run()

    assert course.progress(Stage.TRANSCRIBE) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert course.events.count(SEGMENT) == 2


@pytest.mark.parametrize(("cached", "reported"), [((AUDIO,), False), ((AUDIO, OTHER_AUDIO), True)])
async def test_a_stage_came_from_the_cache_if_all_its_channels_did(
    cached: tuple[StoredAudio, ...], reported: bool
) -> None:
    completed = await Course(Model("words", cached=cached), request=SEPARATE).run()

    assert completed.reports[1].cached is reported


async def test_a_stage_that_fails_on_one_channel_has_failed() -> None:
    failure = OutOfMemory("too little memory")
    course = Course(Model("words", failure=failure, failing=(OTHER_AUDIO,)), request=SEPARATE)

    completed = await course.run()

    assert completed.result == "None + turns, turns"
    assert completed.reports[1].error_reason == "OUT_OF_MEMORY"

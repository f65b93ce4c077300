"""The contract of every diarizer engine (fake, Careca's own, pretrained pipeline), and tests of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from bench.common.audio import decode
from bench.robustness.damage import DAMAGES
from careca.errors import NotFound, PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Batch, Event, complete
from careca.inference.preparation import PreparedResults, with_prepared
from careca.models import ModelStore
from careca.types import (
    SAMPLE_RATE,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    GpuMemory,
    Progress,
    Speaker,
    Stage,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
)
from careca_diarizer.engine import DiarizerEngine
from careca_diarizer.pretrained_engine import PretrainedPipelineEngine
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.pipeline.speaker_naming import KnownVoice, recognize_speakers
from careca_gateway.settings import GatewaySettings
from support.calls import phone_call, phone_call_turns
from support.fakes import FakeDiarizerEngine
from support.labelled import awkward, labelled
from support.weights import model_folder, model_store

DEFAULTS = DiarizationOptions()
MODELS = ("segmentation-3.0", "campplus-zh-en")
ALIKE = GatewaySettings().known_speaker_similarity

Samples = npt.NDArray[np.int16]
Diarized = Callable[[DiarizerEngine], Diarization]


def own_engine(**settings: object) -> PyannoteEngine:
    return PyannoteEngine(DiarizerSettings.model_validate({"device": "cpu"} | settings), model_store(*MODELS))


@pytest.fixture(scope="session")
def own() -> PyannoteEngine:
    """With small batches, so that there is more than one."""
    engine = own_engine(segmentation_batch_size=2, embedding_batch_size=2)
    engine.load()
    return engine


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.pyannote_pipeline import write_pipeline

    folder = tmp_path_factory.mktemp("models") / "a-pipeline"
    write_pipeline(folder, *[model_folder(name) for name in MODELS])
    return folder


@pytest.fixture(scope="session")
def pretrained(pipeline_folder: Path) -> PretrainedPipelineEngine:
    settings = DiarizerSettings(device="cpu", pipeline=str(pipeline_folder))
    engine = PretrainedPipelineEngine(settings, ModelStore(pipeline_folder.parent))
    engine.load()
    return engine


REAL = ["own", "pretrained"]


@pytest.fixture(params=["fake", *REAL])
def engine(request: pytest.FixtureRequest) -> Iterator[DiarizerEngine]:
    """A loaded engine; it is loaded again if a test unloads it."""
    engine = FakeDiarizerEngine() if request.param == "fake" else request.getfixturevalue(request.param)
    engine.load()
    yield engine
    engine.load()


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> DiarizerEngine:
    engine: DiarizerEngine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture(scope="session")
def call() -> Audio:
    return phone_call()


@pytest.fixture(scope="session")
def short(call: Audio) -> Audio:
    """The second half of the call, in which both people speak."""
    return Audio(call.samples[15 * SAMPLE_RATE :])


def diarize(
    engine: DiarizerEngine,
    audio: Audio,
    options: DiarizationOptions = DEFAULTS,
    *,
    emit: Callable[[Event], None] = lambda _: None,
) -> Diarization:
    return complete(engine.infer(audio, options), emit)


@pytest.fixture(scope="session")
def diarized(call: Audio) -> Diarized:
    """An engine's result for the call, computed once; another test checks that it is deterministic."""
    return cache(lambda engine: diarize(engine, call))


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.int16)


def joined(*parts: Audio | Samples) -> Audio:
    return Audio(np.concatenate([part.samples if isinstance(part, Audio) else part for part in parts]))


def labels_of(diarization: Diarization) -> list[str]:
    """The speakers' labels in order."""
    return [speaker.label for speaker in diarization.speakers]


def error_rate(reference: Sequence[Turn], found: Sequence[Turn]) -> float:
    """Diarization error rate without a collar, overlap scored."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    annotations = []
    for turns in (reference, found):
        annotation = Annotation()
        for index, turn in enumerate(turns):
            annotation[Segment(turn.start, turn.end), index] = turn.speaker
        annotations.append(annotation)
    everything = Timeline([Segment(0, max(turn.end for turn in (*reference, *found)))])
    return float(DiarizationErrorRate(collar=0.0, skip_overlap=False)(*annotations, uem=everything))


# What every engine promises


def test_the_model_and_the_device_are_known_before_anything_is_loaded(pipeline_folder: Path) -> None:
    settings = DiarizerSettings(device="cpu", pipeline=str(pipeline_folder))
    engines = (
        FakeDiarizerEngine(),
        own_engine(),
        PretrainedPipelineEngine(settings, ModelStore(pipeline_folder.parent)),
    )

    for engine in engines:
        assert engine.model
        assert engine.device == "cpu"
        assert not engine.loaded


def test_loading_and_unloading_twice_is_the_same_as_once(engine: DiarizerEngine) -> None:
    engine.load()
    assert engine.loaded

    engine.unload()
    engine.unload()
    assert not engine.loaded

    engine.load()
    assert engine.loaded


def test_two_people_are_told_apart(engine: DiarizerEngine, call: Audio, diarized: Diarized) -> None:
    diarization = diarized(engine)

    assert labels_of(diarization) == ["SPEAKER_00", "SPEAKER_01"]
    assert diarization.duration == call.duration
    assert diarization.model == engine.model


def test_turns_are_in_order_and_within_the_audio(engine: DiarizerEngine, call: Audio, diarized: Diarized) -> None:
    diarization = diarized(engine)

    for turns in (diarization.turns, diarization.exclusive_turns):
        assert turns
        assert [turn.start for turn in turns] == sorted(turn.start for turn in turns)
        assert all(0 <= turn.start < turn.end <= call.duration for turn in turns)


def test_exclusive_turns_do_not_overlap_and_have_the_same_speakers(engine: DiarizerEngine, diarized: Diarized) -> None:
    diarization = diarized(engine)

    exclusive = diarization.exclusive_turns
    assert all(one.end <= following.start for one, following in pairwise(exclusive))
    assert {turn.speaker for turn in exclusive} <= set(labels_of(diarization))


def test_every_speaker_has_a_voice_of_unit_length_in_the_order_of_labels(
    engine: DiarizerEngine, diarized: Diarized
) -> None:
    diarization = diarized(engine)

    assert labels_of(diarization) == list(dict.fromkeys(turn.speaker for turn in diarization.turns))
    for speaker in diarization.speakers:
        assert np.linalg.norm(speaker.embedding) == pytest.approx(1.0, abs=1e-5)
    assert len({speaker.embedding_model for speaker in diarization.speakers} - {""}) == 1
    assert {(speaker.name, speaker.similarity) for speaker in diarization.speakers} == {(None, None)}


def test_progress_never_decreases_and_ends_at_one(engine: DiarizerEngine, short: Audio) -> None:
    told: list[Progress] = []

    diarize(engine, short, emit=told.append)

    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] == 1
    assert all(progress.stage is Stage.DIARIZE for progress in told)


def test_the_same_audio_gives_the_same_diarization_also_after_unloading(
    engine: DiarizerEngine, call: Audio, diarized: Diarized
) -> None:
    before = diarized(engine)

    engine.unload()
    engine.load()

    assert diarize(engine, call) == before


def test_work_that_is_closed_between_two_batches_ends_and_the_next_one_works(
    engine: DiarizerEngine, short: Audio
) -> None:
    work = engine.infer(short, DEFAULTS)
    for asked in work:
        assert not isinstance(asked, Progress)
        if isinstance(asked, Batch):
            break

    work.close()

    assert diarize(engine, short).turns


def test_without_a_gpu_no_gpu_memory_is_held(engine: DiarizerEngine) -> None:
    engine.release_gpu_cache()

    assert engine.gpu_memory() == GpuMemory()


# What real engines find


def test_the_call_is_diarized_like_its_annotation(real: DiarizerEngine, diarized: Diarized) -> None:
    assert error_rate(phone_call_turns(), diarized(real).turns) < 0.2


def test_audio_without_speech_has_no_turns(real: DiarizerEngine) -> None:
    """Digital silence, and hardly any: noise and a tone."""
    noise = np.random.default_rng(0).normal(0, 30, 12 * SAMPLE_RATE).astype(np.int16)
    tone = (3000 * np.sin(2 * np.pi * 440 * np.arange(12 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.int16)

    for samples in (silence(12), noise, tone):
        diarization = diarize(real, Audio(samples))
        assert diarization.turns == diarization.exclusive_turns == diarization.speakers == ()


def spoken_alone(audio: Audio, turns: Sequence[Turn], who: str, start: float, end: float) -> Audio:
    """All speech of one person between ``start`` and ``end``."""
    own = [
        audio.samples[round(max(turn.start, start) * SAMPLE_RATE) : round(min(turn.end, end) * SAMPLE_RATE)]
        for turn in turns
        if turn.speaker == who and turn.start < end and turn.end > start
    ]
    return joined(*own)


def voice_of(engine: DiarizerEngine, name: str, audio: Audio) -> KnownVoice:
    """The voice of the only speaker in ``audio``."""
    (speaker,) = diarize(engine, audio, DiarizationOptions(speaker_count=1)).speakers
    assert speaker.voice is not None
    return KnownVoice(name, speaker.voice)


def owner(speaker: Speaker, diarization: Diarization, truth: Sequence[Turn]) -> str:
    """The annotated speaker who speaks most of the time when ``speaker`` does."""
    seconds: dict[str, float] = {}
    for turn in diarization.turns:
        for true in truth:
            if turn.speaker == speaker.label:
                overlap = min(turn.end, true.end) - max(turn.start, true.start)
                seconds[true.speaker] = seconds.get(true.speaker, 0.0) + max(0.0, overlap)
    return max(seconds, key=lambda name: seconds[name])


def test_each_label_has_the_voice_of_its_speaker(real: DiarizerEngine, call: Audio, diarized: Diarized) -> None:
    truth = phone_call_turns()
    known = [voice_of(real, who, spoken_alone(call, truth, who, 0, 30)) for who in ("speaker91", "speaker90")]
    whole = diarized(real)

    speakers = recognize_speakers(whole.speakers, known, least_similarity=ALIKE)

    assert sorted(speaker.name or "" for speaker in speakers) == ["speaker90", "speaker91"]
    assert all(speaker.name == owner(speaker, whole, truth) for speaker in speakers)


def test_two_people_of_the_first_half_are_recognised_in_the_second(
    own: PyannoteEngine, call: Audio, short: Audio
) -> None:
    truth = phone_call_turns()
    known = [voice_of(own, who, spoken_alone(call, truth, who, 0, 15)) for who in ("speaker90", "speaker91")]
    second = diarize(own, short)
    later = [Turn(turn.start - 15, turn.end - 15, turn.speaker) for turn in truth]

    speakers = recognize_speakers(second.speakers, known, least_similarity=ALIKE)

    assert sorted(speaker.name or "" for speaker in speakers) == ["speaker90", "speaker91"]
    assert all(speaker.name == owner(speaker, second, later) for speaker in speakers)


@pytest.mark.parametrize(
    ("voices", "expected"),
    [
        (None, [(), ()]),
        ([[3.0, 4.0], [0.0, 0.0]], [(), (0.6, 0.8)]),
        ([[np.nan, 4.0], [0.0, -2.0]], [(0.0, -1.0), ()]),
    ],
    ids=["no voices", "an unknown one", "one of no speech"],
)
def test_a_pretrained_pipeline_need_not_give_a_voice_to_each_speaker(
    pretrained: PretrainedPipelineEngine,
    call: Audio,
    monkeypatch: pytest.MonkeyPatch,
    voices: list[list[float]] | None,
    expected: list[tuple[float, ...]],
) -> None:
    """Its voices are in the order of its own labels; ``a`` speaks last."""
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    annotation[Segment(0, 1)], annotation[Segment(1, 2)] = "b", "a"
    embeddings = None if voices is None else np.array(voices)
    output = SimpleNamespace(speaker_diarization=annotation, speaker_embeddings=embeddings)
    monkeypatch.setattr(pretrained, "_pipeline", lambda _file, **_options: output)

    speakers = diarize(pretrained, call).speakers

    assert [speaker.label for speaker in speakers] == ["SPEAKER_00", "SPEAKER_01"]
    assert [speaker.embedding for speaker in speakers] == [pytest.approx(embedding) for embedding in expected]
    assert [speaker.embedding_model for speaker in speakers] == [pretrained.model if each else "" for each in expected]


def test_a_person_who_does_not_speak_is_not_recognised(real: DiarizerEngine, call: Audio) -> None:
    truth = phone_call_turns()
    for absent, present in (("speaker90", "speaker91"), ("speaker91", "speaker90")):
        known = voice_of(real, absent, spoken_alone(call, truth, absent, 0, 30))
        heard = diarize(real, spoken_alone(call, truth, present, 0, 30), DiarizationOptions(speaker_count=1))

        assert [each.name for each in recognize_speakers(heard.speakers, [known], least_similarity=ALIKE)] == [None]


def test_a_reader_of_one_recording_is_recognised_in_another(own: PyannoteEngine) -> None:
    """One reader is in both recordings with different sentences, another only in the second."""
    reference, reference_turns = conversation("mix/mix5_1005")
    meeting, turns = conversation("mix/mix3_1003")
    known = [
        voice_of(own, who, spoken_alone(reference, reference_turns, who, *within))
        for who, within in (("1688", (110.0, 220.0)), ("1998", (0.0, reference.duration)))
    ]
    first = Audio(meeting.samples[: 60 * SAMPLE_RATE])

    found = diarize(own, first)

    speakers = recognize_speakers(found.speakers, known, least_similarity=ALIKE)
    assert {owner(each, found, turns) for each in speakers} == {"2414", "2033", "1688"}
    assert {each.name for each in speakers} == {None, "1688"}
    assert [owner(each, found, turns) for each in speakers if each.name] == ["1688"]


def test_two_similar_voices_on_the_phone_are_distinguished(own: PyannoteEngine) -> None:
    """Average linkage alone puts nearly all of both into one cluster."""
    call, turns = conversation("phone/call_49")

    found = diarize(own, call)

    assert len(found.speakers) == 2
    assert error_rate(turns, found.turns) < 0.15


@pytest.mark.parametrize("name", ["clipped.flac", "adpcm_8k.wav"])
def test_a_damaged_call_still_has_two_people(own: PyannoteEngine, name: str) -> None:
    assert len(diarize(own, Audio(decode(awkward(name)))).speakers) == 2


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damage_does_not_change_how_many_people_are_on_the_phone(own: PyannoteEngine, call: Audio, name: str) -> None:
    damage = DAMAGES[name]
    speed = float(damage.speed)

    found = diarize(own, Audio(damage.apply(call.samples)))

    truth = [Turn(turn.start / speed, turn.end / speed, turn.speaker) for turn in phone_call_turns()]
    assert len(found.speakers) == 2
    assert error_rate(truth, found.turns) < 0.2


def conversation(name: str) -> tuple[Audio, list[Turn]]:
    """A labelled conversation and its turns; skips the test if it is missing."""
    audio = Audio(decode(labelled(f"{name}.flac")))
    lines = [line.split() for line in labelled(f"{name}.rttm").read_text().splitlines()]
    turns = [Turn(float(start), float(start) + float(length), who) for _, _, _, start, length, _, _, who, *_ in lines]
    return audio, turns


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 4800, 16_000, 159_999, 160_000, 160_001])
def test_audio_of_any_length_is_accepted(own: PyannoteEngine, call: Audio, samples: int) -> None:
    begin = 7 * SAMPLE_RATE
    audio = Audio(call.samples[begin : begin + samples])

    diarization = diarize(own, audio)

    assert diarization.duration == samples / SAMPLE_RATE
    assert all(0 <= turn.start < turn.end <= audio.duration for turn in diarization.turns)
    assert bool(diarization.turns) == (samples >= 4800)


@pytest.mark.parametrize("samples", [0, 4800, 160_001])
def test_a_pretrained_pipeline_accepts_short_audio_too(
    pretrained: PretrainedPipelineEngine, call: Audio, samples: int
) -> None:
    audio = Audio(call.samples[7 * SAMPLE_RATE :][:samples])

    diarization = diarize(pretrained, audio)

    assert all(0 <= turn.start < turn.end <= audio.duration for turn in diarization.turns)


def test_silence_around_speech_moves_turns_by_its_length(own: PyannoteEngine, call: Audio, diarized: Diarized) -> None:
    plain = diarized(own).turns

    moved = diarize(own, joined(silence(23), call, silence(11))).turns

    shifted = [Turn(turn.start - 23, turn.end - 23, turn.speaker) for turn in moved]
    assert error_rate(plain, shifted) < 0.1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_requested_number_of_speakers_have_turns(real: DiarizerEngine, call: Audio, count: int) -> None:
    diarization = diarize(real, call, DiarizationOptions(speaker_count=count))

    assert len(diarization.speakers) == count


def test_minimum_and_maximum_are_respected(own: PyannoteEngine, call: Audio) -> None:
    assert len(diarize(own, call, DiarizationOptions(min_speaker_count=3)).speakers) >= 3
    assert len(diarize(own, call, DiarizationOptions(max_speaker_count=1)).speakers) == 1
    assert len(diarize(own, call, DiarizationOptions(min_speaker_count=2, max_speaker_count=5)).speakers) == 2


def test_a_request_for_too_many_speakers_gives_as_many_as_possible(real: DiarizerEngine, call: Audio) -> None:
    short = Audio(call.samples[7 * SAMPLE_RATE : 9 * SAMPLE_RATE])

    assert 1 <= len(diarize(real, short, DiarizationOptions(speaker_count=20)).speakers) < 20


def test_the_numbers_considered_come_with_their_scores(own: PyannoteEngine, call: Audio) -> None:
    candidates = diarize(own, call).candidates

    scores = {candidate.speaker_count: candidate.silhouette_score for candidate in candidates}
    assert list(scores) == sorted(scores)
    assert scores[1] is None
    assert len(scores) > 2
    assert all(-1 <= score <= 1 for count, score in scores.items() if count > 1 and score is not None)
    assert scores[2] is not None
    assert scores[2] > 0.3


@pytest.mark.parametrize(
    "settings",
    [
        {"threads": 1, "segmentation_batch_size": 1, "embedding_batch_size": 1},
        {"threads": 2, "segmentation_batch_size": 5, "embedding_batch_size": 7},
    ],
)
def test_threads_and_batch_sizes_do_not_change_the_result(
    own: PyannoteEngine, call: Audio, diarized: Diarized, settings: dict[str, int]
) -> None:
    other = own_engine(**settings)
    other.load()

    assert diarize(other, call) == diarized(own)


# Windows of live audio

LIVE = ["fake", "own"]


def window_of(audio: Audio, start: float, seconds: float = 10) -> Audio:
    return Audio(audio.samples[round(start * SAMPLE_RATE) : round((start + seconds) * SAMPLE_RATE)])


def diarize_window(engine: DiarizerEngine, audio: Audio) -> DiarizedWindow:
    return complete(engine.infer(audio, WindowToDiarize()))


def cluster_voices(engine: DiarizerEngine, pieces: Sequence[VoicePiece]) -> tuple[int, ...]:
    return complete(engine.infer(Audio(silence(0)), VoicesToCluster(tuple(pieces)))).speakers


def windows_of(engine: DiarizerEngine, audio: Audio) -> list[DiarizedWindow]:
    """The windows of a recording, end to end."""
    return [diarize_window(engine, window_of(audio, start)) for start in range(0, int(audio.duration) + 1, 10)]


def within(turns: Sequence[Turn], start: float, seconds: float = 10) -> list[Turn]:
    """The parts of turns in a window, with times from its start."""
    return [
        Turn(max(turn.start - start, 0.0), min(turn.end - start, seconds), turn.speaker)
        for turn in turns
        if turn.start < start + seconds and turn.end > start
    ]


@pytest.mark.parametrize("engine", LIVE, indirect=True)
def test_a_window_has_turns_in_order_and_pieces_of_their_speakers(engine: DiarizerEngine, call: Audio) -> None:
    window = window_of(call, 15, 8.3)

    found = diarize_window(engine, window)

    assert len({turn.speaker for turn in found.turns}) == 2
    assert [turn.start for turn in found.turns] == sorted(turn.start for turn in found.turns)
    for each in (*found.turns, *found.pieces):
        assert 0 <= each.start < each.end <= window.duration
    assert {piece.speaker for piece in found.pieces} == {turn.speaker for turn in found.turns}
    for piece in found.pieces:
        assert np.linalg.norm(piece.embedding) == pytest.approx(1.0, abs=1e-5)
        assert 0 < piece.speech <= piece.end - piece.start + 0.03
    assert found.embedding_model


@pytest.mark.parametrize("engine", LIVE, indirect=True)
def test_each_piece_has_the_number_of_a_speaker(engine: DiarizerEngine, call: Audio) -> None:
    pieces = [piece for window in windows_of(engine, call) for piece in window.pieces]

    speakers = cluster_voices(engine, pieces)

    assert len(speakers) == len(pieces)
    assert set(speakers) == {0, 1}
    assert cluster_voices(engine, ()) == ()


@pytest.mark.parametrize("start", [10, 15, 20])
def test_a_window_has_the_turns_of_the_whole_call(
    own: PyannoteEngine, call: Audio, diarized: Diarized, start: int
) -> None:
    found = diarize_window(own, window_of(call, start))

    assert error_rate(within(diarized(own).turns, start), found.turns) < 0.1


def test_a_window_has_the_model_of_the_voices_of_a_diarization(
    own: PyannoteEngine, call: Audio, diarized: Diarized
) -> None:
    found = diarize_window(own, window_of(call, 15))

    assert {speaker.embedding_model for speaker in diarized(own).speakers} == {found.embedding_model}


def test_windows_without_speech_are_empty(own: PyannoteEngine) -> None:
    for seconds in (0, 1 / SAMPLE_RATE, 0.5, 10):
        found = diarize_window(own, Audio(silence(seconds)))
        assert (found.turns, found.pieces) == ((), ())


def test_a_voice_is_the_same_in_all_windows_and_differs_from_another(own: PyannoteEngine, call: Audio) -> None:
    voices: dict[str, list[npt.NDArray[np.float64]]] = {}
    for start in (10, 15, 20):
        own_pieces: dict[str, list[tuple[float, ...]]] = {}
        for piece in diarize_window(own, window_of(call, start)).pieces:
            spoken = Diarization((Turn(piece.start, piece.end, piece.speaker),), (), 10.0, "")
            if piece.alone and not piece.part:
                who = owner(Speaker(piece.speaker), spoken, within(phone_call_turns(), start))
                own_pieces.setdefault(who, []).append(piece.embedding)
        for who, embeddings in own_pieces.items():
            mean = np.mean(embeddings, axis=0)
            voices.setdefault(who, []).append(mean / np.linalg.norm(mean))

    one, other = np.array(voices["speaker90"]), np.array(voices["speaker91"])
    assert len(one) == len(other) == 3
    assert min((one @ one.T).min(), (other @ other.T).min()) > 0.65
    assert (one @ other.T).max() < 0.55


@pytest.fixture(scope="module")
def windows_of_conversation(own: PyannoteEngine) -> Callable[[str], list[DiarizedWindow]]:
    """The windows of a recording, which are computed once."""
    return cache(lambda name: windows_of(own, conversation(name)[0]))


@pytest.mark.parametrize("name", ["phone/sample", "phone/call_49", "mix/mix1_1001", "mix/mix3_1003"])
def test_the_windows_of_a_recording_have_as_many_voices_as_the_recording(
    own: PyannoteEngine, windows_of_conversation: Callable[[str], list[DiarizedWindow]], name: str
) -> None:
    audio, _ = conversation(name)

    windows = windows_of_conversation(name)

    speakers = cluster_voices(own, [piece for window in windows for piece in window.pieces])
    assert len(set(speakers)) == len(diarize(own, audio).speakers)


def test_each_voice_in_the_windows_of_a_recording_is_that_of_one_person(
    own: PyannoteEngine, windows_of_conversation: Callable[[str], list[DiarizedWindow]]
) -> None:
    audio, truth = conversation("mix/mix3_1003")
    windows = windows_of_conversation("mix/mix3_1003")
    pieces = [(10 * number, piece) for number, window in enumerate(windows) for piece in window.pieces]

    speakers = cluster_voices(own, [piece for _, piece in pieces])

    turns = [
        Turn(start + piece.start, start + piece.end, str(speaker))
        for (start, piece), speaker in zip(pieces, speakers, strict=True)
        if not piece.part
    ]
    found = Diarization(tuple(turns), (), audio.duration, "")
    assert {owner(Speaker(str(speaker)), found, truth) for speaker in speakers} == {turn.speaker for turn in truth}
    assert error_rate(truth, turns) < 0.2


def test_the_windows_of_a_clipped_call_have_two_voices(own: PyannoteEngine) -> None:
    """Clipping makes voices similar."""
    windows = windows_of(own, Audio(decode(awkward("clipped.flac"))))

    assert len(set(cluster_voices(own, [piece for window in windows for piece in window.pieces]))) == 2


@pytest.mark.parametrize("asked", [WindowToDiarize(), VoicesToCluster(())], ids=["window", "voices"])
def test_a_pretrained_pipeline_refuses_live_audio_and_says_what_to_do(
    pretrained: PretrainedPipelineEngine, call: Audio, asked: WindowToDiarize | VoicesToCluster
) -> None:
    work = pretrained.infer(call, asked)  # the engine's loop expects no error here

    with pytest.raises(PreconditionFailed, match="CARECA_PIPELINE") as refusal:
        complete(work)

    assert refusal.value.reason == "LIVE_NOT_SUPPORTED"


# Weights and devices


def test_the_model_id_names_the_weights_and_every_setting_that_changes_results() -> None:
    ids = {
        own_engine(**settings).model
        for settings in (
            {},
            {"segmentation_step_seconds": 1.0},
            {"max_speakers": 12},
            {"same_voice_similarity": 0.5},
        )
    }

    assert len(ids) == 4
    assert all("segmentation-3.0@da85c29829d4+campplus-zh-en@92f29b94e694" in model for model in ids)
    assert own_engine(threads=3, segmentation_batch_size=4).model == own_engine().model


def test_missing_weights_are_reported_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    engine = PyannoteEngine(DiarizerSettings(device="cpu"), ModelStore(tmp_path))

    with pytest.raises(PreconditionFailed, match=r"careca models pull segmentation-3\.0"):
        engine.load()


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    for name in MODELS:
        shutil.copytree(model_folder(name), tmp_path / name)
    weights = tmp_path / "campplus-zh-en" / "campplus_cn_en_common.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    with pytest.raises(PreconditionFailed, match="SHA-256"):
        PyannoteEngine(DiarizerSettings(device="cpu"), ModelStore(tmp_path)).load()


def test_a_missing_gpu_is_reported() -> None:
    engine = own_engine(device="cuda", device_index=7)

    assert engine.device == "cuda:7"
    with pytest.raises(PreconditionFailed, match="cuda:7"):
        engine.load()


def test_an_inference_before_loading_is_refused(call: Audio) -> None:
    with pytest.raises(PreconditionFailed):
        diarize(own_engine(), call)


def test_the_id_of_a_pretrained_pipeline_depends_on_its_files(pipeline_folder: Path, tmp_path: Path) -> None:
    def model(folder: Path) -> str:
        return PretrainedPipelineEngine(DiarizerSettings(pipeline=str(folder)), ModelStore(tmp_path)).model

    copy = shutil.copytree(pipeline_folder, tmp_path / "a-pipeline")
    assert model(copy) == model(pipeline_folder)

    (copy / "config.yaml").write_text("{}")
    assert model(copy) != model(pipeline_folder)


def test_a_folder_that_is_not_a_pipeline_is_refused(tmp_path: Path) -> None:
    engine = PretrainedPipelineEngine(DiarizerSettings(device="cpu", pipeline=str(tmp_path)), ModelStore(tmp_path))

    with pytest.raises(PreconditionFailed, match=r"config\.yaml"):
        engine.load()


def test_a_missing_pipeline_is_refused_when_it_is_selected(tmp_path: Path) -> None:
    for name, refusal in (("pyannote/not-pulled", PreconditionFailed), ("no such pipeline", NotFound)):
        with pytest.raises(refusal, match=name):
            PretrainedPipelineEngine(DiarizerSettings(pipeline=name), ModelStore(tmp_path))


def test_telemetry_is_off_once_pyannote_is_imported(own: PyannoteEngine) -> None:
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    assert own.loaded
    assert not is_metrics_enabled()


def test_what_is_prepared_changes_nothing(own: PyannoteEngine) -> None:
    whole, prepared = phone_call(), PreparedResults()
    for seconds in (12, 20, 27):
        beginning = Audio(whole.samples[: seconds * SAMPLE_RATE])
        complete(with_prepared(own.infer(beginning, DEFAULTS), prepared, keep=True))
    kept = len(prepared)

    found = complete(with_prepared(own.infer(whole, DEFAULTS), prepared, keep=False))

    assert found == complete(own.infer(whole, DEFAULTS))
    assert len(prepared) < kept / 2

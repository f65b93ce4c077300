"""The contract of every transcriber engine (fake, Whisper), and tests of Whisper."""

import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from bench.common.audio import decode
from careca.errors import InvalidRequest, NotFound, PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.models import ModelStore
from careca.resources.memory import MemoryCleaner
from careca.types import SAMPLE_RATE, GpuMemory, Progress, Segment, Stage, TranscriptionOptions
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine
from support.fakes import FakeTranscriberEngine
from support.labelled import labelled
from support.whisper import whisper

ENGLISH = TranscriptionOptions(language="en")
DEFAULTS = TranscriptionOptions()


@pytest.fixture(params=["fake", "whisper"])
def engine(request):
    """A loaded engine; it is unloaded after the test."""
    engine = FakeTranscriberEngine() if request.param == "fake" else request.getfixturevalue("tiny")
    engine.load()
    yield engine
    engine.load()


@pytest.fixture(scope="session")
def talk(call):
    """14 s of the call, from the first sound of "Hello?" to the last of "Chicago also"."""
    return Audio(call.samples[round(6.6 * SAMPLE_RATE) : round(20.2 * SAMPLE_RATE)])


class Heard:
    """Runs one transcription and records its events."""

    def __init__(self, engine, audio, options=ENGLISH):
        self.events = []
        self.transcript = complete(engine.infer(audio, options), self.events.append)
        self.segments = self.transcript.segments
        self.words = [word for segment in self.segments for word in segment.words]
        self.text = " ".join(segment.text for segment in self.segments)


@pytest.fixture(scope="session")
def heard(call):
    """An engine's result for the call, computed once; another test checks that it is deterministic."""
    return cache(lambda engine: Heard(engine, call))


def word_starts(words):
    """The last time of each word."""
    return {word.text.strip(".,?!").lower(): word.start for word in words}


def silence(seconds):
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.int16)


def joined(*parts):
    return Audio(np.concatenate([getattr(part, "samples", part) for part in parts]))


# What every engine promises


def test_the_model_and_the_device_are_known_before_anything_is_loaded():
    for engine in (FakeTranscriberEngine(), whisper("whisper-tiny.en")):
        assert engine.model
        assert engine.device == "cpu"
        assert not engine.loaded


def test_loading_and_unloading_twice_is_the_same_as_once(engine):
    engine.load()
    assert engine.loaded

    engine.unload()
    engine.unload()
    assert not engine.loaded

    engine.load()
    assert engine.loaded


def test_the_emitted_segments_are_those_of_the_transcript_in_order(engine, call, heard):
    once = heard(engine)

    assert once.segments
    assert tuple(event for event in once.events if isinstance(event, Segment)) == once.segments
    assert once.transcript.duration == call.duration
    assert once.transcript.model == engine.model
    assert once.transcript.language == "en"


def test_progress_never_decreases_and_ends_at_one(engine, heard):
    progress = [event for event in heard(engine).events if isinstance(event, Progress)]

    fractions = [event.fraction for event in progress]
    assert fractions
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert all(event.stage is Stage.TRANSCRIBE for event in progress)


def test_words_are_stripped_and_their_times_are_in_order_within_the_audio(engine, call, heard):
    once = heard(engine)

    assert once.words
    assert all(word.text == word.text.strip() != "" for word in once.words)
    edges = [edge for word in once.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= call.duration
    assert all(0 <= word.probability <= 1 for word in once.words)
    assert all(segment.start == segment.words[0].start for segment in once.segments)
    assert all(segment.end == segment.words[-1].end for segment in once.segments)


def test_the_same_audio_gives_the_same_transcript_also_after_unloading(engine, call, heard):
    before = heard(engine).transcript

    engine.unload()
    engine.load()

    assert Heard(engine, call).transcript == before


def test_work_that_is_closed_between_two_batches_ends_and_the_next_one_works(engine, talk):
    work = engine.infer(talk, ENGLISH)
    assert isinstance(next(work), Batch)

    work.close()

    assert Heard(engine, talk).segments


def test_without_a_gpu_no_gpu_memory_is_held(engine):
    engine.release_gpu_cache()

    assert engine.gpu_memory() == GpuMemory()


# What Whisper hears


def test_the_call_is_transcribed_with_its_names(tiny, base, heard):
    for engine in (tiny, base):
        text = heard(engine).text
        assert "New Jersey" in text
        assert "Texas" in text
        assert "Chicago" in text


def test_segments_are_those_of_whisper_and_not_blocks_of_thirty_seconds(exact, heard):
    segments = heard(exact("whisper-base")).segments

    assert len(segments) >= 4
    assert max(segment.end - segment.start for segment in segments) < 15


def test_words_have_the_time_at_which_they_are_said(tiny, heard):
    """The times match the wheel's annotation to half a second."""
    starts = word_starts(heard(tiny).words)

    assert starts["texas"] == pytest.approx(15.5, abs=1.0)
    assert starts["yankee"] == pytest.approx(26.5, abs=1.0)


def test_silence_before_and_between_moves_words_by_its_length(tiny, call, heard):
    plain = word_starts(heard(tiny).words)

    words = Heard(tiny, joined(silence(95), call, silence(130), call, silence(40))).words

    assert not [word for word in words if not (95 < word.start < 125 or 255 < word.start < 285)]
    for offset in (95, 255):
        moved = word_starts(word for word in words if offset < word.start < offset + 30)
        for name in ("texas", "difference", "yankee"):
            assert moved[name] - offset == pytest.approx(plain[name], abs=0.25)


def test_the_first_and_the_last_word_are_found_if_speech_fills_the_audio(exact, talk):
    words = Heard(exact("whisper-tiny.en"), talk).words

    assert words[0].text.lower().startswith("hello")
    assert words[-1].text.lower().startswith("also")


@pytest.fixture(scope="session")
def two_minutes(tiny, call):
    return Heard(tiny, joined(*[call] * 4))


def test_no_speech_of_a_long_recording_is_lost(two_minutes):
    assert two_minutes.text.count("New Jersey") >= 7
    assert two_minutes.text.count("Yankee") == 4


def test_segments_of_a_long_recording_are_emitted_before_its_end_is_read(two_minutes):
    kinds = ["segment" if isinstance(event, Segment) else "progress" for event in two_minutes.events]

    assert len([kind for kind, _ in itertools.groupby(kinds) if kind == "segment"]) >= 2


def noise(level):
    return np.random.default_rng(0).normal(0, level, 35 * SAMPLE_RATE).astype(np.int16)


def tones(*hertz, seconds=35):
    time = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    return sum(np.sin(2 * np.pi * frequency * time) * 4000 for frequency in hertz).astype(np.int16)


def melody():
    """Plucked notes with overtones, four per second."""
    time = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    notes = np.random.default_rng(1).choice([262, 294, 330, 349, 392, 440, 494], 140)
    pluck = [np.exp(-6 * time) * sum(np.sin(2 * np.pi * note * k * time) / k for k in range(1, 6)) for note in notes]
    return (np.concatenate(pluck) * 6000).astype(np.int16)


def clicks():
    samples = silence(35)
    samples[::8000] = 30_000
    return samples


SOUNDS_WITHOUT_SPEECH = {
    "digital silence": silence(35),
    "faint noise": noise(3),
    "noise": noise(300),
    "loud noise": noise(3000),
    "a tone": tones(440),
    "a chord": tones(262, 330, 392, 523),
    "mains hum": tones(50, 150),
    "a melody": melody(),
    "clicks": clicks(),
    "a constant offset": np.full(35 * SAMPLE_RATE, 15_000, np.int16),
}


@pytest.mark.parametrize("sound", SOUNDS_WITHOUT_SPEECH)
def test_no_words_are_invented(tiny, base, sound):
    for engine in (tiny, base):
        heard = Heard(engine, Audio(SOUNDS_WITHOUT_SPEECH[sound]), DEFAULTS)

        assert heard.segments == ()
        assert heard.transcript.language == ""
        assert heard.transcript.language_probability == 0


@pytest.mark.parametrize("samples", [0, 1, 2, 159, 160, 161, 511, 512, 4000, 15_999])
def test_very_short_audio_does_not_fail(tiny, call, samples):
    start = round(8.9 * SAMPLE_RATE)
    audio = Audio(call.samples[start : start + samples])

    heard = Heard(tiny, audio)

    assert heard.transcript.duration == audio.duration
    assert all(0 <= word.start <= word.end <= audio.duration for word in heard.words)


def test_a_word_in_less_than_a_second_of_audio_is_found(base, call):
    heard = Heard(base, Audio(call.samples[round(6.6 * SAMPLE_RATE) : round(7.3 * SAMPLE_RATE)]))

    assert heard.text.lower().startswith("hello")


def test_quiet_speech_is_transcribed_like_loud_speech(tiny, talk):
    quiet = Audio((talk.samples // 24).astype(np.int16))

    text = Heard(tiny, quiet).text

    assert "New Jersey" in text
    assert "Texas" in text


# What Whisper can be asked for


def test_the_language_is_detected_with_its_probability_and_one_language_is_never_divided(base, call):
    heard = Heard(base, call, DEFAULTS)

    assert {segment.language for segment in heard.segments} == {heard.transcript.language} == {"en"}
    assert 0.8 < heard.transcript.language_probability <= 1


def test_a_language_other_than_english_is_detected_with_its_probability(base):
    """test_languages_of_a_recording.py has more languages."""
    transcript = Heard(base, Audio(decode(labelled("fleurs/fleurs-es-002.ogg"))), DEFAULTS).transcript

    assert transcript.language == "es"
    assert transcript.language_probability > 0.8


def test_spanish_is_translated_to_english(base):
    spanish = Audio(decode(labelled("fleurs/fleurs-es-000.ogg")))

    translated = Heard(base, spanish, TranscriptionOptions(language="es", translate=True))

    assert translated.transcript.language == "es"
    assert {"the", "of"} & set(translated.text.lower().split())
    assert not {"de", "la", "el"} & set(translated.text.lower().split())


def test_neither_party_of_a_telephone_call_is_lost(tiny):
    """Every turn of two seconds or more has words, although one of the two speakers is hard to hear.

    Takes more than ten seconds: which turns are lost depends on the whole call of four minutes.
    """
    turns = [line.split() for line in labelled("phone/call_40.rttm").read_text().splitlines()]
    words = Heard(tiny, Audio(decode(labelled("phone/call_40.flac")))).words

    spans = [(float(turn[3]), float(turn[3]) + float(turn[4])) for turn in turns if float(turn[4]) >= 2]

    assert len(spans) > 20
    assert [span for span in spans if not any(span[0] < word.end and word.start < span[1] for word in words)] == []


def test_a_chosen_language_is_certain(base, heard):
    assert heard(base).transcript.language_probability == 1


def test_an_english_only_model_uses_english_by_default(tiny, talk):
    transcript = Heard(tiny, talk, DEFAULTS).transcript

    assert (transcript.language, transcript.language_probability) == ("en", 1)


def test_a_language_that_the_model_does_not_know_is_refused(tiny, base, call):
    for engine, language in ((tiny, "es"), (base, "xx"), (base, "yue")):
        with pytest.raises(InvalidRequest, match=language) as refusal:
            Heard(engine, call, TranscriptionOptions(language=language))
        assert refusal.value.field == "config.options.language_code"
        assert refusal.value.reason == "LANGUAGE_NOT_SUPPORTED"


def test_an_english_only_model_refuses_to_translate(tiny, call):
    with pytest.raises(InvalidRequest, match="translate") as refusal:
        Heard(tiny, call, TranscriptionOptions(translate=True))
    assert refusal.value.field == "config.options.translate"


def test_english_translated_to_english_is_english(base, talk):
    assert "New Jersey" in Heard(base, talk, TranscriptionOptions(language="en", translate=True)).text


def test_hotwords_influence_the_spelling(base, call, heard):
    assert "Sheilah" not in heard(base).text

    assert "Sheilah" in Heard(base, call, TranscriptionOptions(language="en", hotwords=("Sheilah", "Diane"))).text


def test_too_many_hotwords_and_a_long_prompt_are_cut_without_an_error(tiny, talk):
    options = TranscriptionOptions(
        language="en", hotwords=tuple(f"Hotword{i} von Hotwordington" for i in range(100)), initial_prompt="word " * 200
    )

    assert Heard(tiny, talk, options).transcript.duration == talk.duration


def test_any_beam_size_is_accepted(tiny, talk):
    for beam_size in (1, 20):
        assert "Texas" in Heard(tiny, talk, TranscriptionOptions(language="en", beam_size=beam_size)).text


# Whisper's model and device


def test_the_model_id_contains_everything_that_changes_transcripts():
    plain = whisper("whisper-tiny.en").model
    others = {
        whisper("whisper-tiny.en", whisper_compute_type="float32").model,
        whisper("whisper-tiny.en", speech_threshold=0.5).model,
        whisper("whisper-tiny.en", whisper_short_windows=True).model,
        whisper("whisper-base").model,
    }

    assert plain.startswith("whisper-tiny.en@1a5afae06a4d/int8/")
    assert len(others - {plain}) == 4


def test_short_windows_find_the_same_conversation(call, heard, tiny):
    short = Heard(whisper("whisper-tiny.en", whisper_short_windows=True), call)

    names = {"diane", "sheila", "chicago"}
    assert {word.text.strip(".,?").lower() for word in short.words} >= names
    assert short.transcript.segments != heard(tiny).transcript.segments  # the windows are others


def test_an_unknown_model_is_reported_at_once(tmp_path):
    with pytest.raises(NotFound, match="no-such-model"):
        WhisperEngine(TranscriberSettings(whisper_model="no-such-model", models_dir=tmp_path), ModelStore(tmp_path))


def test_missing_weights_are_reported_at_loading_with_the_command_that_fetches_them(tmp_path):
    engine = WhisperEngine(TranscriberSettings(models_dir=tmp_path), ModelStore(tmp_path))

    with pytest.raises(PreconditionFailed, match="careca models pull whisper-base"):
        engine.load()

    assert not engine.loaded


def test_damaged_weights_are_refused(tmp_path):
    whole = ModelStore(whisper("whisper-tiny.en")._settings.models_dir).path("whisper-tiny.en")
    shutil.copytree(whole, tmp_path / "whisper-tiny.en")
    (tmp_path / "whisper-tiny.en" / "config.json").write_text(json.dumps({}))
    settings = TranscriberSettings(whisper_model="whisper-tiny.en", models_dir=tmp_path)

    with pytest.raises(PreconditionFailed, match=r"config\.json"):
        WhisperEngine(settings, ModelStore(tmp_path)).load()


def test_a_local_folder_can_be_used_as_a_model(talk):
    settings = TranscriberSettings()
    whisper("whisper-tiny.en")
    folder = settings.models_dir / "whisper-tiny.en"

    engine = WhisperEngine(
        TranscriberSettings(whisper_model=str(folder), device="cpu"), ModelStore(settings.models_dir)
    )

    assert engine.model.startswith("whisper-tiny.en@1a5afae06a4d/")
    assert "Texas" in Heard(engine, talk).text


def test_an_unsupported_compute_type_is_refused_with_the_supported_ones():
    engine = whisper("whisper-tiny.en", whisper_compute_type="float16")

    with pytest.raises(PreconditionFailed, match=r"float16.*float32"):
        engine.load()


def test_a_missing_gpu_is_reported():
    engine = whisper("whisper-tiny.en")
    settings = engine._settings.model_copy(update={"device": "cuda", "device_index": 31})
    engine = WhisperEngine(settings, ModelStore(settings.models_dir))

    assert engine.device == "cuda:31"
    with pytest.raises(PreconditionFailed, match="cuda:31"):
        engine.load()


def test_two_inferences_at_the_same_time_give_the_same_results_as_separately(talk):
    engine = whisper("whisper-tiny.en", threads=2)
    engine.load()
    other = Audio(talk.samples[: 10 * SAMPLE_RATE])
    alone = [Heard(engine, audio).transcript for audio in (talk, other)]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda audio: Heard(engine, audio).transcript, (talk, other)))

    assert together == alone


def test_unloading_releases_the_memory_of_the_weights(talk):
    engine = whisper("whisper-base")
    cleaner = MemoryCleaner(engine)
    engine.load()
    Heard(engine, talk)
    cleaner.clean_up()

    release = cleaner.release()

    assert release.models_unloaded
    assert release.before.rss_bytes - release.after.rss_bytes > 60e6


def test_torch_is_never_imported():
    whisper("whisper-tiny.en")
    program = """
import sys
import av
import numpy as np
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.models import ModelStore
from careca.types import TranscriptionOptions
from careca_transcriber import __main__
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine
settings = TranscriberSettings(whisper_model="whisper-tiny.en", device="cpu")
engine = WhisperEngine(settings, ModelStore(settings.models_dir))
engine.load()
complete(engine.infer(Audio(np.zeros(99, np.int16)), TranscriptionOptions()))
sys.exit([name for name in sys.modules if name.split(".")[0] in ("torch", "torchaudio", "transformers")] or 0)
"""

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

"""Recordings that are too quiet for 16 bits are amplified by a constant gain; all others decode unchanged."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import ChannelMode, DiarizationOptions
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.request import AudioSelection
from support.calls import phone_call
from support.decoding import LIMITS, Bench, likeness
from support.labelled import awkward, labelled
from support.media import encoded, recording, tone, wav
from support.weights import model_store

RATE = 16_000
CALL = phone_call().samples / 32_768

rng = np.random.default_rng(5)


def quieter(decibels: float) -> np.ndarray:
    """The call, attenuated."""
    sound: np.ndarray = CALL * 10 ** (-decibels / 20)
    return sound


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("container", "codec", "decibels", "like"),
    [
        ("flac", "flac", 45, 0.9999),
        ("flac", "flac", 60, 0.9999),
        ("flac", "flac", 66, 0.9999),
        ("wav", "pcm_s24le", 66, 0.9999),
        ("wav", "pcm_f32le", 66, 0.9999),
        ("matroska", "wavpack", 66, 0.9999),
        ("mp4", "aac", 45, 0.95),
        ("mp4", "aac", 66, 0.95),
        ("mp3", "libmp3lame", 66, 0.95),
    ],
)
async def test_sound_below_16_bits_is_kept(
    bench: Bench, container: str, codec: str, decibels: float, like: float
) -> None:
    data = encoded(container, codec, quieter(decibels), bit_rate=96_000 if like < 0.99 else None)

    samples, (notice,) = await bench.samples_and_notices(data)

    assert likeness(samples, CALL) > like
    assert 3_000 < np.abs(samples).max() < 32_767
    assert notice.code == "VERY_QUIET"
    assert "it was raised by" in notice.message


async def test_the_gain_is_constant_in_whole_bits_and_is_noticed(bench: Bench) -> None:
    values = np.round(quieter(60) * 2**23)  # 24 bits

    samples, (notice,) = await bench.samples_and_notices(encoded("wav", "pcm_s24le", values / 2**23))

    gain = 2 ** round(np.log2(np.abs(samples).max() / np.abs(values).max() * 256))
    assert np.abs(samples - values / 256 * gain).max() <= 0.5
    assert f"raised by {20 * np.log10(gain):.0f} dB" in notice.message


async def test_the_digest_is_of_the_amplified_audio(bench: Bench) -> None:
    original = await bench.digest(encoded("flac", "flac", CALL))
    quiet, other = [await bench.digest(encoded("flac", "flac", quieter(decibels))) for decibels in (60, 66)]

    assert len({original, await bench.digest(encoded("wav", "pcm_s24le", quieter(60))), quiet}) == 2
    assert other != quiet


async def test_separate_channels_are_amplified_equally(bench: Bench) -> None:
    data = encoded("flac", "flac", np.stack([CALL / 1000, np.roll(CALL, 5 * RATE) / 4000], axis=1))

    first, second = await bench.audios(data, LIMITS, AudioSelection(ChannelMode.SEPARATE))

    assert 8_000 < np.abs(first).max() < 17_000
    assert np.abs(first).max() / np.abs(second).max() == pytest.approx(4, rel=0.02)


async def test_a_click_in_a_quiet_recording_does_not_keep_it_quiet(bench: Bench) -> None:
    sound = quieter(60)
    sound[RATE : RATE + 200] = 0.9

    samples = await bench.samples(encoded("flac", "flac", sound))

    assert likeness(samples[2 * RATE :], CALL[2 * RATE :]) > 0.999
    assert np.abs(samples[2 * RATE :]).max() > 3_000


async def test_a_word_in_a_quiet_recording_is_not_distorted(bench: Bench) -> None:
    """One voice is near the microphone and others are far. Nothing is amplified, because it would clip."""
    sound = quieter(60)
    sound[RATE : RATE + RATE // 2] = CALL[8 * RATE : 8 * RATE + RATE // 2]

    assert await bench.codes(encoded("flac", "flac", sound)) == []


async def test_noise_is_not_amplified(bench: Bench) -> None:
    noise = rng.normal(0, 0.3 / 32_768, 5 * RATE)

    assert await bench.codes(encoded("flac", "flac", noise)) == ["SILENT"]
    assert np.abs(await bench.samples(encoded("flac", "flac", noise))).max() <= 2


async def test_progress_does_not_decrease_if_a_recording_is_decoded_twice(bench: Bench) -> None:
    data = encoded("mp4", "aac", np.tile(quieter(60), 12), bit_rate=48_000)

    await bench.digest(data, replace(LIMITS, max_audio_seconds=1e6))

    assert bench.progress == sorted(bench.progress)
    assert not bench.progress or bench.progress[-1] <= 1


# What is loud enough decodes to what it always did: what FFmpeg's resampler makes of it, with nothing done to it.


def plainly(data: bytes) -> str:
    """Returns the SHA-256 of what FFmpeg decodes from the first track."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(io.BytesIO(data)) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        frames = [resampled for frame in container.decode(audio=0) for resampled in resampler.resample(frame)]
    frames += resampler.resample(None)
    return hashlib.sha256(b"".join(frame.to_ndarray().tobytes() for frame in frames)).hexdigest()


@pytest.mark.parametrize(
    "make",
    [
        lambda: wav(phone_call().samples[:, None]),
        lambda: wav(phone_call().samples[:, None] // 400),
        lambda: wav(tone(2.0, 44_100, channels=2, hertz=(440, 880)), 44_100),
        lambda: recording("flac", "flac", 2.0, rate=96_000, channels=2),
        lambda: recording("wav", "pcm_mulaw", 2.0, rate=8_000),
        lambda: recording("mp4", "aac", 2.0, rate=48_000),
        lambda: recording("ogg", "libopus", 2.0, rate=48_000),
        lambda: encoded("wav", "pcm_s24le", CALL),
        lambda: encoded("wav", "pcm_f32le", CALL),
        lambda: encoded("flac", "flac", quieter(30)),
        lambda: encoded("mp4", "aac", quieter(30)),
    ],
    ids=["call", "quiet 16 bits", "stereo", "flac", "mu-law", "aac", "opus", "24 bits", "float", "30 dB", "aac 30 dB"],
)
async def test_ordinary_recordings_decode_unchanged(bench: Bench, make: Callable[[], bytes]) -> None:
    data = make()

    assert (await bench.digest(data)).sha256 == plainly(data)


async def test_labelled_recordings_decode_unchanged(bench: Bench) -> None:
    for name in ("phone/sample.flac", "phone/call_49.flac", "fleurs/fleurs-pt-000.ogg", "ami/EN2001d_0000-0030.flac"):
        path = labelled(name)

        decoded = await bench.decode(path)

        assert [digest.sha256 for digest in decoded.audio] == [plainly(path.read_bytes())]
        assert decoded.notices == ()


# The real diarizer


@pytest.fixture(scope="module")
def diarizer() -> PyannoteEngine:
    engine = PyannoteEngine(
        DiarizerSettings.model_validate({"device": "cpu"}), model_store("segmentation-3.0", "campplus-zh-en")
    )
    engine.load()
    return engine


def speakers(diarizer: PyannoteEngine, samples: np.ndarray) -> int:
    """Returns the number of speakers that the diarizer finds."""
    heard = complete(diarizer.infer(Audio(samples.astype(np.int16)), DiarizationOptions()))
    return len({turn.speaker for turn in heard.turns})


async def test_two_speakers_are_found_in_a_call_that_is_60_db_too_quiet(bench: Bench, diarizer: PyannoteEngine) -> None:
    """May take more than ten seconds: it loads the real diarizer."""
    samples = await bench.samples(awkward("quiet_60db_24bit.flac"))

    assert likeness(samples, CALL) > 0.9999
    assert speakers(diarizer, samples) == 2

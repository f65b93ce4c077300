"""The decoder's notices: truncated, damaged, clipped, very quiet and silent recordings."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from careca.types import ChannelMode, NoticeCode
from careca_gateway.decoding import notices
from careca_gateway.request import AudioSelection
from support.calls import phone_call
from support.decoding import Bench
from support.labelled import awkward, labelled
from support.media import Pipe, encoded, recording, tone, wav

RATE = 16_000
SEPARATE = AudioSelection(ChannelMode.SEPARATE)

rng = np.random.default_rng(11)
NOISE = np.clip(rng.normal(0, 0.1, 30 * RATE), -1, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_decoder_s_codes_are_those_of_all_notices() -> None:
    codes = {value for name, value in vars(notices).items() if name.isupper() and not name.startswith("_")}

    assert {code for code in codes if isinstance(code, str)} <= set(NoticeCode)


# The recording ends before its container says

WITH_A_LENGTH = [
    ("flac", "flac"),
    ("matroska", "aac"),
    ("matroska", "flac"),
    ("matroska", "wavpack"),
    ("webm", "libopus"),
    ("wav", "pcm_s16le"),
    ("wav", "pcm_mulaw"),
    ("wav", "adpcm_ima_wav"),
    ("aiff", "pcm_s16be"),
    ("au", "pcm_s16be"),
    ("wv", "wavpack"),
    ("tta", "tta"),
    ("flv", "aac"),
    ("avi", "libmp3lame"),
    ("mp3", "libmp3lame"),
    ("mp4", "aac"),
    ("mov", "pcm_s16le"),
    ("mov", "alac"),
]
OTHERS = [
    *[("adts", "aac"), ("ac3", "ac3"), ("amr", "libopencore_amrnb"), ("asf", "wmav2"), ("caf", "alac")],
    *[("mp2", "mp2"), ("mpeg", "mp2"), ("mpegts", "aac"), ("nut", "aac"), ("ogg", "flac"), ("ogg", "libopus")],
    *[("rm", "ac3"), ("voc", "pcm_u8"), ("w64", "pcm_s16le")],
]


def made(container: str, codec: str, seconds: float = 20.0) -> bytes:
    """Noise, in files whose index comes first."""
    rates = {"libopus": 48_000, "ac3": 48_000, "libopencore_amrnb": 8_000, "wmav2": 44_100}
    rate = 44_100 if container == "flv" else rates.get(codec, RATE)
    sound = at_rate(NOISE[: round(seconds * RATE)], rate)
    bit_rate = 12_200 if codec == "libopencore_amrnb" else 64_000
    if container not in ("mp4", "mov"):
        return encoded(container, codec, sound, rate=rate, bit_rate=bit_rate)
    with TemporaryDirectory() as folder:  # FFmpeg reads it again to put the index first
        path = Path(folder) / "recording"
        return encoded(container, codec, sound, rate=rate, options={"movflags": "faststart"}, file=path)


def at_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resamples from 16 kHz to another rate."""
    seconds = len(samples) / RATE
    return np.interp(np.arange(round(seconds * rate)) / rate, np.arange(len(samples)) / RATE, samples)


@pytest.mark.parametrize(("container", "codec"), WITH_A_LENGTH)
async def test_a_truncated_recording_is_noticed_with_its_missing_seconds(
    bench: Bench, container: str, codec: str
) -> None:
    data = made(container, codec)

    samples, (notice,) = await bench.samples_and_notices(data[: len(data) * 2 // 5])

    assert notice.code == "TRUNCATED"
    assert notice.start == pytest.approx(len(samples) / RATE, abs=0.05)
    assert notice.end == pytest.approx(20.0, abs=0.6)
    assert f"the last {20.0 - len(samples) / RATE:.0f}"[:-1] in notice.message


@pytest.mark.parametrize("codec", ["libopus", "flac"])
async def test_a_truncated_ogg_file_is_noticed_without_a_length(bench: Bench, codec: str) -> None:
    data = made("ogg", codec)

    (notice,) = await bench.notices(data[: len(data) // 2])

    assert notice.code == "TRUNCATED"
    assert "nothing says how much" in notice.message


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
async def test_a_truncated_recording_is_noticed_at_any_length(bench: Bench, share: float) -> None:
    data = made("flac", "flac")

    (notice,) = await bench.notices(data[: int(len(data) * share)])

    assert notice.start == pytest.approx(20.0 * share, abs=0.5)


async def test_a_truncated_video_is_noticed(bench: Bench) -> None:
    film = recording("matroska", "aac", 20.0, video=True)

    assert await bench.codes(film[: len(film) // 2]) == ["TRUNCATED"]
    assert await bench.codes(film) == []


@pytest.mark.parametrize(("container", "codec"), [*WITH_A_LENGTH, *OTHERS])
async def test_a_complete_recording_is_not_truncated(bench: Bench, container: str, codec: str) -> None:
    assert await bench.codes(made(container, codec, 9.7)) == []


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("wav", "pcm_s16le", {}),
        ("flac", "flac", {}),
        ("matroska", "libopus", {}),
        ("webm", "libopus", {"live": "1"}),
        ("flv", "aac", {}),
        ("mp3", "libmp3lame", {}),
        ("mp3", "libmp3lame", {"write_xing": "0"}),
        ("ogg", "libopus", {}),
        ("avi", "libmp3lame", {}),
        ("au", "pcm_s16be", {}),
        ("wv", "wavpack", {}),
        ("asf", "wmav2", {}),
        ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
        ("mp4", "aac", {"movflags": "cmaf+dash", "frag_duration": "1000000"}),
    ],
)
async def test_a_complete_recording_from_a_pipe_is_not_truncated(
    bench: Bench, container: str, codec: str, options: dict[str, str]
) -> None:
    rate = 48_000 if codec == "libopus" else 44_100
    sound = at_rate(NOISE[: int(9.7 * RATE)], rate)

    data = encoded(container, codec, sound, rate=rate, options=options, bit_rate=64_000, file=Pipe())

    assert await bench.codes(data) == []


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0x8000_0024, 0xFFFF_FFFF, 0x7FFF_F024])
async def test_placeholder_lengths_are_ignored(bench: Bench, size: int) -> None:
    data = bytearray(wav(tone(5.0)))
    data[4:8] = size.to_bytes(4, "little")
    data[40:44] = max(size - 36, 0).to_bytes(4, "little")

    samples, notices = await bench.samples_and_notices(bytes(data))

    assert len(samples) == 5 * RATE
    assert notices == []


@pytest.mark.parametrize(("seconds", "codes"), [(0.9, []), (1.2, ["TRUNCATED"])])
async def test_less_than_a_missing_second_is_not_noticed(bench: Bench, seconds: float, codes: list[str]) -> None:
    data = wav(tone(10.0))

    assert await bench.codes(data[: -int(seconds * RATE * 2)]) == codes


async def test_a_vbr_mp3_without_a_header_frame_is_not_truncated(bench: Bench) -> None:
    """Its length is estimated from the first frames, and far too long if they are the smallest."""
    quiet, loud = np.zeros(5 * 44_100), np.clip(rng.normal(0, 0.3, 5 * 44_100), -1, 1)
    small, large = (
        encoded("mp3", "libmp3lame", sound, rate=44_100, bit_rate=rate, options={"write_xing": "0"})
        for sound, rate in ((quiet, 32_000), (loud, 320_000))
    )

    for data in (small + large, large + small):
        assert "TRUNCATED" not in await bench.codes(data)


async def test_a_video_whose_sound_ends_early_is_not_truncated(bench: Bench) -> None:
    for container, codec in (("matroska", "aac"), ("mp4", "aac"), ("matroska", "flac")):
        data = encoded(container, codec, NOISE[: 3 * RATE], NOISE[: 20 * RATE])

        assert await bench.codes(data, AudioSelection(audio_track=1)) == []


async def test_a_recording_trimmed_by_an_edit_list_is_not_truncated(bench: Bench) -> None:
    data = bytearray(recording("mp4", "aac", 10.0, rate=48_000))
    at = data.index(b"elst") + 12
    data[at : at + 4] = (5_000).to_bytes(4, "big")

    samples, notices = await bench.samples_and_notices(bytes(data))

    assert len(samples) / RATE == pytest.approx(5.0, abs=0.1)
    assert notices == []


# Damage


def damaged(data: bytes, *places: float, size: int = 3_000) -> bytes:
    """Returns ``data`` with random bytes at these relative positions."""
    changed = bytearray(data)
    for place in places:
        at = int(place * len(data))
        changed[at : at + size] = rng.bytes(size)
    return bytes(changed)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("flac", "flac"), ("matroska", "flac"), ("matroska", "aac"), ("ogg", "libopus"), ("mp4", "aac"), ("adts", "aac")],
)
async def test_damage_in_the_middle_is_noticed_with_its_place(bench: Bench, container: str, codec: str) -> None:
    (notice,) = await bench.notices(damaged(made(container, codec), 0.5))

    assert notice.code == "DAMAGED"
    assert notice.start == pytest.approx(10.0, abs=1.2)
    assert notice.start <= (notice.end or 0) < 16.0
    assert "00:00:" in notice.message


async def test_damage_in_many_places_is_one_notice_that_names_the_first_ones(bench: Bench) -> None:
    data = encoded("mp4", "aac", np.tile(NOISE, 8))

    (notice,) = await bench.notices(damaged(data, *(share / 10 for share in range(1, 10)), size=500))

    assert "damaged parts were skipped, at about 00:00:2" in notice.message
    assert notice.message.count("about") == 5
    assert notice.message.endswith("and later")
    assert notice.end - notice.start > 150  # type: ignore[operator]


async def test_damage_at_a_truncated_end_is_noticed_once(bench: Bench) -> None:
    data = made("mp4", "aac")

    assert await bench.codes(data[: len(data) // 2]) == ["TRUNCATED"]
    assert await bench.codes(damaged(data[: len(data) // 2], 0.5)) == ["DAMAGED", "TRUNCATED"]


# Clipping


def limited(sound: np.ndarray, gain: float) -> np.ndarray:
    """Returns ``sound`` amplified by a look-ahead limiter up to full scale, as in loud masters."""
    window = RATE // 200
    loud = np.abs(sound) * gain
    peaks = loud.copy()
    for shift in range(1, window + 1):
        np.maximum(peaks, np.maximum(np.roll(loud, shift), np.roll(loud, -shift)), out=peaks)
    smooth = np.convolve(1 / np.maximum(peaks, 1.0), np.hanning(window) / np.hanning(window).sum(), "same")
    return np.clip(sound * gain * smooth, -1, 1)


SPEECH = phone_call().samples.astype(np.float64)
SPEECH /= np.abs(SPEECH).max()


@pytest.mark.parametrize("gain", [1, 2, 4, 8])
async def test_normalized_and_limited_audio_is_not_clipped(bench: Bench, gain: float) -> None:
    sound = limited(SPEECH, gain) * 32_767 / 32_768
    for codec in ("flac", "pcm_s16le"):
        assert await bench.codes(encoded("matroska", codec, sound)) == []


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac", "pcm_s24le", "pcm_f32le"])
@pytest.mark.parametrize("gain", [4, 18])
async def test_clipping_is_noticed_with_its_share(bench: Bench, codec: str, gain: float) -> None:
    sound = np.clip(SPEECH * gain, -1, 32_767 / 32_768)
    share = np.mean(np.abs(sound) > 0.999)

    (notice,) = await bench.notices(encoded("matroska", codec, sound))

    assert (notice.code, notice.start) == ("CLIPPED", None)
    told = float(notice.message.split("%")[0].split()[-1]) / 100
    assert 0.3 * share < told <= share + 0.001


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("ogg", "libopus")])
async def test_heavy_clipping_before_lossy_encoding_is_noticed(bench: Bench, container: str, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else RATE
    sound = np.clip(at_rate(SPEECH, rate) * 18, -1, 1)

    assert await bench.codes(encoded(container, codec, sound, rate=rate, bit_rate=48_000)) == ["CLIPPED"]


async def test_one_clipped_channel_of_two_is_enough(bench: Bench) -> None:
    clipped, other = np.clip(SPEECH * 10, -1, 32_767 / 32_768), SPEECH[::-1] / 4
    data = encoded("flac", "flac", np.stack([other, clipped], axis=1), rate=RATE)

    assert await bench.codes(data) == ["CLIPPED"]
    assert await bench.codes(data, SEPARATE) == ["CLIPPED"]


async def test_a_thump_is_not_clipping(bench: Bench) -> None:
    sound = SPEECH.copy()
    sound[RATE : RATE + 800] = 1.0

    assert await bench.codes(encoded("flac", "flac", sound * 32_767 / 32_768)) == []


# Silence, and what is nearly silent


@pytest.mark.parametrize(
    "samples",
    [np.zeros((RATE, 1)), np.full((RATE, 1), 500), rng.integers(-2, 3, (RATE, 1))],
    ids=["0", "500", "dither"],
)
async def test_silence_is_noticed(bench: Bench, samples: np.ndarray) -> None:
    assert await bench.codes(wav(samples)) == ["SILENT"]


async def test_quiet_16_bit_audio_is_unchanged_and_noticed_with_its_bits(bench: Bench) -> None:
    samples = np.rint(SPEECH * 100)[:, None]

    decoded, (notice,) = await bench.samples_and_notices(wav(samples))

    assert np.array_equal(decoded, samples[:, 0])
    assert (notice.code, notice.start) == ("VERY_QUIET", None)
    assert "leaves 7 of 16 bits" in notice.message


async def test_a_recording_with_a_late_or_single_voice_is_not_quiet(bench: Bench) -> None:
    late = np.concatenate([SPEECH / 2000, SPEECH])

    assert await bench.codes(encoded("flac", "flac", late)) == []


# Recordings


@pytest.mark.parametrize(("name", "present"), [("truncated.mp4", 9.4), ("truncated.flac", 11.0)])
async def test_truncated_labelled_recordings_are_noticed(bench: Bench, name: str, present: float) -> None:
    (notice,) = await bench.notices(awkward(name))

    assert notice.code == "TRUNCATED"
    assert (notice.start, notice.end) == (pytest.approx(present, abs=0.05), pytest.approx(30.0, abs=0.05))


async def test_the_clipped_call_is_noticed_and_loud_calls_are_not(bench: Bench) -> None:
    assert await bench.codes(awkward("clipped.flac")) == ["CLIPPED"]
    for name in ("call_40", "call_49", "call_40_stereo"):
        assert await bench.codes(labelled(f"phone/{name}.flac")) == []

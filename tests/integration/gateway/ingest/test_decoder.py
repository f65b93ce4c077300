"""The decoder: real FFmpeg in its own process, with recordings of all kinds."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from careca.errors import InternalError, Overloaded
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, AudioTracks, ChannelMode
from careca_gateway.decoding import outputs, source
from careca_gateway.ingest import decoder as decode_module
from careca_gateway.ingest.decoder import MAX_CHANNELS, SELECTION_REASONS, Decoder
from careca_gateway.request import AudioSelection
from support.decoding import LIMITS, Bench, children
from support.media import endless_silence, recording, silent_film, tone, wav

RATE = 16_000
SEPARATE = AudioSelection(ChannelMode.SEPARATE)
BOMB = endless_silence(hours=20)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def pitch(samples: np.ndarray) -> tuple[int, float]:
    """Returns the strongest frequency of one second, in Hz, and the relative strength of the next one far from it."""
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    strongest = int(np.argmax(spectrum))
    strength = spectrum[strongest]
    spectrum[max(0, strongest - 50) : strongest + 50] = 0
    return strongest, float(spectrum.max() / strength)


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0


async def test_a_wav_of_the_right_format_is_unchanged(bench: Bench) -> None:
    samples = tone(2.0)

    assert np.array_equal(await bench.samples(wav(samples)), samples[:, 0])


@pytest.mark.parametrize(
    ("container", "codec", "rate", "channels"),
    [
        ("mp3", "libmp3lame", 44_100, 2),
        ("adts", "aac", 44_100, 2),
        ("mp4", "aac", 48_000, 1),
        ("ogg", "libopus", 48_000, 2),
        ("webm", "libopus", 48_000, 1),
        ("matroska", "flac", 16_000, 1),
        ("flac", "flac", 96_000, 2),
        ("wav", "pcm_mulaw", 8_000, 1),
        ("aiff", "pcm_s16be", 22_050, 2),
        ("mpegts", "mp2", 48_000, 2),
        ("avi", "libmp3lame", 44_100, 1),
        ("mov", "alac", 44_100, 2),
    ],
)
async def test_any_container_and_codec_decodes_with_its_length_and_sound(
    bench: Bench, container: str, codec: str, rate: int, channels: int
) -> None:
    samples = await bench.samples(recording(container, codec, 3.0, rate=rate, channels=channels))

    assert len(samples) / RATE == pytest.approx(3.0, abs=0.1)
    middle = samples[RATE : 2 * RATE]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)
    assert loudness(middle) == pytest.approx(12_000 / 2**0.5, rel=0.15)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 12])
async def test_all_channels_are_mixed_into_one_without_clipping(bench: Bench, channels: int) -> None:
    samples = await bench.samples(wav(tone(1.0, 44_100, channels=channels), 44_100))

    assert len(samples) == RATE
    assert 4_000 < loudness(samples) < 9_500
    assert np.abs(samples).max() < 32_000


async def test_separate_channels_are_unchanged(bench: Bench) -> None:
    samples = tone(2.0, channels=2, hertz=(440, 880))

    first, second = await bench.channels(wav(samples))

    assert np.array_equal(first, samples[:, 0])
    assert np.array_equal(second, samples[:, 1])


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("flac", "flac", 44_100),
        ("mp3", "libmp3lame", 44_100),
        ("mp4", "aac", 48_000),
        ("ogg", "libopus", 48_000),
        ("wav", "pcm_mulaw", 8_000),
    ],
)
async def test_separate_channels_contain_nothing_of_each_other(
    bench: Bench, container: str, codec: str, rate: int
) -> None:
    channels = await bench.channels(recording(container, codec, 3.0, rate=rate, channels=2, hertz=(440, 1_000)))

    assert len(channels[0]) == len(channels[1])
    for samples, hertz in zip(channels, (440, 1_000), strict=True):
        found, other = pitch(samples[RATE:])
        assert found == pytest.approx(hertz, abs=2)
        assert other < 0.02
        assert loudness(samples[RATE : 2 * RATE]) == pytest.approx(12_000 / 2**0.5, rel=0.15)


@pytest.mark.parametrize("count", [3, 4, 6, MAX_CHANNELS])
async def test_every_channel_is_separated_up_to_the_greatest_number(bench: Bench, count: int) -> None:
    hertz = [200.0 * (number + 1) for number in range(count)]

    channels = await bench.channels(wav(tone(1.0, 44_100, channels=count, hertz=hertz), 44_100))

    assert [pitch(samples)[0] for samples in channels] == hertz


async def test_crosstalk_is_silenced(bench: Bench) -> None:
    speaker, listener = tone(1.0, hertz=440), tone(1.0, hertz=880)
    first = np.concatenate([speaker, 0 * listener])
    second = np.concatenate([speaker // 30, listener])

    channels = await bench.channels(wav(np.hstack([first, second])))

    assert np.array_equal(channels[0], first[:, 0])
    assert loudness(channels[1][:RATE]) == 0
    assert np.array_equal(channels[1][RATE:], listener[:, 0])


async def test_silent_channels_keep_their_position(bench: Bench) -> None:
    channels = await bench.channels(wav(tone(1.0, channels=3, hertz=(0, 440, 0))))

    assert [loudness(samples) > 0 for samples in channels] == [False, True, False]


async def test_a_late_start_and_a_hole_are_filled_on_every_channel(bench: Bench) -> None:
    film = recording("matroska", "flac", 6.0, channels=2, hertz=(440, 880), video=True, start=1.5, hole=(2.0, 4.0))

    for samples in await bench.channels(film):
        assert len(samples) / RATE == pytest.approx(7.5, abs=0.15)
        assert loudness(samples[: int(1.4 * RATE)]) == loudness(samples[int(3.8 * RATE) : int(5.3 * RATE)]) == 0
        assert loudness(samples[int(1.7 * RATE) : 3 * RATE]) > 5_000
        assert loudness(samples[int(5.7 * RATE) :]) > 5_000


async def test_a_mono_part_of_a_stereo_recording_is_heard_on_both_channels(bench: Bench) -> None:
    stereo = recording("mp3", "libmp3lame", 2.0, rate=44_100, channels=2, hertz=(440, 880))
    mono = recording("mp3", "libmp3lame", 2.0, rate=44_100, hertz=600)

    channels = await bench.channels(stereo + mono)

    assert [pitch(samples[RATE // 2 :])[0] for samples in channels] == pytest.approx([440, 880], abs=2)
    assert [pitch(samples[5 * RATE // 2 :])[0] for samples in channels] == pytest.approx([600, 600], abs=2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (wav(tone(1.0)), "SINGLE_CHANNEL"),
        (wav(tone(1.0, channels=2)), "IDENTICAL_CHANNELS"),
        (recording("mp3", "libmp3lame", 1.0, rate=44_100, channels=2), "IDENTICAL_CHANNELS"),
        (wav(tone(1.0, channels=2, hertz=0)), "IDENTICAL_CHANNELS"),
        (wav(tone(1.0, channels=MAX_CHANNELS + 2, hertz=range(100, 1_100, 100))), "TOO_MANY_CHANNELS"),
    ],
    ids=["mono", "dual mono", "dual mono, lossy", "all silent", "too many"],
)
async def test_channels_that_cannot_be_separated_are_refused_with_a_hint(
    bench: Bench, data: bytes, reason: str
) -> None:
    error = await bench.refusal(data, selection=SEPARATE)

    assert error.reason == reason
    assert reason in SELECTION_REASONS
    assert "CHANNEL_MODE_MIX" in error.message
    assert len(await bench.samples(data)) == pytest.approx(RATE, rel=0.1)


async def test_limits_hold_for_separate_channels_too(bench: Bench) -> None:
    limits = replace(LIMITS, max_audio_seconds=1.0)
    stereo = tone(1.1, channels=2, hertz=(440, 880))

    assert (await bench.refusal(wav(stereo), limits, SEPARATE)).reason == "RECORDING_TOO_LONG"
    assert [len(samples) for samples in await bench.channels(wav(stereo[:RATE]), limits)] == [RATE, RATE]


@pytest.mark.parametrize(
    "sound",
    [AudioSelection(), SEPARATE, AudioSelection(audio_track=1), AudioSelection(audio_track=AudioTracks.ALL)],
    ids=str,
)
async def test_files_without_audio_are_refused_for_any_selection(bench: Bench, sound: AudioSelection) -> None:
    assert (await bench.refusal(silent_film(), selection=sound)).reason == "NO_AUDIO"
    assert (await bench.refusal(wav(tone(0.0, channels=2)), selection=sound)).reason == "EMPTY_AUDIO"


async def test_a_video_gives_its_first_audio_track(bench: Bench) -> None:
    samples = await bench.samples(recording("mp4", "aac", 2.0, rate=48_000, video=True))

    assert len(samples) / RATE == pytest.approx(2.0, abs=0.1)


async def test_sound_that_starts_after_the_video_keeps_its_time(bench: Bench) -> None:
    samples = await bench.samples(recording("matroska", "flac", 2.0, video=True, start=1.5))

    assert loudness(samples[: int(1.4 * RATE)]) == 0
    assert loudness(samples[int(1.6 * RATE) : 3 * RATE]) > 5_000
    assert len(samples) / RATE == pytest.approx(3.5, abs=0.1)


async def test_a_hole_in_the_recording_is_filled_with_silence_so_that_what_follows_keeps_its_time(bench: Bench) -> None:
    samples = await bench.samples(recording("matroska", "flac", 6.0, hole=(2.0, 4.0)))

    assert len(samples) / RATE == pytest.approx(6.0, abs=0.15)
    assert loudness(samples[int(2.3 * RATE) : int(3.8 * RATE)]) == 0
    assert loudness(samples[int(4.2 * RATE) :]) > 5_000


async def test_damage_in_the_middle_is_skipped_and_the_rest_keeps_its_time(bench: Bench) -> None:
    data = bytearray(recording("matroska", "flac", 20.0))
    middle = len(data) // 2
    data[middle : middle + 3000] = random.Random(1).randbytes(3000)

    samples = await bench.samples(bytes(data))

    assert len(samples) / RATE == pytest.approx(20.0, abs=0.3)
    assert loudness(samples[-4 * RATE :]) > 5_000


async def test_a_truncated_recording_is_used_up_to_its_end(bench: Bench) -> None:
    data = recording("mp3", "libmp3lame", 10.0, rate=44_100)

    samples = await bench.samples(data[: len(data) // 2])

    assert 4.0 < len(samples) / RATE < 6.0


async def test_tracks_that_start_in_the_middle_are_ignored(bench: Bench) -> None:
    first, second = (recording("mpegts", "mp2", 2.0, rate=48_000, video=video) for video in (False, True))

    for data in (first + second, second + first, second + second):
        assert 1.9 < len(await bench.samples(data)) / RATE < 4.5


def test_a_track_that_the_library_does_not_know_at_the_end_ends_the_recording() -> None:
    """PyAV may do this at the end of a recording with tracks that start in the middle."""

    def demux(_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace()
        raise IndexError("list index out of range")

    packets = source.packets(SimpleNamespace(demux=demux, streams=[]))  # type: ignore[arg-type]

    assert len(list(packets)) == 1


def test_an_impossible_seek_returns_an_error_to_ffmpeg(tmp_path: Path) -> None:
    (tmp_path / "recording").write_bytes(b"12345")

    with source.RecordingFile(tmp_path / "recording") as file:
        assert [file.seek(-1), file.seek(-(1 << 62), 1), file.seek(3), file.read()] == [-1, -1, 3, b"45"]


async def test_progress_is_reported_and_never_decreases(bench: Bench) -> None:
    await bench.digest(endless_silence(hours=2), replace(LIMITS, max_audio_seconds=1e6))

    assert len(bench.progress) > 3
    assert bench.progress == sorted(bench.progress)
    assert 0 < bench.progress[0] < bench.progress[-1] <= 1


async def test_a_video_without_sound_is_refused(bench: Bench) -> None:
    error = await bench.refusal(silent_film())

    assert error.reason == "NO_AUDIO"
    assert "no audio track" in error.message


@pytest.mark.parametrize(
    "data",
    [
        random.Random(0).randbytes(200_000),
        b"\0" * 200_000,
        b"This is a letter and not a recording.\n" * 1000,
        b"%PDF-1.7\n" + random.Random(1).randbytes(50_000),
        b"PK\x03\x04" + random.Random(2).randbytes(50_000),
        b"x",
        b"\xff\xfb\x90\x64" * 10_000,
        recording("mp4", "aac", 5.0)[:2_000],
    ],
    ids=["random", "zeros", "letter", "pdf", "zip", "one byte", "false mp3", "mp4 without its index"],
)
async def test_junk_is_refused_with_a_list_of_formats(bench: Bench, data: bytes) -> None:
    error = await bench.refusal(data)

    assert error.reason == "NOT_A_RECORDING"
    assert "MP3" in error.message


async def test_a_mostly_damaged_recording_is_refused(bench: Bench) -> None:
    data = bytearray(recording("mp3", "libmp3lame", 20.0, rate=48_000))
    noise = random.Random(3)
    for first in range(2_000, len(data), 1_300):
        data[first : first + 1_250] = noise.randbytes(min(1_250, len(data) - first))

    assert (await bench.refusal(bytes(data))).reason == "NOT_A_RECORDING"


async def test_a_recording_without_samples_is_refused_as_empty(bench: Bench) -> None:
    assert (await bench.refusal(wav(tone(0.0)))).reason == "EMPTY_AUDIO"


async def test_a_recording_that_is_too_long_is_refused_with_the_limit(bench: Bench) -> None:
    limits = replace(LIMITS, max_audio_seconds=5.0)

    assert (await bench.refusal(wav(tone(5.1)), limits)).reason == "RECORDING_TOO_LONG"
    assert "5 seconds" in (await bench.refusal(wav(tone(5.1)), limits)).message
    assert len(await bench.samples(wav(tone(5.0)), limits)) == 5 * RATE


async def test_a_small_file_that_decodes_to_hours_stops_at_the_output_limit(bench: Bench) -> None:
    assert len(BOMB) < 10_000_000

    assert (await bench.refusal(BOMB)).reason == "RECORDING_TOO_LONG"
    assert bench.audio.stat().st_size <= LIMITS.max_audio_seconds * RATE * 2


async def test_a_clock_that_jumps_by_days_adds_no_silence(bench: Bench) -> None:
    samples = await bench.samples(recording("matroska", "flac", 2.0, video=True, start=2_000.0))

    assert len(samples) / RATE == pytest.approx(2.0, abs=0.1)


async def test_decoding_that_takes_too_much_processor_time_is_ended(bench: Bench) -> None:
    error = await bench.refusal(BOMB, replace(LIMITS, cpu_seconds=1, max_audio_seconds=1e6))

    assert error.reason == "DECODE_LIMIT_EXCEEDED"


async def test_decoding_that_takes_too_long_is_ended(bench: Bench) -> None:
    error = await bench.refusal(BOMB, replace(LIMITS, timeout_seconds=0.5, max_audio_seconds=1e6))

    assert error.reason == "DECODE_LIMIT_EXCEEDED"


async def test_decoding_that_takes_too_much_memory_is_ended(bench: Bench) -> None:
    error = await bench.refusal(wav(tone(1.0)), replace(LIMITS, memory_bytes=1 << 20))

    assert error.reason == "DECODE_LIMIT_EXCEEDED"
    assert "memory" in error.message


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "ffconcat version 1.0\nfile {name}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        'mimeType="audio/mp4"><Representation id="1"><BaseURL>{path}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>",
    ],
    ids=["hls", "hls file url", "concat", "concat relative", "sdp", "dash"],
)
async def test_files_in_a_playlist_are_not_read(bench: Bench, playlist: str) -> None:
    secret = bench.folder / "secret.wav"
    secret.write_bytes(wav(tone(2.0)))

    error = await bench.refusal(playlist.format(path=secret, name=secret.name).encode())

    assert error.reason == "NOT_A_RECORDING"


def test_the_decoder_cannot_open_anything(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "from careca_gateway.decoding import process\n"
        "process.set_limits(1 << 30, 10, 1000)\n"
        "for attempt in (lambda: open('/etc/hostname'), lambda: socket.socket(), lambda: open('new', 'w')):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["24", "24", "24"]


async def test_the_decoder_has_no_environment_variables(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARECA_SECRET", "swordfish")
    path = bench.folder / "recording"
    path.write_bytes(BOMB)
    limits = replace(LIMITS, max_audio_seconds=1e6)
    begun = asyncio.Event()
    decoding = asyncio.create_task(
        Decoder(limits, slots=1).decode(path, AudioSelection(), [bench.audio], lambda _: begun.set())
    )
    await begun.wait()

    (child,) = children()

    assert "CARECA_SECRET" not in child.environ()
    assert child.cwd() == "/"
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding


async def test_cancelling_kills_the_process(bench: Bench) -> None:
    path = bench.folder / "recording"
    path.write_bytes(BOMB)
    limits = replace(LIMITS, max_audio_seconds=1e6)
    begun = asyncio.Event()
    decoding = asyncio.create_task(
        Decoder(limits, slots=1).decode(path, AudioSelection(), [bench.audio], lambda _: begun.set())
    )
    await begun.wait()

    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding

    assert children() == []


async def test_the_number_of_parallel_decoders_is_limited(bench: Bench) -> None:
    path = bench.folder / "recording"
    path.write_bytes(recording("mp3", "libmp3lame", 30.0, rate=44_100))
    decoder = Decoder(LIMITS, slots=1)
    decoding = [
        asyncio.create_task(decoder.decode(path, AudioSelection(), [bench.folder / f"{n}.s16"], lambda _: None))
        for n in range(3)
    ]
    most = 0

    while not all(task.done() for task in decoding):
        most = max(most, len(children()))
        await asyncio.sleep(0.005)

    digests = [task.result().audio for task in decoding]
    assert most == 1
    assert decoder.waiting == 0
    assert len(set(digests)) == 1


async def test_a_decoder_that_crashes_on_a_recording_refuses_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "CHILD", ("-c", "import os; os.abort()"))

    assert (await bench.refusal(wav(tone(1.0)))).reason == "NOT_A_RECORDING"


async def test_a_decoder_that_cannot_start_is_an_internal_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "CHILD", ("-c", "raise SystemExit(3)"))

    with pytest.raises(InternalError):
        await bench.digest(wav(tone(1.0)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_a_full_disk_is_refused_with_a_retry_time(bench: Bench) -> None:
    bench.audio = Path("/dev/full")

    with pytest.raises(Overloaded) as caught:
        await bench.digest(wav(tone(5.0)))

    assert caught.value.reason == "STORE_FULL"
    assert caught.value.retry_after_seconds


def test_the_decoder_uses_the_common_audio_format() -> None:
    assert (outputs.SAMPLE_RATE, outputs.SAMPLE_BYTES) == (SAMPLE_RATE, SAMPLE_BYTES)


def test_the_decoder_imports_nothing_heavy() -> None:
    code = "import careca_gateway.decoding.process, sys, json; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert not {"numpy", "grpc", "asyncio", "pydantic", "careca.types"} & set(json.loads(done.stdout))

"""Recordings with several audio tracks: which one is used, how they are named, and all of them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from careca.types import AudioTracks, ChannelMode
from careca_gateway.ingest.decoder import MAX_CHANNELS, SELECTION_REASONS, TRACK_REASONS
from careca_gateway.request import AudioSelection
from support.decoding import LIMITS, Bench, likeness
from support.labelled import awkward, labelled
from support.media import encoded, recording, tone, wav

RATE = 16_000
ALL, EACH = AudioSelection(audio_track=AudioTracks.ALL), AudioSelection(audio_track=AudioTracks.EACH)

rng = np.random.default_rng(7)


def sine(seconds: float, hertz: float, rate: int = RATE) -> np.ndarray:
    samples: np.ndarray = tone(seconds, rate, hertz=hertz)[:, 0] / 32_768
    return samples


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate))


def dither(seconds: float) -> np.ndarray:
    """Returns silence with triangular dither: samples of -1, 0 and 1 in 16 bits."""
    noise: np.ndarray = np.rint(rng.uniform(-0.5, 0.5, (2, round(seconds * RATE))).sum(axis=0)) / 32_768
    return noise


def pitch(samples: np.ndarray) -> int:
    """The strongest frequency, in Hz."""
    return round(int(np.argmax(np.abs(np.fft.rfft(samples)))) * RATE / len(samples))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "aac"), ("mp4", "aac"), ("mov", "pcm_s16le"), ("mpegts", "mp2")]
)
async def test_the_first_track_is_used_by_default(bench: Bench, container: str, codec: str) -> None:
    data = encoded(container, codec, sine(2, 300), sine(2, 500))

    assert pitch(await bench.samples(data)) == 300


@pytest.mark.parametrize(("default", "hertz"), [(0, 300), (1, 500), (2, 700)])
async def test_the_default_track_is_used(bench: Bench, default: int, hertz: int) -> None:
    data = encoded("matroska", "flac", sine(2, 300), sine(2, 500), sine(2, 700), default=default)

    assert pitch(await bench.samples(data)) == hertz


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("matroska", "aac", RATE), ("mp4", "aac", 48_000), ("matroska", "libopus", 48_000), ("mov", "pcm_alaw", 8_000)],
)
async def test_a_silent_track_is_skipped(bench: Bench, container: str, codec: str, rate: int) -> None:
    sounds = silence(2, rate), silence(2, rate), sine(2, 500, rate), sine(2, 700, rate)

    assert pitch(await bench.samples(encoded(container, codec, *sounds, rate=rate, default=0))) == 500


@pytest.mark.parametrize("silent", [dither(3), np.full(3 * RATE, 0.01), np.concatenate([sine(0.05, 900), silence(3)])])
async def test_dither_a_constant_and_a_click_count_as_silence(bench: Bench, silent: np.ndarray) -> None:
    assert pitch(await bench.samples(encoded("matroska", "flac", silent, sine(2, 500)))) == 500


async def test_a_default_track_that_is_only_very_quiet_is_not_silent(bench: Bench) -> None:
    quiet = sine(2, 300) / 1000

    assert pitch(await bench.samples(encoded("matroska", "flac", quiet, sine(2, 500), default=0))) == 300


@pytest.mark.parametrize("interleaved", [True, False])
async def test_a_track_with_a_long_silent_beginning_is_used_from_its_beginning(bench: Bench, interleaved: bool) -> None:
    late = np.concatenate([silence(40), sine(2, 300)])
    data = encoded("mov", "pcm_s16le", late, sine(42, 500), default=0, interleaved=interleaved)

    samples = await bench.samples(data)

    assert len(samples) == 42 * RATE
    assert not samples[: 40 * RATE].any()
    assert pitch(samples[40 * RATE :]) == 300


async def test_if_all_tracks_are_silent_the_default_track_is_used(bench: Bench) -> None:
    data = encoded("matroska", "flac", silence(2), silence(3), default=1)

    assert len(await bench.samples(data)) == 3 * RATE
    assert await bench.codes(data) == ["AUDIO_TRACK_CHOSEN", "SILENT"]


async def test_a_track_without_packets_is_skipped(bench: Bench) -> None:
    assert pitch(await bench.samples(encoded("matroska", "flac", np.zeros(0), sine(2, 500)))) == 500


async def test_an_undecodable_track_is_skipped(bench: Bench) -> None:
    noise = rng.normal(0, 0.1, 5 * RATE)
    data = bytearray(encoded("mov", "aac", noise, sine(5, 500), interleaved=False))
    alone = encoded("mov", "aac", noise)
    begin, size = data.index(b"mdat") + 4, alone.index(b"moov") - alone.index(b"mdat") - 8
    data[begin : begin + size] = b"\xff" * size

    assert pitch((await bench.samples(bytes(data)))[RATE:]) == 500


async def test_the_notice_names_the_track_that_was_used(bench: Bench) -> None:
    names = {"titles": ["Desktop audio", "Mic"], "languages": ["", "por"]}

    (notice,) = await bench.notices(encoded("matroska", "aac", silence(2), sine(2, 500), **names))

    assert (notice.code, notice.start, notice.end) == ("AUDIO_TRACK_CHOSEN", None, None)
    assert 'track 2 ("Mic", por, aac) was used' in notice.message
    assert 'track 1 ("Desktop audio", aac) is silent' in notice.message


async def test_the_notice_names_the_tracks_that_were_not_used(bench: Bench) -> None:
    (notice,) = await bench.notices(encoded("matroska", "flac", *[sine(1, 300)] * 12, languages=["en", "es"]))

    assert "has 12 audio tracks, of which track 1 (en, flac) was used" in notice.message
    assert "not used: track 2 (es, flac), track 3 (flac)" in notice.message
    assert notice.message.count("flac") == 1 + 8
    assert "and 3 more" in notice.message


async def test_no_notice_if_the_track_was_chosen_or_is_the_only_one(bench: Bench) -> None:
    data = encoded("matroska", "aac", silence(2), sine(2, 500))

    for sound in (AudioSelection(audio_track=2), ALL, EACH):
        assert await bench.codes(data, sound) == []
    assert await bench.codes(recording("matroska", "aac", video=True)) == []


@pytest.mark.parametrize(("number", "hertz"), [(1, 300), (2, 500), (3, 700)])
async def test_a_track_is_chosen_by_its_number_among_audio_tracks(bench: Bench, number: int, hertz: int) -> None:
    data = encoded("matroska", "aac", sine(2, 300), sine(2, 500), sine(2, 700), default=0)

    assert pitch(await bench.samples(data, selection=AudioSelection(audio_track=number))) == hertz


async def test_a_chosen_silent_track_is_used(bench: Bench) -> None:
    data = encoded("matroska", "flac", silence(2), sine(2, 500))

    assert not (await bench.samples(data, selection=AudioSelection(audio_track=1))).any()


@pytest.mark.parametrize("number", [3, 999])
async def test_a_missing_track_number_is_refused_with_a_list_of_tracks(bench: Bench, number: int) -> None:
    data = encoded("matroska", "aac", silence(1), sine(1, 500), titles=["Desktop", "Mic"], languages=["eng", "por"])

    error = await bench.refusal(data, selection=AudioSelection(audio_track=number))

    assert (error.reason, error.field) == ("NO_SUCH_AUDIO_TRACK", "config.audio_track")
    assert f"no audio track {number}" in error.message
    assert 'has 2 audio tracks: track 1 ("Desktop", eng, aac), track 2 ("Mic", por, aac)' in error.message


async def test_a_missing_track_number_of_a_single_track_recording_is_refused(bench: Bench) -> None:
    error = await bench.refusal(wav(tone(1.0)), selection=AudioSelection(audio_track=2))

    assert "has 1 audio track: track 1 (pcm_s16le)" in error.message


@pytest.mark.parametrize(
    "title", ["\x1b[31mred\x07", "two\nlines\r\tand a tab", "\u202eevil\u200b\u2028", 'a "quoted" one', "x" * 5_000]
)
async def test_track_names_are_one_short_printable_line(bench: Bench, title: str) -> None:
    data = encoded("matroska", "flac", sine(1, 300), sine(1, 500), titles=[title, title], languages=[title[:100]] * 2)

    (notice,) = await bench.notices(data)
    error = await bench.refusal(data, selection=AudioSelection(audio_track=3))

    for message in (notice.message, error.message):
        assert message.isprintable()
        assert len(message) < 600
    assert notice.message.count('"') == 4


async def test_channels_of_a_chosen_track_are_separated(bench: Bench) -> None:
    stereo = np.stack([sine(2, 500), sine(2, 700)], axis=1)
    data = encoded("matroska", "flac", stereo[:, 0], stereo, rate=RATE)

    channels = await bench.audios(data, LIMITS, AudioSelection(ChannelMode.SEPARATE, 2))

    assert [pitch(channel) for channel in channels] == [500, 700]


async def test_all_tracks_are_mixed_to_the_end_of_the_longest_one(bench: Bench) -> None:
    data = encoded("matroska", "flac", sine(2, 300), sine(2, 500), starts=[0.0, 3.0])

    samples = await bench.samples(data, selection=ALL)

    assert len(samples) == 5 * RATE
    assert [pitch(samples[:RATE]), pitch(samples[4 * RATE :])] == [300, 500]
    assert not samples[2 * RATE + 100 : 3 * RATE - 100].any()
    assert np.abs(samples).max() == pytest.approx(6_000, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, MAX_CHANNELS])
async def test_a_mix_is_the_mean_of_the_tracks_and_never_clips(bench: Bench, count: int) -> None:
    loud = [np.clip(rng.normal(0, 0.5, 2 * RATE), -1, 32_767 / 32_768) for _ in range(count)]

    samples = await bench.samples(encoded("mov", "pcm_s16le", *loud), selection=ALL)

    expected = np.mean([np.rint(sound * 32_768) for sound in loud], axis=0)
    assert np.abs(samples - expected).max() <= 1


async def test_silent_tracks_do_not_make_a_mix_quieter(bench: Bench) -> None:
    data = encoded("matroska", "flac", silence(2), sine(2, 500), dither(2))

    assert np.array_equal(
        await bench.samples(data, selection=ALL), await bench.samples(data, selection=AudioSelection(audio_track=2))
    )


async def test_tracks_that_are_not_interleaved_are_mixed_by_time(bench: Bench) -> None:
    data = encoded("mov", "pcm_s16le", sine(30, 300), sine(20, 500), interleaved=False)

    mixed = await bench.samples(data, selection=ALL)
    first, second = await bench.audios(data, LIMITS, EACH)

    assert len(mixed) == len(first) == len(second) == 30 * RATE
    assert [pitch(first), pitch(second)] == [300, 500]
    assert not second[20 * RATE :].any()
    assert np.array_equal(mixed[21 * RATE :], np.rint(first[21 * RATE :] / 2))


async def test_separate_tracks_have_no_crosstalk(bench: Bench) -> None:
    speaker, listener = sine(1, 300), sine(1, 500)
    first = np.concatenate([speaker, silence(1)])
    second = np.concatenate([speaker / 30, listener])

    audios = await bench.audios(encoded("matroska", "flac", first, second), LIMITS, EACH)

    as_channels = await bench.channels(encoded("flac", "flac", np.stack([first, second], axis=1)))
    assert not audios[1][:RATE].any()
    assert [audio.tolist() for audio in audios] == [channel.tolist() for channel in as_channels]


async def test_stereo_tracks_are_mixed_to_mono_each(bench: Bench) -> None:
    stereo = np.stack([sine(2, 300), sine(2, 300)], axis=1)

    audios = await bench.audios(encoded("matroska", "flac", stereo, sine(2, 500)), LIMITS, EACH)

    assert [pitch(audio) for audio in audios] == [300, 500]


@pytest.mark.parametrize(
    ("data", "sound", "reason"),
    [
        (wav(tone(1.0)), EACH, "SINGLE_AUDIO_TRACK"),
        (encoded("matroska", "flac", sine(1, 300), sine(1, 300)), EACH, "IDENTICAL_AUDIO_TRACKS"),
        (encoded("matroska", "flac", *[sine(1, 300)] * 9), EACH, "TOO_MANY_AUDIO_TRACKS"),
        (encoded("matroska", "flac", *[sine(1, 300)] * 9), ALL, "TOO_MANY_AUDIO_TRACKS"),
    ],
    ids=["one", "identical", "too many of each", "too many of all"],
)
async def test_tracks_that_cannot_be_used_together_are_refused_and_one_still_can(
    bench: Bench, data: bytes, sound: AudioSelection, reason: str
) -> None:
    error = await bench.refusal(data, selection=sound)

    assert (error.reason, error.field) == (reason, "config.audio_track")
    assert reason in TRACK_REASONS & SELECTION_REASONS
    assert "leave audio_track out" in error.message
    assert len(await bench.samples(data)) == RATE


async def test_limits_hold_for_tracks_together_too(bench: Bench) -> None:
    data = encoded("matroska", "flac", sine(1, 300), sine(1.2, 500))
    limits = replace(LIMITS, max_audio_seconds=1.1)

    for sound in (ALL, EACH, AudioSelection(audio_track=2)):
        assert (await bench.refusal(data, limits, sound)).reason == "RECORDING_TOO_LONG"
    assert len(await bench.samples(data, limits)) == RATE


async def test_very_quiet_tracks_are_amplified_equally(bench: Bench) -> None:
    data = encoded("matroska", "flac", sine(2, 300) / 1000, sine(2, 500) / 4000)

    first, second = await bench.audios(data, LIMITS, EACH)

    assert np.abs(first).max() == pytest.approx(12_000 / 1000 * 2**10, rel=0.02)
    assert np.abs(second).max() == pytest.approx(np.abs(first).max() / 4, rel=0.02)
    assert await bench.codes(data, ALL) == ["VERY_QUIET"]


async def test_a_screen_recording_uses_its_second_track(bench: Bench) -> None:
    path = awkward("two_tracks.mkv")

    samples, (notice,) = await bench.samples_and_notices(path)

    call = await bench.samples(labelled("phone/sample.flac"))
    assert likeness(samples, call) > 0.95
    assert notice.code == "AUDIO_TRACK_CHOSEN"
    assert "track 2 (aac) was used, since track 1 (aac) is silent" in notice.message

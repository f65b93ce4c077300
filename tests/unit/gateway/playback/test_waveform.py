"""The peaks of audio, and the parts of it that are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import InvalidRequest
from careca.types import Digest
from careca_gateway.playback.parts import CHUNK_BYTES, DEFAULT_BUCKETS, MAX_BUCKETS, ByteRange, Window
from careca_gateway.playback.waveform import (
    BLOCK_BYTES,
    BUCKET_BYTES,
    BUCKET_SAMPLES,
    compute_waveform,
    merge_buckets,
)
from careca_gateway.storage.stored_bytes import StoredBytes, open_file
from support.fakes import digest_of

RATE = 16_000


def stored(samples: np.ndarray) -> StoredBytes:
    pcm = samples.astype("<i2").tobytes()
    return StoredBytes(digest_of(pcm), lambda offset, length: pcm[offset : offset + length])


def numbers(peaks: bytes) -> list[int]:
    return [int(number) for number in np.frombuffer(peaks, np.int8)]


async def test_each_bucket_has_its_smallest_and_greatest_sample() -> None:
    samples = np.zeros(2 * BUCKET_SAMPLES + 1)
    samples[5], samples[6] = -32768, 32767
    samples[BUCKET_SAMPLES] = 256
    samples[-1] = -256

    peaks = merge_buckets(await compute_waveform(stored(samples)), 1)

    assert numbers(peaks.minima) == [-128, 0, -1]
    assert numbers(peaks.maxima) == [127, 1, -1]


@pytest.mark.parametrize("samples", [1, BUCKET_SAMPLES, 3 * BLOCK_BYTES // 2, BLOCK_BYTES // 2, BLOCK_BYTES // 2 + 1])
async def test_blocks_make_no_difference(samples: int) -> None:
    noise = np.random.default_rng(7).integers(-32768, 32768, samples)

    waveform = await compute_waveform(stored(noise))

    buckets = [noise[first : first + BUCKET_SAMPLES] for first in range(0, samples, BUCKET_SAMPLES)]
    expected = [bound >> 8 for bucket in buckets for bound in (int(bucket.min()), int(bucket.max()))]
    assert numbers(waveform) == expected


@given(st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127)), min_size=1), st.integers(1, 50))
def test_wider_buckets_have_the_peaks_of_those_that_they_replace(buckets: list[tuple[int, int]], width: int) -> None:
    peaks = merge_buckets(np.array(buckets, np.int8).tobytes(), width)

    groups = [buckets[first : first + width] for first in range(0, len(buckets), width)]
    assert numbers(peaks.minima) == [min(low for low, _ in group) for group in groups]
    assert numbers(peaks.maxima) == [max(high for _, high in group) for group in groups]


async def test_ten_hours_are_read_in_blocks_and_drawn_in_a_few_kilobytes(tmp_path: Path) -> None:
    size, path = 10 * 3600 * RATE * 2, tmp_path / "ten-hours.s16"
    with path.open("wb") as file:
        file.truncate(size)  # it needs no space on the disk
        file.seek(size // 2)
        file.write(b"\xff\x7f")
    audio, lengths = open_file(Digest("0" * 64, size), path), []

    def read(offset: int, length: int) -> bytes:
        lengths.append(length)
        return audio.read(offset, length)

    waveform = await compute_waveform(StoredBytes(audio.digest, read))

    assert (sum(lengths), max(lengths)) == (size, BLOCK_BYTES)
    assert len(waveform) == 10 * 3600 * 50 * BUCKET_BYTES
    window = Window()
    buckets = window.buckets(size // 2)
    peaks = merge_buckets(waveform, window.width(buckets))
    assert len(peaks.minima) + len(peaks.maxima) == 2 * DEFAULT_BUCKETS
    assert numbers(peaks.maxima) == [0] * (DEFAULT_BUCKETS // 2) + [127] + [0] * (DEFAULT_BUCKETS // 2 - 1)


@pytest.mark.parametrize(
    ("window", "buckets"),
    [
        (Window(), range(50)),
        (Window(start=0.02), range(1, 50)),
        (Window(start=0.06, end=0.1), range(3, 5)),
        (Window(start=0.059, end=0.101), range(2, 6)),
        (Window(start=0.03, end=0.0300001), range(1, 2)),
        (Window(start=0.99, end=3e9), range(49, 50)),
    ],
)
def test_a_window_has_all_buckets_that_it_touches(window: Window, buckets: range) -> None:
    assert window.buckets(RATE - 1) == buckets


@pytest.mark.parametrize(
    ("most", "buckets", "width"),
    [(0, 4_000, 1), (0, 4_001, 2), (10, 25, 3), (1, 7, 7), (30_000, 20_001, 2), (2**31 - 1, 20_000, 1)],
)
def test_buckets_are_widened_until_there_are_few_enough(most: int, buckets: int, width: int) -> None:
    assert Window(max_buckets=most).width(range(buckets)) == width
    assert MAX_BUCKETS == 20_000


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start": -0.001}, "start_offset"),
        ({"start": 2.0, "end": 2.0}, "end_offset"),
        ({"end": -1.0}, "end_offset"),
        ({"max_buckets": -1}, "max_buckets"),
    ],
)
def test_windows_that_are_none_are_refused(fields: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Window(**fields)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_window_after_the_end_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Window(start=1.0).buckets(RATE)
    assert (refused.value.reason, refused.value.metadata) == ("RANGE_NOT_SATISFIABLE", {"audio_seconds": "1"})


@given(st.integers(0, 5 * CHUNK_BYTES), st.integers(0, 5 * CHUNK_BYTES), st.integers(1, 4 * CHUNK_BYTES))
def test_chunks_are_small_and_cover_the_range(offset: int, length: int, size: int) -> None:
    if offset >= size:
        with pytest.raises(InvalidRequest) as refused:
            ByteRange(offset, length).chunks(size)
        assert (refused.value.reason, refused.value.metadata) == ("RANGE_NOT_SATISFIABLE", {"size_bytes": str(size)})
        return

    chunks = ByteRange(offset, length).chunks(size)

    ends = [at + chunk for at, chunk in chunks]
    assert [at for at, _ in chunks] == [offset, *ends[:-1]]
    assert ends[-1] == (min(offset + length, size) if length else size)
    assert all(0 < chunk <= CHUNK_BYTES for _, chunk in chunks)


@pytest.mark.parametrize(("fields", "field"), [({"offset": -1}, "offset"), ({"length": -1}, "length")])
def test_ranges_with_negative_numbers_are_refused(fields: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ByteRange(**fields)
    assert refused.value.field == field

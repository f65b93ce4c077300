"""Decoded audio as a WAV file that is made while it is read."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import InvalidRequest
from careca.types import Digest
from careca_gateway.playback.wav import HEADER_BYTES, MAX_WAV_BYTES, PlayableAudio
from careca_gateway.storage.stored_bytes import StoredBytes
from support.fakes import digest_of


def stored(*samples: int) -> StoredBytes:
    pcm = np.array(samples, "<i2").tobytes()
    return StoredBytes(digest_of(pcm), lambda offset, length: pcm[offset : offset + length])


def whole(playable: PlayableAudio) -> bytes:
    return playable.read(0, playable.size_bytes)


def samples_of(data: bytes) -> list[int]:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return [int(sample) for sample in np.frombuffer(file.readframes(file.getnframes()), "<i2")]


def test_an_audio_is_a_wav_file_with_its_samples() -> None:
    assert samples_of(whole(PlayableAudio([stored(0, 1, -32768, 32767)]))) == [0, 1, -32768, 32767]


def test_several_audios_are_mixed_and_loud_passages_are_limited() -> None:
    mixed = PlayableAudio([stored(1, 30_000, -30_000, 5), stored(2, 30_000, -30_000, -5), stored(3, 0, 0, 0)])

    assert samples_of(whole(mixed)) == [6, 32767, -32768, 0]


PARTS = [PlayableAudio([stored(*range(300, 350))]), PlayableAudio([stored(*range(50)), stored(*range(500, 550))])]


@given(st.sampled_from(PARTS), st.integers(0, 143), st.integers(1, 144))
def test_every_range_is_that_of_the_whole_file(playable: PlayableAudio, offset: int, length: int) -> None:
    length = min(length, playable.size_bytes - offset)

    assert playable.size_bytes == 144
    assert playable.read(offset, length) == whole(playable)[offset : offset + length]


def test_the_tag_says_whether_the_bytes_are_the_same() -> None:
    audios = ([stored(1)], [stored(1)], [stored(2)], [stored(1), stored(2)])
    tags = [PlayableAudio(audio).entity_tag for audio in audios]

    assert tags[0] == tags[1]
    assert len(set(tags)) == 3
    assert all(len(tag) == 64 for tag in tags)


def test_audio_that_no_wav_file_can_hold_is_refused() -> None:
    def sized(size_bytes: int) -> PlayableAudio:
        return PlayableAudio([StoredBytes(Digest("0" * 64, size_bytes), lambda *_: b"")])

    most = MAX_WAV_BYTES - HEADER_BYTES - 1  # an even number
    assert sized(most).read(4, 4) == (most + HEADER_BYTES - 8).to_bytes(4, "little")
    with pytest.raises(InvalidRequest) as refused:
        sized(most + 2)
    assert (refused.value.reason, refused.value.field) == ("PLAYABLE_TOO_LARGE", "form")

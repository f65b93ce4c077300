"""Live audio: converted in pieces of any size, and the recording that it becomes."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import InvalidRequest
from careca.types import SAMPLE_RATE
from careca.v1 import live_pb2
from careca_gateway.decoding.crosstalk import CrosstalkGate
from careca_gateway.live.audio import MOST_ADDED_BYTES, AudioBuffer, Converter, Encoding, decode_encoding
from support.live import Config, in_codec, stereo
from support.media import tone

S16, MULAW, ALAW = (
    live_pb2.LIVE_ENCODING_PCM_S16LE,
    live_pb2.LIVE_ENCODING_MULAW,
    live_pb2.LIVE_ENCODING_ALAW,
)


def encoding_of(encoding: live_pb2.LiveEncoding, rate: int = 0, channels: int = 0) -> Encoding:
    decoded = decode_encoding(Config(encoding=encoding, sample_rate_hertz=rate, channel_count=channels))
    assert decoded
    return decoded


def converted(encoding: Encoding, data: bytes, piece: int) -> bytes:
    converter = Converter(encoding)
    parts = [converter.convert(data[first : first + piece]) for first in range(0, len(data), piece)]
    return b"".join(block for (block,) in [*parts, converter.finish()])


def sine(rate: int, seconds: float = 1.0) -> bytes:
    return tone(seconds, rate, hertz=300.0).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("encoding", "rate", "codec", "sample_bytes"),
    [(S16, 16_000, "pcm_s16le", 2), (MULAW, 8_000, "pcm_mulaw", 1), (ALAW, 8_000, "pcm_alaw", 1)],
)
def test_each_encoding_has_its_usual_rate(
    encoding: live_pb2.LiveEncoding, rate: int, codec: str, sample_bytes: int
) -> None:
    found = encoding_of(encoding)

    assert (found.rate, found.codec, found.bytes_per_second) == (rate, codec, rate * sample_bytes)


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [
        (0, 16_000),
        (5, 0),
        (live_pb2.LIVE_ENCODING_CONTAINER, 48_000),
        (S16, 7_999),
        (S16, 48_001),
        (S16, -1),
        (MULAW, 16_000),
        (ALAW, 8_001),
    ],
)
def test_other_encodings_and_rates_are_refused(encoding: live_pb2.LiveEncoding, rate: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encoding_of(encoding, rate)

    assert refused.value.field in ("config.encoding", "config.sample_rate_hertz")


@given(st.binary(max_size=400), st.integers(1, 60))
def test_pcm_of_16_khz_stays_as_it_is(data: bytes, piece: int) -> None:
    assert converted(encoding_of(S16), data, piece) == data[: len(data) // 2 * 2]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("piece", [1, 7, 640, 100_000])
def test_pcm_of_other_rates_is_resampled_the_same_in_pieces_of_any_size(rate: int, piece: int) -> None:
    data = sine(rate, 0.3)

    pcm = np.frombuffer(converted(encoding_of(S16, rate), data, piece), "<i2").astype(float)

    assert len(pcm) == pytest.approx(0.3 * SAMPLE_RATE, abs=40)
    expected = np.frombuffer(sine(SAMPLE_RATE, 0.3), "<i2").astype(float)
    length = min(len(pcm), len(expected))
    inner = slice(200, length - 200)
    assert np.abs(pcm[inner] - expected[inner]).max() < 300


@pytest.mark.parametrize(("encoding", "codec"), [(MULAW, "pcm_mulaw"), (ALAW, "pcm_alaw")])
@pytest.mark.parametrize("piece", [1, 160, 100_000])
def test_g711_is_decoded(encoding: live_pb2.LiveEncoding, codec: str, piece: int) -> None:
    data = in_codec(sine(8_000, 0.5), codec)

    pcm = np.frombuffer(converted(encoding_of(encoding), data, piece), "<i2").astype(float)

    expected = np.frombuffer(sine(SAMPLE_RATE, 0.5), "<i2").astype(float)
    assert len(pcm) == pytest.approx(len(expected), abs=40)
    inner = slice(200, min(len(pcm), len(expected)) - 200)
    assert np.abs(pcm[inner] - expected[inner]).max() < 800


def test_pieces_that_are_empty_give_nothing() -> None:
    for encoding in (encoding_of(S16), encoding_of(S16, 44_100), encoding_of(MULAW)):
        converter = Converter(encoding)
        assert converter.convert(b"") == [b""]
        assert converter.convert(b"\1" * (encoding.sample_bytes - 1)) == [b""]
        assert converter.finish() == [b""]


@pytest.mark.parametrize("encoding", [S16, MULAW, ALAW])
@pytest.mark.parametrize("size", [0, 1, 2, 999, 4_000])
def test_the_header_makes_a_wav_file_of_audio(encoding: live_pb2.LiveEncoding, size: int) -> None:
    form = encoding_of(encoding)
    data = bytes(range(1, 251)) * 16
    file = form.wav_header(size) + data[:size] + b"\0" * (size % 2)
    assert len(file) - size <= MOST_ADDED_BYTES
    assert int.from_bytes(file[4:8], "little") == len(file) - 8

    if size < 2:
        return
    with av.open(io.BytesIO(file)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.rate, stream.channels) == (form.codec, form.rate, 1)  # type: ignore[attr-defined]
        packets = b"".join(bytes(packet) for packet in container.demux(stream))
    whole = size // form.sample_bytes * form.sample_bytes
    assert packets[:whole] == data[:whole]
    assert len(packets) <= size


def test_a_program_that_knows_only_pcm_reads_the_file() -> None:
    data = sine(44_100)
    form = encoding_of(S16, 44_100)

    with wave.open(io.BytesIO(form.wav_header(len(data)) + data)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (44_100, 1, 2)
        assert reader.readframes(reader.getnframes()) == data


# Two channels


def separated(encoding: Encoding, data: bytes, piece: int) -> tuple[bytes, bytes]:
    converter = Converter(encoding, separate=True)
    parts = [converter.convert(data[first : first + piece]) for first in range(0, len(data), piece)]
    left, right = zip(*parts, converter.finish(), strict=True)
    return b"".join(left), b"".join(right)


def loud_and_quiet() -> tuple[bytes, bytes]:
    """Two channels that are as loud as each other, but for a second that is an echo in the other one."""
    noise = np.random.default_rng(1).integers(-9_000, 9_000, (2, 3 * SAMPLE_RATE))
    noise[1, SAMPLE_RATE : 2 * SAMPLE_RATE] //= 100
    left, right = noise.astype("<i2")
    return left.tobytes(), right.tobytes()


@pytest.mark.parametrize("piece", [1_001, 4, 3_000, 10**6])
def test_separate_channels_are_those_of_a_recording(piece: int) -> None:
    """Crosstalk is silenced in the same samples, however the audio is divided."""
    left, right = loud_and_quiet()
    gate = CrosstalkGate(2)
    expected = [block + rest for block, rest in zip(gate.feed((left, right)), gate.rest(), strict=True)]

    found = separated(encoding_of(S16, channels=2), stereo(left, right), piece)

    assert found == tuple(map(bytes, expected))
    assert found[0] == left
    assert found[1] != right


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_a_part_of_a_frame_is_dropped(extra: int) -> None:
    left, right = sine(SAMPLE_RATE, 0.1), sine(SAMPLE_RATE, 0.1)[::-1]

    found = separated(encoding_of(S16, channels=2), stereo(left, right) + b"\1" * extra, 999)

    assert [len(each) for each in found] == [len(left), len(right)]


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize(("encoding", "codec"), [(MULAW, "pcm_mulaw"), (ALAW, "pcm_alaw")])
def test_both_channels_of_g711_are_decoded(encoding: live_pb2.LiveEncoding, codec: str, piece: int) -> None:
    left, right = sine(8_000, 0.3), (np.frombuffer(sine(8_000, 0.3), "<i2") // 2).astype("<i2").tobytes()
    data = stereo(in_codec(left, codec), in_codec(right, codec), sample_bytes=1)

    found = separated(encoding_of(encoding, channels=2), data, piece)

    for pcm, said in zip(found, (left, right), strict=True):
        alone = converted(encoding_of(encoding), in_codec(said, codec), 10**6)
        assert np.array_equal(np.frombuffer(pcm, "<i2"), np.frombuffer(alone, "<i2"))


def test_two_channels_are_mixed_to_their_mean() -> None:
    left = sine(SAMPLE_RATE, 0.1)
    data = stereo(left, bytes(len(left)))

    mixed = np.frombuffer(converted(encoding_of(S16, channels=2), data, 999), "<i2")

    assert np.abs(mixed - np.frombuffer(left, "<i2") / 2).max() <= 1


@pytest.mark.parametrize("encoding", [S16, MULAW, ALAW])
@pytest.mark.parametrize("size", [0, 4, 1_000])
def test_the_header_names_both_channels(encoding: live_pb2.LiveEncoding, size: int) -> None:
    form = encoding_of(encoding, channels=2)
    assert form.bytes_per_second == 2 * encoding_of(encoding).bytes_per_second
    data = bytes(range(1, 251)) * 4
    file = form.wav_header(size) + data[:size]
    assert len(file) - size <= MOST_ADDED_BYTES
    if not size:
        return

    with av.open(io.BytesIO(file)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.rate, stream.channels) == (form.codec, form.rate, 2)  # type: ignore[attr-defined]
        assert b"".join(bytes(packet) for packet in container.demux(stream)) == data[:size]


def test_a_buffer_keeps_channels_together() -> None:
    buffer = AudioBuffer((1, 2))
    left, right = sine(SAMPLE_RATE), sine(SAMPLE_RATE)[::-1]
    buffer.append([left[:10_000], right[:10_000]])
    buffer.append([left[10_000:], right[10_000:]])
    buffer.drop_before(0.25)

    assert (buffer.start, buffer.end) == (0.25, 1.0)
    assert buffer.read(0.5, 0.75, 1) == left[16_000:24_000]
    assert buffer.read(0.0, 2.0, 2) == right[8_000:]

"""The request messages of an upload."""

import asyncio

import pytest

from careca.errors import DeadlineExceeded, InvalidRequest
from careca.rpc.upload_stream import MAX_CHUNK_BYTES, open_upload
from careca.v1 import diarizer_pb2, gateway_pb2

CONFIG = diarizer_pb2.DiarizeRequest(config=diarizer_pb2.DiarizeRequest.Config())


def audio(chunk):
    return diarizer_pb2.DiarizeRequest(audio_chunk=chunk)


async def stream(*messages):
    for message in messages:
        yield message


async def test_the_config_comes_first_and_the_chunks_after_it():
    config, chunks = await open_upload(stream(CONFIG, audio(b"1"), audio(b""), audio(b"2")))

    assert config == CONFIG.config
    assert [chunk async for chunk in chunks] == [b"1", b"2"]


async def test_chunks_are_read_only_on_demand():
    sent = []

    async def caller():
        for message in (CONFIG, audio(b"1"), audio(b"2")):
            sent.append(message)
            yield message

    _, chunks = await open_upload(caller())
    assert sent == [CONFIG]
    assert await anext(chunks) == b"1"
    assert len(sent) == 2


@pytest.mark.parametrize(
    "messages", [(), (audio(b"1"),), (diarizer_pb2.DiarizeRequest(),)], ids=["nothing", "audio", "empty"]
)
async def test_a_stream_that_does_not_begin_with_config_is_refused(messages):
    with pytest.raises(InvalidRequest) as refusal:
        await open_upload(stream(*messages))

    assert refusal.value.field == "config"


@pytest.mark.parametrize("second", [CONFIG, diarizer_pb2.DiarizeRequest()], ids=["config", "empty"])
async def test_anything_but_a_chunk_after_the_config_is_refused(second):
    _, chunks = await open_upload(stream(CONFIG, second))

    with pytest.raises(InvalidRequest) as refusal:
        await anext(chunks)
    assert refusal.value.field == "audio_chunk"


async def test_a_chunk_over_the_limit_is_refused():
    _, chunks = await open_upload(stream(CONFIG, audio(b"x" * MAX_CHUNK_BYTES), audio(b"x" * (MAX_CHUNK_BYTES + 1))))

    assert len(await anext(chunks)) == MAX_CHUNK_BYTES
    with pytest.raises(InvalidRequest) as refusal:
        await anext(chunks)
    assert refusal.value.reason == "CHUNK_TOO_LARGE"


async def test_the_chunks_of_the_gateways_stream_have_another_field():
    messages = stream(
        gateway_pb2.TranscribeRequest(config=gateway_pb2.TranscribeRequest.Config(display_name="call.wav")),
        gateway_pb2.TranscribeRequest(recording_chunk=b"1"),
    )

    config, chunks = await open_upload(messages, "recording_chunk")

    assert config.display_name == "call.wav"
    assert [chunk async for chunk in chunks] == [b"1"]


@pytest.mark.parametrize("sent", [(), (CONFIG,), (CONFIG, audio(b"1"))], ids=["nothing", "config", "a chunk"])
async def test_a_silent_caller_loses_its_place(sent):
    async def caller():
        for message in sent:
            yield message
        await asyncio.Event().wait()

    async def receive():
        _, chunks = await open_upload(caller(), stall_seconds=0.05)
        return [chunk async for chunk in chunks]

    with pytest.raises(DeadlineExceeded) as refusal:
        await receive()

    assert refusal.value.reason == "UPLOAD_STALLED"

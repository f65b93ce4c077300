"""A voice service in memory for the scripted gateway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from careca.errors import CarecaError, NotFound
from careca.v1 import voices_pb2, voices_pb2_grpc

SAVED_AT = 1_700_000_000
"""When all voices were saved, in seconds since 1970."""


class ScriptedVoices(voices_pb2_grpc.VoiceServiceServicer):
    """Keeps the requests that saved voices, by submitter and name."""

    def __init__(self, fail: Callable[[Any], None], abort: Callable[[Any, CarecaError], None]) -> None:
        self.requests: dict[str, dict[str, voices_pb2.SaveVoiceRequest]] = defaultdict(dict)
        self._fail, self._abort = fail, abort

    def SaveVoice(self, request: Any, context: Any) -> voices_pb2.SaveVoiceResponse:
        self._of(context)[request.name] = request
        return voices_pb2.SaveVoiceResponse(voice=_saved(request))

    def ListVoices(self, request: Any, context: Any) -> voices_pb2.ListVoicesResponse:
        return voices_pb2.ListVoicesResponse(voices=[_saved(each) for each in self._of(context).values()])

    def DeleteVoice(self, request: Any, context: Any) -> voices_pb2.DeleteVoiceResponse:
        voices = self._of(context)
        if request.name not in voices:
            self._abort(context, NotFound("no voice is saved under this name", reason="VOICE_NOT_FOUND"))
        del voices[request.name]
        return voices_pb2.DeleteVoiceResponse()

    def _of(self, context: Any) -> dict[str, voices_pb2.SaveVoiceRequest]:
        self._fail(context)
        return self.requests[str(dict(context.invocation_metadata()).get("x-careca-submitter", "anonymous"))]


def _saved(request: voices_pb2.SaveVoiceRequest) -> voices_pb2.SavedVoice:
    model = request.voice.embedding_model or "voices@1"
    saved = voices_pb2.SavedVoice(name=request.name, embedding_model=model, job_id=request.job_speaker.job_id)
    saved.create_time.seconds = SAVED_AT
    return saved

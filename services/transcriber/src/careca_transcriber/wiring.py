"""Creates the transcriber service from its parts."""

from __future__ import annotations

from typing import Any

import grpc.aio

from careca import codec
from careca.inference.model_service import create_model_service
from careca.inference.shared_engine import SharedEngine
from careca.rpc.server import Service
from careca.types import Stage
from careca.v1 import audio_pb2, transcriber_pb2, transcriber_pb2_grpc
from careca_transcriber.service import TranscriberServicer, TranscribeStage
from careca_transcriber.settings import TranscriberSettings

SCHEMA = 2
"""Version of the layout of cached results. Increase it when the Transcript of ``audio.proto`` changes its meaning."""


def wire(settings: TranscriberSettings, engine: SharedEngine[Any, Any]) -> Service:
    """Returns the transcriber for ``settings``. Call it in the event loop of the service."""
    return create_model_service(
        name="transcriber",
        stage=Stage.TRANSCRIBE,
        schema=SCHEMA,
        engine=engine,
        encode=codec.encode_transcript,
        message_type=audio_pb2.Transcript,
        settings=settings,
        add_service=_add_service,
    )


def _add_service(stage: TranscribeStage, server: grpc.aio.Server) -> str:
    transcriber_pb2_grpc.add_TranscriberServiceServicer_to_server(TranscriberServicer(stage), server)
    return transcriber_pb2.DESCRIPTOR.services_by_name["TranscriberService"].full_name

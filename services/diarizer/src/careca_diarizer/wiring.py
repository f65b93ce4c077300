"""Creates the diarizer service from its parts."""

from __future__ import annotations

import grpc.aio

from careca import codec
from careca.inference.model_service import create_model_service
from careca.inference.shared_engine import SharedEngine
from careca.rpc.server import Service
from careca.types import Diarization, DiarizationOptions, Stage
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from careca_diarizer.service import DiarizerServicer, DiarizeStage
from careca_diarizer.settings import DiarizerSettings

SCHEMA = 2
"""Version of the layout of cached results. Increase it when the Diarization of ``audio.proto`` changes its meaning."""


def wire(settings: DiarizerSettings, engine: SharedEngine[DiarizationOptions, Diarization]) -> Service:
    """Returns the diarizer for ``settings``. Call it in the event loop of the service."""
    return create_model_service(
        name="diarizer",
        stage=Stage.DIARIZE,
        schema=SCHEMA,
        engine=engine,
        encode=codec.encode_diarization,
        message_type=audio_pb2.Diarization,
        settings=settings,
        add_service=_add_service,
    )


def _add_service(stage: DiarizeStage, server: grpc.aio.Server) -> str:
    diarizer_pb2_grpc.add_DiarizerServiceServicer_to_server(DiarizerServicer(stage), server)
    return diarizer_pb2.DESCRIPTOR.services_by_name["DiarizerService"].full_name

"""Puts the diarizer together: the one place where its parts are made and meet."""

from __future__ import annotations

import grpc.aio

from careca import codec
from careca.inference.model_service import wire_model_service
from careca.launch import Wiring
from careca.types import Stage
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from careca_diarizer.engine import DiarizerEngine
from careca_diarizer.service import DiarizerServicer, DiarizeStage
from careca_diarizer.settings import DiarizerSettings

SCHEMA = 2
"""Version of the layout of cached diarizations: raised when ``audio.proto``'s Diarization changes its meaning."""


def wire(settings: DiarizerSettings, engine: DiarizerEngine) -> Wiring:
    """The diarizer that ``settings`` ask for. To be called in the event loop that it will run in."""
    return wire_model_service(
        name="diarizer",
        stage=Stage.DIARIZE,
        schema=SCHEMA,
        engine=engine,
        infer=engine.diarize,
        encode=codec.encode_diarization,
        message_type=audio_pb2.Diarization,
        settings=settings,
        add_service=_add_service,
    )


def _add_service(stage: DiarizeStage, server: grpc.aio.Server) -> str:
    diarizer_pb2_grpc.add_DiarizerServiceServicer_to_server(DiarizerServicer(stage), server)
    return diarizer_pb2.DESCRIPTOR.services_by_name["DiarizerService"].full_name

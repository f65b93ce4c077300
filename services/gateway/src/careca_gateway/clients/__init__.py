"""The model services as the gateway's pipeline and administration see them, reached by gRPC."""

from careca_gateway.clients.diarizer import DiarizerClient
from careca_gateway.clients.replicas import Replicas
from careca_gateway.clients.transcriber import TranscriberClient

__all__ = ["DiarizerClient", "Replicas", "TranscriberClient"]

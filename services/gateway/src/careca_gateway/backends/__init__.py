"""The model services as the gateway's pipeline and administration see them, reached by gRPC."""

from careca_gateway.backends.diarizer import DiarizerClient
from careca_gateway.backends.replicas import Replicas
from careca_gateway.backends.transcriber import TranscriberClient

__all__ = ["DiarizerClient", "Replicas", "TranscriberClient"]

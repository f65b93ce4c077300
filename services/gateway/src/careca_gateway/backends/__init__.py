"""Clients of the model services: finding replicas, balancing calls, and the calls themselves, by gRPC."""

from careca_gateway.backends.model_service import DiarizerClient, TranscriberClient
from careca_gateway.backends.replicas import Replicas

__all__ = ["DiarizerClient", "Replicas", "TranscriberClient"]

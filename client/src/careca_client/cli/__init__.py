"""The command ``careca``. ``app`` builds it from ``commands``; ``options`` and ``output`` hold what commands share."""

from careca_client.cli.app import main

__all__ = ["main"]

"""The command ``careca``. ``app`` puts it together; each module beside it does one thing."""

from careca_client.cli.app import main

__all__ = ["main"]

"""A channel whose TLS files may be replaced while it is in use: gRPC itself reads them only once."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio

from careca.auth.tls import PemContents, TlsFiles
from careca.rpc.replaceable_channel import ReplaceableChannel


class RotatingChannel(ReplaceableChannel):
    """Makes each call on a channel with the current files.

    Args:
        files: the source of the credentials.
        create: creates a channel from the contents of the files.
    """

    def __init__(self, files: TlsFiles, create: Callable[[PemContents], grpc.aio.Channel]) -> None:
        self._files = files
        self._create = create
        self._pem = files.current()
        super().__init__(create(self._pem))

    def chosen(self) -> grpc.aio.Channel:
        """Returns the channel with the current files."""
        pem = self._files.current()
        if pem is not self._pem:
            self._pem = pem
            self.replace(self._create(pem))
        return self._channel

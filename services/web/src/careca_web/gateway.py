"""The gateway, as the web service calls it: on behalf of each request's caller, over shared connections."""

from __future__ import annotations

from careca.errors import CarecaError, PreconditionFailed, Unauthenticated, Unavailable
from careca.rpc import request_id
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca_client import AsyncClient
from careca_web.settings import WebSettings

_PROBE_SECONDS = 2.0

_log = get_logger(__name__)


class Gateway:
    """One gateway. Use it in the event loop that created it.

    Args:
        settings: the address, TLS, and who may reach this service.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._client = AsyncClient(settings.gateway_target, access=settings.gateway_access)
        self._must_check = settings.is_remote and not settings.allow_insecure
        """Whether other machines can reach this service, and the gateway may be one that requires no token."""

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def as_caller(self, token: str, submitter: str = "") -> AsyncClient:
        """Returns a client that calls with this token, in the current request.

        Raises ``InvalidRequest`` if the token or the name cannot be one, ``Unavailable`` (GATEWAY_NOT_CHECKED) if it is
        not known yet whether the gateway requires a token.
        """
        if self._must_check:
            raise Unavailable(
                "the gateway has not answered yet since this service started: try again in a moment",
                reason="GATEWAY_NOT_CHECKED",
                retry_after_seconds=1.0,
            )
        metadata = (*request_id.outgoing(), *tracing.outgoing())
        return self._client.as_caller(token=token, submitter=submitter, metadata=metadata)

    async def is_ready(self) -> bool:
        """Returns whether the gateway accepts calls and this service may pass them on.

        Raises ``PreconditionFailed`` (GATEWAY_WITHOUT_TOKENS) if other machines could use the gateway without a token.
        """
        try:
            unprotected = self._must_check and not await self._requires_token()
            self._must_check = unprotected
            ready = not unprotected and (await self._client.health(timeout=_PROBE_SECONDS)).serving
        except CarecaError as error:
            _log.debug("the gateway does not answer", reason=error.reason, error=error.message)
            return False
        if unprotected:
            raise PreconditionFailed(
                "other machines can reach this service, and the gateway accepts callers without a token: set "
                "CARECA_TOKENS_FILE of the gateway, or set CARECA_ALLOW_INSECURE=true here if access is "
                "restricted in another way",
                reason="GATEWAY_WITHOUT_TOKENS",
            )
        return ready

    async def _requires_token(self) -> bool:
        try:
            await self._client.info()
        except Unauthenticated:
            return True
        return False

"""One attempt to call a webhook: a signed POST request to a checked address."""

from __future__ import annotations

import random
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver

from careca.errors import InvalidRequest
from careca_gateway.jobs.queue.port import DueWebhook
from careca_gateway.jobs.webhooks import payloads
from careca_gateway.jobs.webhooks.addresses import check_url

USER_AGENT = "Careca-Webhooks/1"
"""The ``User-Agent`` header."""

FIRST_DELAY_SECONDS = 5.0
"""The delay after the first attempt. Each further delay is twice as long."""

LONGEST_DELAY_SECONDS = 3600.0
"""The maximum delay between two attempts, also if the receiver asks for more."""

_JITTER = 0.2
_ERROR_CHARACTERS = 300
_RETRYABLE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """How an attempt ended."""

    error: str = ""
    """Why it failed, without the path and the query of the URL; empty if it succeeded."""
    final: bool = False
    """Whether another attempt is useless."""
    retry_after_seconds: float | None = None
    """How long the receiver asked to wait."""


class WebhookSender:
    """Sends webhooks. Must be created in the event loop that it runs in.

    It follows no redirects, ignores proxies in the environment, stores no cookies, and reads only the headers of the
    response. Each attempt opens a new connection, so that the address is checked each time.

    Args:
        resolver: resolves names and checks their addresses.
        allow_private: whether numeric addresses may be private.
        timeout_seconds: the timeout of a whole attempt.
        tls: the certificates to trust; ``None`` for those of the system.
    """

    def __init__(
        self,
        resolver: AbstractResolver,
        *,
        allow_private: bool,
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, force_close=True, limit=0, ssl=True if tls is None else tls
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()
        await self._resolver.close()

    async def send(self, due: DueWebhook, secret: bytes) -> DeliveryResult:
        """Calls the webhook once. Raises no exception that the receiver could cause."""
        url = due.webhook.url
        content = payloads.body(due.job)
        try:
            check_url(url, allow_private=self._allow_private)
            async with self._session.post(
                url, data=content, headers=_headers(due, content, secret), allow_redirects=False
            ) as response:
                return interpret_response(response.status, response.headers.get("Retry-After", ""))
        except InvalidRequest as error:
            return DeliveryResult(error.message, final=True)
        except TimeoutError:
            return DeliveryResult(f"no answer within {self._timeout_seconds:g} seconds")
        except (aiohttp.InvalidURL, UnicodeError):
            return DeliveryResult("the URL cannot be used", final=True)
        except aiohttp.ClientResponseError:  # its text contains the whole URL
            return DeliveryResult("the answer is not HTTP")
        except (aiohttp.ClientError, OSError) as error:
            return DeliveryResult((str(error) or type(error).__name__)[:_ERROR_CHARACTERS])


def interpret_response(status: int, retry_after: str) -> DeliveryResult:
    """Returns what an HTTP status and the ``Retry-After`` header mean."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return DeliveryResult()
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return DeliveryResult(
        f"the receiver answered {status}",
        final=refused and status not in _RETRYABLE,
        retry_after_seconds=_seconds(retry_after),
    )


def delay_seconds(attempt: int, retry_after_seconds: float | None = None) -> float:
    """Returns the delay after that attempt; the first one is 1. It is random, so that not all come at the same time."""
    # The longest delay is reached long before the twentieth power, and a float may not hold a greater one.
    delay = FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, 20)
    if retry_after_seconds is not None:
        delay = max(retry_after_seconds, FIRST_DELAY_SECONDS)
    return min(delay, LONGEST_DELAY_SECONDS) * random.uniform(1.0, 1.0 + _JITTER)


def _headers(due: DueWebhook, content: bytes, secret: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Careca-Job-Id": due.job.id,
        "Careca-Delivery": str(due.webhook.attempts + 1),
        "Careca-Signature": payloads.signature(content, secret, int(time.time())),
    }


def _seconds(retry_after: str) -> float | None:
    """Parses ``Retry-After``, which is a number of seconds or a date. Returns ``None`` if it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None

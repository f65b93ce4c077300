"""One attempt to tell a webhook: a signed POST to an address that was checked, and what its answer means."""

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
"""How we name ourselves."""

FIRST_DELAY_SECONDS = 5.0
"""How long after the first attempt the second comes; each further one takes twice as long."""

LONGEST_DELAY_SECONDS = 3600.0
"""The longest time between two attempts, also where the receiver asks for more."""

_JITTER = 0.2
_ERROR_CHARACTERS = 300
_WORTH_REPEATING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt."""

    error: str = ""
    """Why it failed, without the path and query of the URL; empty where the receiver knows now."""
    final: bool = False
    """Whether trying again cannot help."""
    asked_seconds: float | None = None
    """How long the receiver asked us to wait."""


class Sender:
    """Sends notices. To be made in the event loop that it will run in.

    It follows no redirect, takes no proxy from the environment, keeps no cookie, and does not read what the receiver
    answers beyond its headers. Each attempt makes a connection of its own, so that its address is checked each time.

    Args:
        resolver: finds and checks the addresses of names.
        allow_private: whether numeric addresses need not be public.
        timeout_seconds: how long an attempt may take, with everything.
        tls: whom to trust; ``None`` is the system's choice.
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
        """Ends all connections."""
        await self._session.close()
        await self._resolver.close()

    async def send(self, notice: DueWebhook, secret: bytes) -> Answer:
        """Tells the webhook once. Raises nothing that the receiver could cause."""
        url = notice.webhook.url
        content = payloads.body(notice.job)
        try:
            check_url(url, allow_private=self._allow_private)
            async with self._session.post(
                url, data=content, headers=_headers(notice, content, secret), allow_redirects=False
            ) as response:
                return interpret_response(response.status, response.headers.get("Retry-After", ""))
        except InvalidRequest as error:
            return Answer(error.message, final=True)
        except TimeoutError:
            return Answer(f"no answer within {self._timeout_seconds:g} seconds")
        except (aiohttp.InvalidURL, UnicodeError):
            return Answer("the URL cannot be used", final=True)
        except aiohttp.ClientResponseError:  # its text has the whole URL
            return Answer("the answer is not HTTP")
        except (aiohttp.ClientError, OSError) as error:
            return Answer((str(error) or type(error).__name__)[:_ERROR_CHARACTERS])


def interpret_response(status: int, retry_after: str) -> Answer:
    """What an HTTP status means, and the ``Retry-After`` that came with it."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer()
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Answer(
        f"the receiver answered {status}",
        final=refused and status not in _WORTH_REPEATING,
        asked_seconds=_seconds(retry_after),
    )


def delay_seconds(attempt: int, asked_seconds: float | None = None) -> float:
    """How long to wait after that attempt, the first being 1: with jitter, so that not all come back at once."""
    # Beyond the twentieth power the longest delay is long reached, and a float may not hold it.
    delay = FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, 20)
    if asked_seconds is not None:
        delay = max(asked_seconds, FIRST_DELAY_SECONDS)
    return min(delay, LONGEST_DELAY_SECONDS) * random.uniform(1.0, 1.0 + _JITTER)


def _headers(notice: DueWebhook, content: bytes, secret: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Careca-Job-Id": notice.job.id,
        "Careca-Delivery": str(notice.webhook.attempts + 1),
        "Careca-Signature": payloads.signature(content, secret, int(time.time())),
    }


def _seconds(retry_after: str) -> float | None:
    """``Retry-After`` in seconds, whether it is a number of them or a date; ``None`` where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None

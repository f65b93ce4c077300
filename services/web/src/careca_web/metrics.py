"""The metrics of the web service."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from careca.telemetry.metrics import Metrics


class WebMetrics(Metrics):
    """The metrics of every service, and those of HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._http_seconds = self._histogram(
            "careca_http_seconds",
            "Seconds that HTTP requests took, by method, route and status.",
            ("method", "route", "status"),
        )
        self._in_flight = self._gauge("careca_http_requests_in_flight", "HTTP requests that are being served.")
        self._event_streams = self._gauge("careca_http_event_streams", "Event streams that browsers have open.")
        self._websockets = self._gauge("careca_http_websockets", "WebSockets that are open.")
        self._closed_websockets = self._counter(
            "careca_http_closed_websockets", "WebSockets that were closed, by route and code.", ("route", "code")
        )
        self._live_audio_bytes = self._counter("careca_http_live_audio_bytes", "Bytes of live audio received.")
        self._upload_bytes = self._counter("careca_http_upload_bytes", "Bytes of recordings received over HTTP.")
        self._unfinished_uploads = self._gauge(
            "careca_http_unfinished_uploads_bytes", "Bytes of uploads that are not finished."
        )

    def request_in_flight(self) -> AbstractContextManager[None]:
        """Counts a request as in flight as long as the context lasts."""
        return self._in_flight.track_inprogress()

    def event_stream_open(self) -> AbstractContextManager[None]:
        """Counts an event stream as open as long as the context lasts."""
        return self._event_streams.track_inprogress()

    def websocket_open(self) -> AbstractContextManager[None]:
        """Counts a WebSocket as open as long as the context lasts."""
        return self._websockets.track_inprogress()

    def count_closed_websocket(self, route: str, code: int) -> None:
        """Counts a WebSocket that was accepted and has ended. ``route`` is as in ``observe_request``."""
        self._closed_websockets.labels(route, str(code)).inc()

    def count_live_audio(self, size_bytes: int) -> None:
        """Counts bytes of live audio."""
        self._live_audio_bytes.inc(size_bytes)

    def expect_requests(self, requests: Iterable[tuple[str, str, int]]) -> None:
        """Starts the counts of ``requests`` at zero: methods, routes and statuses."""
        for method, route, status in requests:
            self._http_seconds.labels(method, route, str(status))

    def expect_websockets(self, routes: Iterable[str], code: int) -> None:
        """Starts the counts of WebSockets that are closed with ``code`` at zero."""
        for route in routes:
            self._closed_websockets.labels(route, str(code))

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that has ended.

        ``method`` and ``route`` must be two of few: see ``http.routes.known_method``, and the paths of the application
        with names for parameters.
        """
        self._http_seconds.labels(method, route, str(status)).observe(seconds)

    def count_upload(self, size_bytes: int) -> None:
        """Counts bytes of a recording that was received."""
        self._upload_bytes.inc(size_bytes)

    def set_unfinished_uploads(self, size_bytes: int) -> None:
        """Sets the size of all unfinished uploads."""
        self._unfinished_uploads.set(size_bytes)

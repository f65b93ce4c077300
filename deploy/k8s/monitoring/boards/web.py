"""The web service: requests, event streams, uploads."""

from __future__ import annotations

from monitoring.panels import ANSWERS_LIMITS, FAILURES_LIMITS, Dashboard, Panel, Query, quantile, rate, select, summed

_REQUESTS = 'route!~"/healthz|/readyz"'
"""All requests but those of probes."""

_FAILED = f'{_REQUESTS}, status=~"5.."'


def _failures(*by: str) -> str:
    """A status is there only once a request has ended with it: where none has failed, the share is zero."""
    every = summed(rate("careca_http_seconds_count", _REQUESTS), *by)
    return f"({summed(rate('careca_http_seconds_count', _FAILED), *by)} or 0 * {every}) / ({every} > 0)"


def _within(share: float, *by: str) -> str:
    return quantile(share, "careca_http_seconds", *by, labels=_REQUESTS)


WEB = Dashboard(
    uid="careca-web",
    title="Careca / Web",
    description="HTTP requests, failures, latencies, event streams and uploads of the web service.",
    scope="careca_http_requests_in_flight",
    job="careca-web",
    panels=(
        Panel(
            "Pods",
            "Pods that answer Prometheus.",
            "short",
            (Query(summed(select("up")), "up"),),
            kind="stat",
            limits=ANSWERS_LIMITS,
        ),
        Panel(
            "Requests",
            "Requests that ended, in each second.",
            "reqps",
            (Query(summed(rate("careca_http_seconds_count", _REQUESTS)), "requests"),),
            kind="stat",
        ),
        Panel(
            "Failures",
            "Share of the requests that ended in a fault of a service (status 5xx), not of the caller.",
            "percentunit",
            (Query(_failures(), "failures"),),
            kind="stat",
            limits=FAILURES_LIMITS,
            maximum=1,
        ),
        Panel(
            "95 % of requests within",
            "What 95 % of the requests did not take longer than.",
            "s",
            (Query(_within(0.95), "95 %"),),
            kind="stat",
        ),
        Panel(
            "Requests by route",
            "Requests that ended, in each second.",
            "reqps",
            (Query(summed(rate("careca_http_seconds_count", _REQUESTS), "method", "route"), "{{method}} {{route}}"),),
            stacked=True,
        ),
        Panel(
            "Requests by status",
            "Requests that ended, in each second. 4xx are the caller's; 499 went before there was an answer.",
            "reqps",
            (Query(summed(rate("careca_http_seconds_count", _REQUESTS), "status"), "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Seconds of requests",
            "What half, 95 % and 99 % of the requests did not take longer than. Streams and uploads are among them.",
            "s",
            (Query(_within(0.5), "half"), Query(_within(0.95), "95 %"), Query(_within(0.99), "99 %")),
        ),
        Panel(
            "Seconds of requests by route",
            "What 95 % of the requests of each route did not take longer than.",
            "s",
            (Query(_within(0.95, "method", "route"), "{{method}} {{route}}"),),
        ),
        Panel(
            "Failures by pod",
            "Share of the requests that ended in a fault of a service (status 5xx), not of the caller.",
            "percentunit",
            (Query(_failures("pod"), "{{pod}}"),),
            limits=FAILURES_LIMITS,
            maximum=1,
        ),
        Panel(
            "Requests in flight",
            "Requests that are being served, event streams included.",
            "short",
            (Query(summed(select("careca_http_requests_in_flight"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Event streams",
            "Event streams that browsers and other callers have open.",
            "short",
            (Query(summed(select("careca_http_event_streams"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "WebSockets",
            "WebSockets that browsers and other callers have open, for live transcripts.",
            "short",
            (Query(summed(select("careca_http_websockets"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Closed WebSockets",
            "WebSockets closed in each second, by code. 1000 and 1001 are usual; 1011 is a fault of a service.",
            "ops",
            (Query(summed(rate("careca_http_closed_websockets_total"), "code"), "{{code}}"),),
            stacked=True,
        ),
        Panel(
            "Live audio",
            "Bytes of live audio received through WebSockets, in each second.",
            "Bps",
            (Query(summed(rate("careca_http_live_audio_bytes_total"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Uploads",
            "Bytes of recordings received, in each second.",
            "Bps",
            (Query(summed(rate("careca_http_upload_bytes_total"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Unfinished uploads",
            "What uploads that are not finished take. At CARECA_UPLOADS_MAX_BYTES a pod refuses more.",
            "bytes",
            (Query(summed(select("careca_http_unfinished_uploads_bytes"), "pod"), "{{pod}}"),),
        ),
        Panel(
            "Resident memory",
            "What each pod's process holds, shared pages included.",
            "bytes",
            (Query(summed(select("careca_memory_rss_bytes"), "pod"), "{{pod}}"),),
        ),
    ),
)

"""One service or one pod."""

from __future__ import annotations

from monitoring.panels import (
    ANSWERS_LIMITS,
    FAILURES_LIMITS,
    GREEN,
    RED,
    YELLOW,
    Dashboard,
    Panel,
    Query,
    quantile,
    rate,
    ratio,
    select,
    summed,
)

_NO_FAULT = 'code!~"INTERNAL|UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED|DATA_LOSS"'
"""Calls that did not end in a fault of the service. A code is there only once a call has ended with it."""


def _failures(*by: str) -> str:
    good = summed(rate("careca_rpc_seconds_count", _NO_FAULT), *by)
    return f"1 - {ratio(good, summed(rate('careca_rpc_seconds_count'), *by))}"


SERVICE = Dashboard(
    uid="careca-service",
    title="Careca / One service",
    description="Calls, failures, latencies, work and memory of one service or one pod.",
    scope="careca_memory_rss_bytes",
    job="careca-gateway",
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
            "Calls",
            "Calls that ended, in each second.",
            "reqps",
            (Query(summed(rate("careca_rpc_seconds_count")), "calls"),),
            kind="stat",
        ),
        Panel(
            "Failures",
            "Share of the calls that ended in a fault of the service, not of its caller.",
            "percentunit",
            (Query(_failures(), "failures"),),
            kind="stat",
            limits=FAILURES_LIMITS,
            maximum=1,
        ),
        Panel(
            "95 % of calls within",
            "What 95 % of the calls did not take longer than.",
            "s",
            (Query(quantile(0.95, "careca_rpc_seconds"), "95 %"),),
            kind="stat",
        ),
        Panel(
            "Calls by method",
            "Calls that ended, in each second.",
            "reqps",
            (Query(summed(rate("careca_rpc_seconds_count"), "method"), "{{method}}"),),
            stacked=True,
        ),
        Panel(
            "Calls by status code",
            "Calls that ended, in each second. INVALID_ARGUMENT, NOT_FOUND and the like are the caller's.",
            "reqps",
            (Query(summed(rate("careca_rpc_seconds_count"), "code"), "{{code}}"),),
            stacked=True,
        ),
        Panel(
            "Failures by service",
            "Share of the calls that ended in a fault of the service, not of its caller.",
            "percentunit",
            (Query(_failures("job"), "{{job}}"),),
            limits=FAILURES_LIMITS,
            maximum=1,
        ),
        Panel(
            "Seconds of calls",
            "What half, 95 % and 99 % of the calls did not take longer than.",
            "s",
            (
                Query(quantile(0.5, "careca_rpc_seconds"), "half"),
                Query(quantile(0.95, "careca_rpc_seconds"), "95 %"),
                Query(quantile(0.99, "careca_rpc_seconds"), "99 %"),
            ),
        ),
        Panel(
            "Seconds of calls by method",
            "What 95 % of the calls of each method did not take longer than.",
            "s",
            (Query(quantile(0.95, "careca_rpc_seconds", "method"), "{{method}}"),),
        ),
        Panel(
            "Work in flight",
            "Requests that a gateway works on, tasks that a model service computes.",
            "short",
            (Query(summed(select("careca_work_in_flight"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Work waiting",
            "Recordings that wait for a decoder of a gateway; tasks that receive audio or wait for their first batch.",
            "short",
            (Query(summed(select("careca_work_waiting"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Batches",
            "Batches that model services computed in each second, by the class of the task that was chosen.",
            "ops",
            (Query(summed(rate("careca_scheduler_step_seconds_count"), "class"), "{{class}}"),),
            stacked=True,
        ),
        Panel(
            "Seconds of a batch",
            "What 95 % of the batches did not take longer than. A task that is cancelled goes on for so long.",
            "s",
            (Query(quantile(0.95, "careca_scheduler_step_seconds", "job"), "{{job}}"),),
        ),
        Panel(
            "Items in a batch",
            "Clips, windows or pieces in a batch on average, and the share of batches with items of several tasks.",
            "short",
            (
                Query(
                    ratio(
                        summed(rate("careca_scheduler_batch_items_sum"), "job"),
                        summed(rate("careca_scheduler_batch_items_count"), "job"),
                    ),
                    "{{job}}",
                ),
                Query(
                    ratio(
                        summed(rate("careca_scheduler_shared_steps_total"), "job"),
                        summed(rate("careca_scheduler_step_seconds_count"), "job"),
                    ),
                    "{{job}} shared",
                ),
            ),
        ),
        Panel(
            "Waiting for other tasks",
            "Time in which a model worked for others than the task: half of the tasks and 95 % of them were not above.",
            "s",
            (
                Query(quantile(0.5, "careca_scheduler_wait_seconds", "class"), "{{class}} half"),
                Query(quantile(0.95, "careca_scheduler_wait_seconds", "class"), "{{class}} 95 %"),
            ),
        ),
        Panel(
            "Audio worked on",
            "Seconds of audio that stages worked on in each second: the work in terms of what was asked for.",
            "none",
            (Query(summed(rate("careca_audio_seconds_total"), "job", "stage"), "{{job}} {{stage}}"),),
        ),
        Panel(
            "Resident memory",
            "What each pod's processes hold, shared pages included.",
            "bytes",
            (Query(summed(select("careca_memory_rss_bytes"), "pod"), "{{pod}}"),),
        ),
        Panel(
            "Since the start",
            "How long each pod's process has run. A saw is a process that starts again and again.",
            "s",
            (Query(f"time() - min by (pod) ({select('process_start_time_seconds')})", "{{pod}}"),),
        ),
        Panel(
            "Certificates end in",
            "Time until the certificates end that the service shows. Files that were replaced are read by themselves.",
            "s",
            (
                Query(
                    f"min by (pod, file) ({select('careca_tls_certificate_expiry_timestamp_seconds')}) - time()",
                    "{{pod}} {{file}}",
                ),
            ),
            limits=((None, RED), (3 * 86_400, YELLOW), (14 * 86_400, GREEN)),
        ),
    ),
)

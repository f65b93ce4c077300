"""The queue, the stages, webhooks and the store."""

from __future__ import annotations

from monitoring.panels import (
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
    shared,
    summed,
    total,
)

_ENDED = 'outcome=~"failed|partial|succeeded"'
_FAILED = 'outcome=~"failed|partial"'
_BY_MODELS = 'stage=~"transcribe|diarize"'

JOBS = Dashboard(
    uid="careca-jobs",
    title="Careca / Jobs and latency",
    description="The queue, how jobs end, how long each stage takes, webhooks and the store.",
    scope="careca_memory_rss_bytes",
    panels=(
        Panel(
            "Waiting",
            "Jobs that wait for a gateway to take them.",
            "short",
            (Query(shared(select("careca_jobs", 'state="queued"')), "waiting"),),
            kind="stat",
        ),
        Panel(
            "Worked on",
            "Jobs that gateways work on.",
            "short",
            (Query(summed(select("careca_jobs_in_flight")), "in flight"),),
            kind="stat",
        ),
        Panel(
            "Longest wait",
            "Age of the job that has waited longest.",
            "s",
            (Query(shared(select("careca_jobs_oldest_waiting_seconds")), "oldest"),),
            kind="stat",
            limits=((None, GREEN), (900, YELLOW), (3600, RED)),
        ),
        Panel(
            "Failed",
            "Share of the jobs that ended in the time that is looked at which failed, in whole or in part.",
            "percentunit",
            (
                Query(
                    ratio(
                        summed(total("careca_job_attempt_seconds_count", _FAILED)),
                        summed(total("careca_job_attempt_seconds_count", _ENDED)),
                    ),
                    "failed",
                ),
            ),
            kind="stat",
            limits=((None, GREEN), (0.05, YELLOW), (0.2, RED)),
            maximum=1,
        ),
        Panel(
            "Jobs by state",
            "Jobs that are known, as the queue that all gateways share has them.",
            "short",
            (Query(shared(select("careca_jobs"), "state"), "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Waiting by priority",
            "Jobs that wait. Those for which somebody waits go before all others.",
            "short",
            (Query(shared(select("careca_jobs_waiting"), "priority"), "{{priority}}"),),
            stacked=True,
        ),
        Panel(
            "Age of the oldest waiting job",
            "How long the job has waited that has waited longest.",
            "s",
            (Query(shared(select("careca_jobs_oldest_waiting_seconds")), "oldest"),),
            limits=((None, GREEN), (3600, RED)),
        ),
        Panel(
            "Jobs worked on by gateway",
            "Most of a job's time its gateway waits for a model service.",
            "short",
            (Query(summed(select("careca_jobs_in_flight"), "pod"), "{{pod}}"),),
            stacked=True,
        ),
        Panel(
            "Attempts by outcome",
            "handed_back and lost are repeated by another gateway; partial misses what one stage would have found.",
            "ops",
            (Query(summed(rate("careca_job_attempt_seconds_count"), "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Seconds of a job",
            "What half and 95 % of the attempts did not take longer than, from being taken to their end.",
            "s",
            (
                Query(quantile(0.5, "careca_job_attempt_seconds"), "half"),
                Query(quantile(0.95, "careca_job_attempt_seconds"), "95 %"),
            ),
        ),
        Panel(
            "Jobs recovered",
            "Jobs found waiting when a gateway started, and jobs reclaimed from gateways that were gone.",
            "ops",
            (Query(summed(rate("careca_jobs_recovered_total"), "reason"), "{{reason}}"),),
        ),
        Panel(
            "Seconds to stop a cancelled job",
            "What 95 % of the cancelled jobs did not take longer to stop than.",
            "s",
            (Query(quantile(0.95, "careca_job_cancel_seconds"), "95 %"),),
        ),
        Panel(
            "Seconds of each stage",
            "What 95 % of the stages that were not answered from a cache did not take longer than, waiting included.",
            "s",
            (Query(quantile(0.95, "careca_stage_seconds", "stage", labels='cached="false"'), "{{stage}}"),),
        ),
        Panel(
            "Speed of the model stages",
            "Seconds of audio for each second that a stage took, waiting included: 10 is ten times as fast as it is "
            "heard.",
            "none",
            (
                Query(
                    ratio(
                        summed(rate("careca_audio_seconds_total", _BY_MODELS), "stage"),
                        summed(rate("careca_stage_seconds_sum", f'{_BY_MODELS}, cached="false"'), "stage"),
                    ),
                    "{{stage}}",
                ),
            ),
        ),
        Panel(
            "Tasks that compute and that wait",
            "In the model services each task takes a slot to compute; those beyond wait, and then are refused.",
            "short",
            (
                Query(summed(select("careca_work_in_flight"), "job"), "{{job}} computes"),
                Query(summed(select("careca_work_waiting"), "job"), "{{job}} waits"),
            ),
        ),
        Panel(
            "Redis of the jobs answers",
            "1 while the Redis of the jobs answers each gateway.",
            "none",
            (Query(f"min by (pod) ({select('careca_jobs_available')})", "{{pod}}"),),
            maximum=1,
        ),
        Panel(
            "Webhooks by outcome",
            "Attempts to tell webhooks. failed is tried again later, given_up is not.",
            "ops",
            (Query(summed(rate("careca_webhook_attempt_seconds_count"), "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Webhooks to be told",
            "Webhooks of jobs that have ended which are still to be told.",
            "short",
            (Query(shared(select("careca_webhooks_pending")), "pending"),),
        ),
        Panel(
            "Seconds of webhooks",
            "What 95 % of the attempts to tell a webhook did not take longer than.",
            "s",
            (Query(quantile(0.95, "careca_webhook_attempt_seconds"), "95 %"),),
        ),
        Panel(
            "Store",
            "Bytes in the store and what it may hold: at its bound the recording goes that was used least lately.",
            "bytes",
            (
                Query(shared(select("careca_store_size_bytes"), "pod"), "{{pod}}"),
                Query(shared(select("careca_store_max_bytes")), "bound"),
            ),
        ),
        Panel(
            "Recordings in the store",
            "Recordings that are kept, with their decoded audio.",
            "short",
            (Query(shared(select("careca_store_recordings"), "pod"), "{{pod}}"),),
        ),
        Panel(
            "Free on the disk of the store",
            "Recordings are refused where the rest does not suffice for them.",
            "bytes",
            (Query(f"min by (pod) ({select('careca_store_free_bytes')})", "{{pod}}"),),
        ),
    ),
)

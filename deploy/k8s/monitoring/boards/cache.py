"""Whether the caches are there, what they hold and what they save."""

from __future__ import annotations

from monitoring.panels import (
    ANSWERS_LIMITS,
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

_BY_MODELS = 'stage=~"transcribe|diarize"'


def _hit_rate(*by: str) -> str:
    lookups = rate("careca_cache_requests_total", 'result=~"hit|miss"')
    return ratio(summed(rate("careca_cache_requests_total", 'result="hit"'), *by), summed(lookups, *by))


CACHE = Dashboard(
    uid="careca-cache",
    title="Careca / Cache",
    description="Whether the caches of results are there, what they hold, and what they save.",
    scope="careca_cache_entries",
    panels=(
        Panel(
            "Hit rate",
            "Share of all lookups in the time that is looked at that found a result. Requests that were told not to "
            "look are not counted.",
            "percentunit",
            (
                Query(
                    ratio(
                        summed(total("careca_cache_requests_total", 'result="hit"')),
                        summed(total("careca_cache_requests_total", 'result=~"hit|miss"')),
                    ),
                    "hit rate",
                ),
            ),
            kind="stat",
            limits=((None, RED), (0.1, YELLOW), (0.3, GREEN)),
            maximum=1,
        ),
        Panel(
            "Time saved",
            "How long the results took to compute that were answered out of the cache, or that were computed for "
            "another call at the same time, in the time that is looked at.",
            "s",
            (Query(summed(total("careca_cache_saved_seconds_total")), "saved"),),
            kind="stat",
        ),
        Panel(
            "Entries",
            "Results in the caches of all services.",
            "short",
            (Query(summed(shared(select("careca_cache_entries"), "namespace", "job")), "entries"),),
            kind="stat",
        ),
        Panel(
            "Redis",
            "Whether the Redis of the caches answers every replica. Where it does not, everything is computed anew.",
            "none",
            (Query(f"min({select('careca_cache_available')})", "Redis"),),
            kind="stat",
            limits=ANSWERS_LIMITS,
            words={0: "away", 1: "answers"},
        ),
        Panel(
            "Hit rate by service",
            "Share of lookups that found a result, of all replicas together.",
            "percentunit",
            (Query(_hit_rate("job"), "{{job}}"),),
            maximum=1,
        ),
        Panel(
            "Requests by result",
            "hit and miss part all lookups. coalesced and error say more of a miss: another call's computation "
            "answered it, or Redis did not answer. bypass was told not to look.",
            "reqps",
            (Query(summed(rate("careca_cache_requests_total"), "job", "result"), "{{job}} {{result}}"),),
            stacked=True,
        ),
        Panel(
            "Entries and their limit",
            "Results in the cache of each service. At the limit the one goes that was used least lately.",
            "short",
            (
                Query(shared(select("careca_cache_entries"), "job"), "{{job}}"),
                Query(shared(select("careca_cache_max_entries"), "job"), "{{job}} limit"),
            ),
        ),
        Panel(
            "Size",
            "Compressed bytes in the cache of each service.",
            "bytes",
            (Query(shared(select("careca_cache_size_bytes"), "job"), "{{job}}"),),
        ),
        Panel(
            "Entries removed by reason",
            "lru made room for others, expired was past its time, cleared was removed by an administrator or was of "
            "another model.",
            "ops",
            (Query(summed(rate("careca_cache_evictions_total"), "job", "reason"), "{{job}} {{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Time saved by service",
            "Seconds of computing that were not spent again, in each second: at 1 the cache does a model's work.",
            "none",
            (Query(summed(rate("careca_cache_saved_seconds_total"), "job"), "{{job}}"),),
        ),
        Panel(
            "Seconds to an answer",
            "What 95 % of the answers did not take longer than, with and without computing. Waiting is included.",
            "s",
            (
                Query(
                    quantile(0.95, "careca_stage_seconds", "job", labels=f'{_BY_MODELS}, cached="true"'),
                    "{{job}} from the cache",
                ),
                Query(
                    quantile(0.95, "careca_stage_seconds", "job", labels=f'{_BY_MODELS}, cached="false"'),
                    "{{job}} computed",
                ),
            ),
        ),
        Panel(
            "Redis answers",
            "1 while the Redis of the cache answers the service; the worst of its replicas.",
            "none",
            (Query(f"min by (job) ({select('careca_cache_available')})", "{{job}}"),),
            maximum=1,
        ),
    ),
)

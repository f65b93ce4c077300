"""Live sessions: how many there are, and how late their words are."""

from __future__ import annotations

from monitoring.panels import GREEN, RED, YELLOW, Dashboard, Panel, Query, quantile, rate, ratio, select, summed

LIVE = Dashboard(
    uid="careca-live",
    title="Careca / Live",
    description="Live sessions, how late their words are, and how often speakers are corrected.",
    scope="careca_live_sessions",
    panels=(
        Panel(
            "Sessions",
            "Live sessions that have not ended.",
            "short",
            (Query(summed(select("careca_live_sessions")), "sessions"),),
            kind="stat",
        ),
        Panel(
            "Furthest behind",
            "Audio that has not been read yet, of the session with the most. It grows if the models are too slow.",
            "s",
            (Query(f"max({select('careca_live_behind_seconds')})", "behind"),),
            kind="stat",
            limits=((None, GREEN), (3, YELLOW), (10, RED)),
        ),
        Panel(
            "Interim words",
            "Audio received after the end of the audio in which interim words were found: half of them and 95 %.",
            "s",
            (
                Query(quantile(0.5, "careca_live_interim_latency_seconds"), "half"),
                Query(quantile(0.95, "careca_live_interim_latency_seconds"), "95 %"),
            ),
        ),
        Panel(
            "Final words",
            "Audio received after final words had been spoken: half of them and 95 %.",
            "s",
            (
                Query(quantile(0.5, "careca_live_final_latency_seconds"), "half"),
                Query(quantile(0.95, "careca_live_final_latency_seconds"), "95 %"),
            ),
        ),
        Panel(
            "Words",
            "Final words in each second.",
            "ops",
            (Query(summed(rate("careca_live_words_total")), "words"),),
        ),
        Panel(
            "Corrected speakers",
            "Share of the final words whose speaker was corrected later.",
            "percentunit",
            (
                Query(
                    ratio(summed(rate("careca_live_corrected_words_total")), summed(rate("careca_live_words_total"))),
                    "corrected",
                ),
            ),
        ),
        Panel(
            "Continued calls",
            "Calls in each second that continued a session: connections broke, or a gateway was replaced.",
            "ops",
            (Query(summed(rate("careca_live_resumed_total")), "continued"),),
        ),
        Panel(
            "Windows in hand",
            "Windows of live audio that model services have in hand.",
            "short",
            (Query(summed(select("careca_live_windows"), "job"), "{{job}}"),),
            stacked=True,
        ),
    ),
)

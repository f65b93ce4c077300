"""What is held and what is given back."""

from __future__ import annotations

from monitoring.panels import GREEN, RED, YELLOW, Dashboard, Panel, Query, rate, select, summed, total

_OF_LIMIT = ((None, GREEN), (0.8, YELLOW), (0.9, RED))

MEMORY = Dashboard(
    uid="careca-memory",
    title="Careca / Memory",
    description="What processes and devices hold, and what they give back after each task and on request.",
    scope="careca_memory_rss_bytes",
    panels=(
        Panel(
            "Nearest to its limit",
            "The largest share of its memory limit that a pod holds.",
            "percentunit",
            (Query(f"max({select('careca_memory_rss_bytes')} / {select('careca_memory_limit_bytes')})", "share"),),
            kind="stat",
            limits=_OF_LIMIT,
            maximum=1,
        ),
        Panel(
            "Held",
            "Resident memory of all pods together, their child processes included.",
            "bytes",
            (Query(summed(select("careca_memory_rss_bytes")), "resident"),),
            kind="stat",
        ),
        Panel(
            "Given back",
            "Memory that cleanups gave back in the time that is looked at.",
            "bytes",
            (Query(summed(total("careca_memory_released_bytes_total")), "given back"),),
            kind="stat",
        ),
        Panel(
            "GPU memory held",
            "GPU memory that all processes hold together.",
            "bytes",
            (Query(summed(select("careca_gpu_memory_reserved_bytes")), "held"),),
            kind="stat",
        ),
        Panel(
            "Resident memory (RSS)",
            "What each pod's processes hold, shared pages included.",
            "bytes",
            (Query(summed(select("careca_memory_rss_bytes"), "pod"), "{{pod}}"),),
        ),
        Panel(
            "Memory of its own (USS)",
            "What each pod's processes would give back if they ended.",
            "bytes",
            (Query(summed(select("careca_memory_uss_bytes"), "pod"), "{{pod}}"),),
        ),
        Panel(
            "Share of the limit",
            "Resident memory over what the pod's container may hold. At 1 the kernel ends the process.",
            "percentunit",
            (
                Query(
                    f"{summed(select('careca_memory_rss_bytes'), 'pod')}"
                    f" / {summed(select('careca_memory_limit_bytes'), 'pod')}",
                    "{{pod}}",
                ),
            ),
            limits=_OF_LIMIT,
            maximum=1,
        ),
        Panel(
            "Models in memory",
            "1 while the models are loaded. They are dropped on request, with the whole cache, and after an idle time.",
            "none",
            (Query(f"min by (pod) ({select('careca_model_loaded')})", "{{pod}}"),),
            maximum=1,
        ),
        Panel(
            "Before and after tasks",
            "Resident memory before and after the last cleanup after a task. What is left is not meant to grow.",
            "bytes",
            (
                Query(
                    summed(select("careca_cleanup_memory_bytes", 'kind="ram", level="task"'), "pod", "moment"),
                    "{{pod}} {{moment}}",
                ),
            ),
        ),
        Panel(
            "Before and after tasks, GPU",
            "GPU memory that was held before and after the last cleanup that followed a task.",
            "bytes",
            (
                Query(
                    summed(select("careca_cleanup_memory_bytes", 'kind="gpu", level="task"'), "pod", "moment"),
                    "{{pod}} {{moment}}",
                ),
            ),
        ),
        Panel(
            "Given back by level",
            "Memory that cleanups gave back: task after each task, release when models are dropped too.",
            "Bps",
            (
                Query(
                    summed(rate("careca_memory_released_bytes_total", 'kind="ram"'), "job", "level"),
                    "{{job}} {{level}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Given back by level, GPU",
            "GPU memory that cleanups gave back.",
            "Bps",
            (
                Query(
                    summed(rate("careca_memory_released_bytes_total", 'kind="gpu"'), "job", "level"),
                    "{{job}} {{level}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "GPU memory",
            "What live data uses and what the process holds of its GPU.",
            "bytes",
            (
                Query(summed(select("careca_gpu_memory_allocated_bytes"), "pod"), "{{pod}} in use"),
                Query(summed(select("careca_gpu_memory_reserved_bytes"), "pod"), "{{pod}} held"),
            ),
        ),
        Panel(
            "Share of the GPU",
            "What is held of the GPU's memory, by the pod or by others. 0 without a GPU or before its use.",
            "percentunit",
            (
                Query(
                    f"{summed(select('careca_gpu_memory_used_bytes'), 'pod')}"
                    f" / clamp_min({summed(select('careca_gpu_memory_total_bytes'), 'pod')}, 1)",
                    "{{pod}}",
                ),
            ),
            limits=_OF_LIMIT,
            maximum=1,
        ),
        Panel(
            "Tasks out of memory",
            "Tasks that were too much for the memory of the device.",
            "ops",
            (Query(summed(rate("careca_out_of_memory_total"), "job"), "{{job}}"),),
        ),
    ),
)

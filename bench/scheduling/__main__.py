"""Measures how a model service divides its device among requests. Takes some minutes.

    simulated   the scheduler with a simulated GPU: throughput, and the order of mixed work
    real        the real stack: short recordings beside a long one
    timeline    draws docs/scheduling.svg from a run of the real transcriber

All ratios compare measurements of the same run. Without a part, all of them run, and docs/benchmarks.md is updated.
"""

from __future__ import annotations

import sys

from bench import REPOSITORY
from bench.common.harness import cleanly
from bench.common.report import measure
from bench.scheduling import real, simulated, timeline

PARTS = {"simulated": simulated.measure, "real": real.measure, "timeline": timeline.measure}


def main() -> int:
    """Runs the parts asked for."""
    return measure(PARTS, __doc__ or "", REPOSITORY / "docs" / "benchmarks.md", "scheduling")


if __name__ == "__main__":
    sys.exit(cleanly(main))

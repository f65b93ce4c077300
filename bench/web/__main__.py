"""How the web service serves results, uploads, event streams and pages: ``make bench-web``.

.venv/bin/python -m bench.web                  # everything; writes docs/benchmarks.md
.venv/bin/python -m bench.web results streams  # some of it; writes nothing
"""

from __future__ import annotations

import sys

from bench import REPOSITORY
from bench.common.harness import cleanly
from bench.common.report import Part, measure
from bench.web.pages import measure_pages
from bench.web.results import measure_results
from bench.web.streams import measure_streams
from bench.web.uploads import measure_uploads

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MARK = "web"

PARTS: dict[str, Part] = {
    "results": measure_results,
    "uploads": measure_uploads,
    "streams": measure_streams,
    "pages": measure_pages,
}


def main() -> int:
    """Measures and writes."""
    return measure(PARTS, __doc__ or "", DOCUMENT, MARK)


if __name__ == "__main__":
    sys.exit(cleanly(main))

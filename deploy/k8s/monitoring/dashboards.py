"""Writes the dashboards, which a test compares: ``cd deploy/k8s && python -m monitoring.dashboards``."""

from __future__ import annotations

import json
from pathlib import Path

from monitoring.boards.cache import CACHE
from monitoring.boards.jobs import JOBS
from monitoring.boards.live import LIVE
from monitoring.boards.memory import MEMORY
from monitoring.boards.service import SERVICE
from monitoring.boards.web import WEB
from monitoring.panels import Dashboard

FOLDER = Path(__file__).parent / "dashboards"

DASHBOARDS = {"cache": CACHE, "memory": MEMORY, "jobs": JOBS, "live": LIVE, "service": SERVICE, "web": WEB}
"""By the name of the file."""


def text_of(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard.to_json(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(text_of(dashboard))

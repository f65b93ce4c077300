"""Wraps ``rules/*.yaml``, which Prometheus and promtool read as they are, for the Prometheus operator.

``python deploy/k8s/monitoring/prometheus_rules.py`` writes prometheus-rules.yaml, a test compares.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

FOLDER = Path(__file__).parent
WRAPPED = FOLDER / "prometheus-rules.yaml"

_HEAD = "# Made of rules/ by prometheus_rules.py: change it there.\n"

_RULE = """\
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: careca-{name}
  labels:
    app.kubernetes.io/part-of: careca
spec:
"""


def rule_files() -> list[Path]:
    """The rules, one file for each topic."""
    return sorted((FOLDER / "rules").glob("*.yaml"))


def wrapped() -> str:
    """A PrometheusRule for each file, with the file as its ``spec``."""
    rules = (_RULE.format(name=file.stem) + textwrap.indent(file.read_text(), "  ") for file in rule_files())
    return _HEAD + "".join(rules)


if __name__ == "__main__":
    WRAPPED.write_text(wrapped())

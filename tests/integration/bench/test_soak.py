"""A part of ``make soak``: everything at once for a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import __main__ as soak


def test_everything_at_once_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes half a minute: one process of each service, each disturbance once, and a few pieces of work meanwhile."""
    monkeypatch.setattr(soak, "LOADS", (0.8,))
    plan = soak.Plan(
        minutes=0.25,
        seed=3,
        replicas=1,
        task_seconds=0.5,
        logs=tmp_path / "logs",
        settings={"CARECA_UPLOADS_RETENTION_SECONDS": "3"},
    )

    findings = soak.soak(plan)

    assert findings.faults == []
    assert sum(tally.done for tally in findings.work.tallies.values()) > 5
    assert set(findings.disturbances.counts.values()) == {1}
    text = soak.as_text(findings, "make soak")
    assert "| unexpected lines in logs | 0 | 0 | yes |" in text
    assert list(Path(tmp_path / "logs").glob("gateway-1.log"))

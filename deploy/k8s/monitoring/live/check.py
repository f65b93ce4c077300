"""Runs the real stack under a small load and checks that Prometheus sees all that rules and dashboards ask for.

``make monitoring-check`` runs it. With ``--pictures`` it draws what each panel shows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Mapping
from pathlib import Path

from careca_client import Client
from demo import sample
from local_stack import HOST, LocalStack, free_ports
from monitoring.dashboards import DASHBOARDS, FOLDER
from monitoring.live import evidence, load, pictures
from monitoring.live.prometheus import Prometheus
from monitoring.prometheus_tools import find

PICTURES = Path(__file__).resolve().parents[4] / "docs" / "monitoring"
MODEL = "whisper-tiny.en"
LENGTHS_SECONDS = (8, 15, 30)
PAUSE_SECONDS = 3.0


def main() -> int:
    """Returns 1 where something has nothing to show, or Prometheus complains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true", help=f"draw {PICTURES}/*.png too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="careca-monitoring-") as name:
        return _check(Path(name), draw=arguments.pictures)


def metrics_ports(stack: LocalStack) -> dict[str, int]:
    """Where each service of a stack serves its metrics."""
    return {name: getattr(stack.ports, f"{name}_metrics") for name in ("gateway", "web", "transcriber", "diarizer")}


def check_metrics(services: Mapping[str, int]) -> str:
    """What promtool finds wrong with what the services export; empty where it finds nothing."""
    complaints = []
    for service, port in services.items():
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as answer:
            text = answer.read()
        done = subprocess.run([find("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
        if done.returncode or done.stdout or done.stderr:
            complaints.append(f"{service}: {(done.stdout + done.stderr).decode()}")
    return "\n".join(complaints)


def _check(folder: Path, *, draw: bool) -> int:
    settings = dict(load.settings(folder)) | {"CARECA_WHISPER_MODEL": MODEL}
    (port,) = free_ports(1)
    with LocalStack(folder / "stack", environment=settings, web=True, announce=_tell) as stack:
        services = metrics_ports(stack)
        with Prometheus(folder / "prometheus", port, services) as prometheus, Client(stack.gateway_target) as client:
            since = time.time()
            load.run(client, stack.web_url, _recordings(folder), _tell, pause_seconds=PAUSE_SECONDS)
            found = evidence.findings_once_seen(prometheus, since)
            sick = evidence.sick_rules(prometheus)
            complaints = check_metrics(services)
            if draw:
                _draw(prometheus, since, time.time())
    _tell(evidence.report(found))
    for trouble in (*sick, complaints):
        if trouble:
            _tell(trouble)
    return int(bool(sick or complaints or any(each.wrong for each in found)))


def _recordings(folder: Path) -> list[Path]:
    """The first seconds of the sample, of several lengths."""
    files = []
    with wave.open(str(sample())) as source:
        for seconds in LENGTHS_SECONDS:
            source.rewind()
            files.append(folder / f"call-{seconds}s.wav")
            with wave.open(str(files[-1]), "wb") as target:
                target.setparams(source.getparams())
                target.writeframes(source.readframes(seconds * source.getframerate()))
    return files


def _draw(prometheus: Prometheus, start: float, end: float) -> None:
    PICTURES.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        board = json.loads((FOLDER / f"{name}.json").read_text())
        pictures.draw(board, prometheus, start, end, PICTURES / f"{name}.png")
        _tell(f"drawn: {PICTURES / name}.png")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

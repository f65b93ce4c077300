"""A Prometheus that scrapes services on this machine every second and evaluates the rules."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitoring.prometheus_rules import rule_files
from monitoring.prometheus_tools import find

HOST = "127.0.0.1"
NAMESPACE = "careca"
START_SECONDS = 240.0
ASK_SECONDS = 120.0

Series = list[tuple[Mapping[str, str], list[tuple[float, float]]]]
"""Labels, and values by time, of each answer to a question."""


class PrometheusError(Exception):
    """It did not start, does not see a service, or refused a question; the text says which."""


@dataclass
class Prometheus:
    """Started on ``port`` and stopped as a context, with its data and its log in ``folder``.

    ``services`` are the ports where each service serves its metrics. They are called here what they are called in a
    cluster: pod and job carry the service's name. Entering returns once all of them were scraped. Raises
    ``PrometheusError``, and ``monitoring.prometheus_tools.NoPrometheusError`` where there is none.
    """

    folder: Path
    port: int
    services: Mapping[str, int]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "prometheus.json"  # which is YAML too
        settings.write_text(json.dumps(self._settings()))
        command = [
            str(find("prometheus")),
            f"--config.file={settings}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        try:
            self._wait_until_all_are_scraped()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def values(self, expr: str, at: float) -> list[float]:
        """What each answer to a question is at a time, in seconds since 1970."""
        answers = self._ask("query", query=expr, time=at)["result"]
        return [float(answer["value"][1]) for answer in answers]

    def series(self, expr: str, start: float, end: float, step_seconds: float) -> Series:
        """What the answers were all the time."""
        answers = self._ask("query_range", query=expr, start=start, end=end, step=step_seconds)["result"]
        return [
            (answer["metric"], [(float(moment), float(value)) for moment, value in answer["values"]])
            for answer in answers
        ]

    def rules(self) -> list[dict[str, Any]]:
        """The rules with how they are."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    @property
    def _log(self) -> Path:
        return self.folder / "prometheus.log"

    def _settings(self) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in rule_files()],
            "scrape_configs": [
                {
                    "job_name": f"careca-{service}",
                    "static_configs": [
                        {
                            "targets": [f"{HOST}:{port}"],
                            "labels": {"namespace": NAMESPACE, "pod": f"{service}-0", "container": service},
                        }
                    ],
                }
                for service, port in self.services.items()
            ],
        }

    def _wait_until_all_are_scraped(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._sees_all():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                last = "\n  ".join(self._log.read_text(errors="replace").splitlines()[-10:])
                raise PrometheusError(f"Prometheus does not see all services; the end of its log:\n  {last}")
            time.sleep(0.2)

    def _sees_all(self) -> bool:
        try:
            return self.values("sum(up)", time.time()) == [float(len(self.services))]
        except (OSError, PrometheusError):  # it does not listen yet, or is still reading its data
            return False

    def _ask(self, what: str, **parameters: object) -> Any:
        url = f"http://{HOST}:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{what} {parameters}: {error.read().decode(errors='replace')}") from error

    def _stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

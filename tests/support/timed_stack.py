"""The stack on one machine, with model services that have no models: real processes, ready within seconds."""

from __future__ import annotations

import sys
from dataclasses import replace

from local_stack import TIMED_SERVICE, LocalStack, Part

TASK_SECONDS = "0.4"

PATIENT = {"CARECA_CACHE_TIMEOUT_SECONDS": "5", "CARECA_JOBS_REDIS_TIMEOUT_SECONDS": "240"}
"""Settings with which a busy machine is not taken for a Redis that is away, which is no fault that tests look for."""


class TimedStack(LocalStack):
    """Model services take a set time for each task and find the same in everything."""

    def service_environment(self, name: str) -> dict[str, str]:
        return PATIENT | super().service_environment(name)

    def service(self, name: str, service: str, port: int, **settings: str) -> Part:
        part = super().service(name, service, port, CARECA_TIMED_SECONDS=TASK_SECONDS, **settings)
        return (
            part if service in ("gateway", "web") else replace(part, command=[sys.executable, TIMED_SERVICE, service])
        )

"""What the benchmark runs on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import pynvml

from bench.system.results import Machine

_DISTRIBUTIONS = (
    "careca-gateway", "careca-transcriber", "careca-diarizer", "faster-whisper", "ctranslate2", "torch",
    "pyannote.audio", "grpcio", "pyannote.metrics", "meeteval", "jiwer", "whisper-normalizer",
)  # fmt: skip


def describe() -> Machine:
    """The machine and the versions in this environment."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release()}",
        versions={"python": platform.python_version(), **{name: version(name) for name in _DISTRIBUTIONS}},
    )


def revision(repository: Path) -> str:
    """The commit of ``repository``, with a plus sign where files differ from it; empty outside of git."""
    try:
        commit = _git(repository, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(repository, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _cpu() -> str:
    models = (
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    )
    return next(models, platform.processor() or platform.machine())


def _gpu() -> str:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        count = pynvml.nvmlDeviceGetCount()
        return ", ".join(str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i))) for i in range(count))
    finally:
        pynvml.nvmlShutdown()

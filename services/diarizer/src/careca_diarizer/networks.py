"""Both networks, ready to infer on a device."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from careca.errors import InternalError, OutOfMemory
from careca.telemetry.logs import get_logger
from careca_diarizer import conversion
from careca_diarizer.campplus import load_campplus
from careca_diarizer.runtime import Network, OnOpenVINO, OnTorch
from careca_diarizer.segmentation import load_segmentation

_log = get_logger(__name__)


def load_networks(
    segmentation: Path, embedding: Path, device: torch.device, *, threads: int
) -> tuple[Network, Network]:
    """The networks of two checkpoints; ``threads`` are those of a CPU.

    On a CPU they are converted by a process that ends: what it imports for that and leaves behind is 300 MiB of memory
    that no recording needs. Raises what ``convert_apart`` raises.
    """
    if device.type != "cpu":
        return OnTorch(load_segmentation(segmentation).to(device)), OnTorch(load_campplus(embedding).to(device))
    with TemporaryDirectory(prefix="careca-networks-") as name:
        folder = Path(name)
        convert_apart(segmentation, embedding, folder)
        return OnOpenVINO(folder / conversion.SEGMENTATION, threads), OnOpenVINO(folder / conversion.EMBEDDING, threads)


def convert_apart(segmentation: Path, embedding: Path, folder: Path) -> None:
    """Has a process write OpenVINO's models of the checkpoints into ``folder``, as ``conversion`` names them.

    Raises ``OutOfMemory`` where it is killed, ``InternalError`` where it fails.
    """
    command = [sys.executable, "-P", "-m", conversion.__name__, *map(str, (segmentation, embedding, folder))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - all of it is ours
    if done.returncode == -signal.SIGKILL:
        raise OutOfMemory("the networks were killed while they were converted, most likely for want of memory")
    if done.returncode:
        _log.error("the networks could not be converted", exit_code=done.returncode, output=done.stderr)
        raise InternalError(f"converting the networks ended with exit code {done.returncode}")

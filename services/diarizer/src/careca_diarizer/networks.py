"""Loads both networks on a device."""

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
from careca_diarizer.runtime import Network, OpenVINONetwork, TorchNetwork
from careca_diarizer.segmentation import load_segmentation

_log = get_logger(__name__)


def load_networks(
    segmentation: Path, embedding: Path, device: torch.device, *, threads: int
) -> tuple[Network, Network]:
    """Returns the networks of two checkpoints; ``threads`` is for a CPU.

    On a CPU, a subprocess converts them, because the conversion imports 300 MiB that are not needed later. Raises what
    ``convert_in_subprocess`` raises.
    """
    if device.type != "cpu":
        return TorchNetwork(load_segmentation(segmentation).to(device)), TorchNetwork(
            load_campplus(embedding).to(device)
        )
    with TemporaryDirectory(prefix="careca-networks-") as name:
        folder = Path(name)
        convert_in_subprocess(segmentation, embedding, folder)
        return OpenVINONetwork(folder / conversion.SEGMENTATION, threads), OpenVINONetwork(
            folder / conversion.EMBEDDING, threads
        )


def convert_in_subprocess(segmentation: Path, embedding: Path, folder: Path) -> None:
    """Converts the checkpoints to OpenVINO models in ``folder``, in a subprocess.

    Raises ``OutOfMemory`` if the subprocess is killed, ``InternalError`` if it fails.
    """
    command = [sys.executable, "-P", "-m", conversion.__name__, *map(str, (segmentation, embedding, folder))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    if done.returncode == -signal.SIGKILL:
        raise OutOfMemory("the conversion of the networks was killed, most likely because of too little memory")
    if done.returncode:
        _log.error("the networks could not be converted", exit_code=done.returncode, output=done.stderr)
        raise InternalError(f"the conversion of the networks ended with exit code {done.returncode}")

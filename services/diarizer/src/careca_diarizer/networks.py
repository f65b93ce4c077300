"""Loads both networks on a device."""

from __future__ import annotations

import hashlib
import inspect
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from careca.errors import InternalError, OutOfMemory
from careca.models import ModelStore
from careca.telemetry.logs import get_logger
from careca_diarizer import campplus, conversion, segmentation, windows
from careca_diarizer.campplus import load_campplus
from careca_diarizer.runtime import Network, OpenVINONetwork, TorchNetwork
from careca_diarizer.segmentation import load_segmentation

SEGMENTATION_MODEL = "segmentation-3.0"
EMBEDDING_MODEL = "campplus-zh-en"
"""The names of the models."""

_SHORT_DIGEST = 12

_log = get_logger(__name__)


def load_networks(store: ModelStore, device: torch.device, *, threads: int) -> tuple[Network, Network]:
    """Returns the segmentation and the embedding network; ``threads`` is for a CPU.

    On a CPU, a subprocess converts them, because the conversion imports 300 MiB that are not needed later. The store
    keeps what it makes. Raises ``PreconditionFailed`` if weights are missing or damaged, and what
    ``convert_in_subprocess`` raises.
    """
    segmentation_weights = store.verify(SEGMENTATION_MODEL) / "pytorch_model.bin"
    embedding_weights = store.verify(EMBEDDING_MODEL) / "campplus_cn_en_common.pt"
    if device.type != "cpu":
        return TorchNetwork(load_segmentation(segmentation_weights).to(device)), TorchNetwork(
            load_campplus(embedding_weights).to(device)
        )
    name = f"{store.digest_of(SEGMENTATION_MODEL)}+{store.digest_of(EMBEDDING_MODEL)}+{_converter()}"
    with store.derived(
        name, lambda folder: convert_in_subprocess(segmentation_weights, embedding_weights, folder)
    ) as folder:
        return OpenVINONetwork(folder / conversion.SEGMENTATION, threads), OpenVINONetwork(
            folder / conversion.EMBEDDING, threads
        )


def _converter() -> str:
    """Returns a short digest of everything else that a conversion depends on: our modules, and versions of packages."""
    digest = hashlib.sha256()
    for module in (conversion, campplus, segmentation, windows):
        digest.update(inspect.getsource(module).encode())
    for package in ("openvino", "pyannote.audio", "torch"):
        digest.update(f"{package}=={version(package)}\n".encode())
    return digest.hexdigest()[:_SHORT_DIGEST]


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

"""Loads both networks on a device."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from careca.errors import InternalError, OutOfMemory, PreconditionFailed
from careca.models import ModelStore
from careca.telemetry.logs import get_logger
from careca_diarizer.device import Device, torch_installed
from careca_diarizer.fbank import FilterBankFeatures
from careca_diarizer.runtime import CONVERTED_EMBEDDING, CONVERTED_SEGMENTATION, Networks, OpenVINONetwork

SEGMENTATION_MODEL = "segmentation-3.0"
EMBEDDING_MODEL = "campplus-zh-en"
"""The names of the models."""

_CONVERTER = "careca_diarizer.conversion"
_CONVERTER_FILES = ("conversion.py", "campplus.py", "pyannet.py", "windows.py")
"""The modules that change what a conversion writes."""

_SHORT_DIGEST = 12

_log = get_logger(__name__)


def load_networks(store: ModelStore, device: Device) -> Networks:
    """Returns the networks on the device.

    On a CPU these are the converted networks, for which no weights are needed. Raises ``PreconditionFailed`` if weights
    are missing or damaged, and what ``converted_networks`` raises.
    """
    if device.is_gpu:
        import torch

        from careca_diarizer.torch_networks import load_torch_networks

        return load_torch_networks(*_checkpoints(store), torch.device(device.name))
    with converted_networks(store) as folder, ThreadPoolExecutor(2) as threads:
        files = (folder / CONVERTED_SEGMENTATION, folder / CONVERTED_EMBEDDING)
        segmentation, embedding = threads.map(lambda file: OpenVINONetwork(file, device.threads), files)
        return Networks(segmentation, FilterBankFeatures(), embedding)


def converted_networks(store: ModelStore) -> AbstractContextManager[Path]:
    """Enters a folder with the networks in OpenVINO's format.

    The store keeps them. If it does not have them, they are converted, and kept if the store can be written. Raises
    ``PreconditionFailed`` if they are to be converted and torch or weights are missing, and what
    ``convert_in_subprocess`` raises.
    """
    return store.derived(_name_of_converted(store), lambda folder: _convert(store, folder))


def keep_converted_networks(store: ModelStore) -> Path:
    """Converts the networks unless the store has them, and returns their folder in the store.

    Raises ``OSError`` if the store cannot be written, and what ``converted_networks`` raises.
    """
    return store.keep_derived(_name_of_converted(store), lambda folder: _convert(store, folder))


def verify_networks(store: ModelStore, *, gpu: bool) -> None:
    """Checks that the networks can be loaded without a conversion. Raises ``PreconditionFailed`` if they cannot."""
    if gpu:
        _checkpoints(store)
        return
    with store.derived(_name_of_converted(store), lambda _: _refuse(store)):
        pass


def _name_of_converted(store: ModelStore) -> str:
    return f"{store.digest_of(SEGMENTATION_MODEL)}+{store.digest_of(EMBEDDING_MODEL)}+{_converter()}"


def _convert(store: ModelStore, folder: Path) -> None:
    if not torch_installed():
        _refuse(store)
    convert_in_subprocess(*_checkpoints(store), folder)


def _refuse(store: ModelStore) -> NoReturn:
    command = "python -m careca_diarizer.models convert"
    raise PreconditionFailed(
        f"The networks in {store.root} are not converted for OpenVINO, or not by this version, or damaged. Run `python "
        f"-m careca.models pull` and `{command}` where careca-diarizer[pyannote] is installed, as in the image whose "
        "tag ends in -pyannote.",
        reason="MODEL_NOT_CONVERTED",
        metadata={"command": command},
    )


def convert_in_subprocess(segmentation: Path, embedding: Path, folder: Path) -> None:
    """Converts the checkpoints to OpenVINO models in ``folder``.

    A subprocess does it, because the conversion imports 300 MiB that are not needed later.

    Raises ``OutOfMemory`` if the subprocess is killed, ``InternalError`` if it fails.
    """
    command = [sys.executable, "-P", "-m", _CONVERTER, *map(str, (segmentation, embedding, folder))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    if done.returncode == -signal.SIGKILL:
        raise OutOfMemory("the conversion of the networks was killed, most likely because of too little memory")
    if done.returncode:
        _log.error("the networks could not be converted", exit_code=done.returncode, output=done.stderr)
        raise InternalError(f"the conversion of the networks ended with exit code {done.returncode}")


def _checkpoints(store: ModelStore) -> tuple[Path, Path]:
    """Returns the verified checkpoints of the segmentation and of the embedding."""
    return (
        store.verify(SEGMENTATION_MODEL) / "pytorch_model.bin",
        store.verify(EMBEDDING_MODEL) / "campplus_cn_en_common.pt",
    )


def _converter() -> str:
    """Returns a short digest of what else a conversion depends on: our modules, and the version of OpenVINO.

    The version of torch is not part of it. It is not known where the networks are used, and only describes their
    layers; the numbers are those of the weights.
    """
    digest = hashlib.sha256(f"openvino=={version('openvino')}\n".encode())
    for name in _CONVERTER_FILES:
        digest.update(resources.files("careca_diarizer").joinpath(name).read_bytes())
    return digest.hexdigest()[:_SHORT_DIGEST]

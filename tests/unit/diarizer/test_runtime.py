"""Networks give the results of torch, with any batch size."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from careca.errors import InternalError, OutOfMemory
from careca.models import ModelStore
from careca_diarizer import networks
from careca_diarizer.campplus import MEL_BINS, load_campplus
from careca_diarizer.conversion import EMBEDDING, SEGMENTATION
from careca_diarizer.networks import convert_in_subprocess
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.runtime import Network, OpenVINONetwork, import_openvino
from careca_diarizer.segmentation import SegmentationNetwork, load_segmentation
from careca_diarizer.windows import WINDOW_SAMPLES
from support.weights import model_folder

pytestmark = pytest.mark.models


def checkpoints() -> tuple[Path, Path]:
    return (
        model_folder("segmentation-3.0") / "pytorch_model.bin",
        model_folder("campplus-zh-en") / "campplus_cn_en_common.pt",
    )


@dataclass
class Prepared:
    """A network in torch, an input, and the path of its OpenVINO model."""

    module: nn.Module
    inputs: Tensor
    file: Path

    @cached_property
    def compute(self) -> Network:
        """The model, ready to infer with one thread."""
        return OpenVINONetwork(self.file, threads=1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert_in_subprocess(*checkpoints(), folder)
    return folder


def segmentation(converted: Path) -> Prepared:
    inputs = 0.1 * torch.randn(3, 1, WINDOW_SAMPLES)
    return Prepared(load_segmentation(checkpoints()[0]), inputs, converted / SEGMENTATION)


def campplus(converted: Path) -> Prepared:
    return Prepared(load_campplus(checkpoints()[1]), torch.randn(3, 150, MEL_BINS), converted / EMBEDDING)


@pytest.fixture(scope="module", params=[campplus, segmentation])
def prepared(request: pytest.FixtureRequest, converted: Path) -> Prepared:
    torch.manual_seed(1)
    found: Prepared = request.param(converted)
    return found


def test_a_compiled_network_computes_what_torch_does(prepared: Prepared) -> None:
    with torch.inference_mode():
        expected = prepared.module(prepared.inputs)

    assert torch.allclose(prepared.compute(prepared.inputs), expected, rtol=1e-4, atol=1e-4)


def test_threads_and_other_items_of_a_batch_do_not_change_a_bit(prepared: Prepared) -> None:
    one, inputs = prepared.compute, prepared.inputs
    two = OpenVINONetwork(prepared.file, threads=2)

    together = one(inputs)

    assert torch.equal(together, two(inputs))
    assert all(torch.equal(one(inputs[index : index + 1])[0], together[index]) for index in range(3))


@pytest.mark.parametrize("prepared", [campplus], indirect=True)
@pytest.mark.parametrize("frames", [50, 100, 150, 200, 250, 300, 350])
def test_the_embedding_network_accepts_pieces_of_any_length(frames: int, prepared: Prepared) -> None:
    inputs = torch.randn(2, frames, MEL_BINS)
    with torch.inference_mode():
        expected = prepared.module(inputs)

    assert torch.allclose(prepared.compute(inputs), expected, rtol=1e-4, atol=1e-4)


def test_the_layers_compute_what_pyannotes_own_network_does() -> None:
    model = import_pyannote().Model.from_pretrained(checkpoints()[0]).eval()
    inputs = 0.1 * torch.randn(1, 1, WINDOW_SAMPLES)
    with torch.inference_mode():
        expected = model(inputs)
        assert torch.equal(SegmentationNetwork(model)(inputs), expected)


def test_a_network_whose_memory_was_released_computes_the_same(prepared: Prepared) -> None:
    before = prepared.compute(prepared.inputs)

    prepared.compute.release()

    assert torch.equal(prepared.compute(prepared.inputs), before)


def test_networks_are_converted_again_only_if_something_changes(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path)
    for name in ("segmentation-3.0", "campplus-zh-en"):
        (tmp_path / name).symlink_to(model_folder(name))
    conversions: list[Path] = []

    def convert(segmentation: Path, embedding: Path, folder: Path) -> None:
        assert (segmentation.is_file(), embedding.is_file()) == (True, True)
        conversions.append(folder)
        shutil.copytree(converted, folder, dirs_exist_ok=True)

    monkeypatch.setattr(networks, "convert_in_subprocess", convert)

    def results() -> list[Tensor]:
        segment, embed = networks.load_networks(store, torch.device("cpu"), threads=1)
        return [segment(torch.ones(1, 1, WINDOW_SAMPLES)), embed(torch.ones(1, 150, MEL_BINS))]

    first, second = results(), results()
    assert len(conversions) == 1
    assert all(map(torch.equal, first, second))

    monkeypatch.setattr(networks, "version", lambda package: "9.9" if package == "openvino" else "1.0")
    results()
    assert len(conversions) == 2


@pytest.mark.parametrize(("end", "error"), [("exit 1", InternalError), ("kill -KILL $$", OutOfMemory)])
def test_a_conversion_that_fails_or_is_killed_is_an_error(
    end: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{end}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    with pytest.raises(error):
        convert_in_subprocess(tmp_path / "one", tmp_path / "other", tmp_path)


def test_the_telemetry_of_openvino_is_off() -> None:
    import_openvino()

    assert sys.modules["openvino_telemetry"] is None

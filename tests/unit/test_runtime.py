"""Networks are computed as torch computes them, the same however many at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from careca_diarizer.campplus import MEL_BINS, load_campplus
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.runtime import Network, prepare_network
from careca_diarizer.segmentation import SegmentationNetwork
from careca_diarizer.windows import WINDOW_SAMPLES
from weights import model_folder

CPU = torch.device("cpu")

pytestmark = pytest.mark.models


def campplus() -> tuple[nn.Module, Tensor]:
    return load_campplus(model_folder("campplus-zh-en") / "campplus_cn_en_common.pt"), torch.randn(3, 150, MEL_BINS)


def segmentation() -> tuple[nn.Module, Tensor]:
    model = import_pyannote().Model.from_pretrained(model_folder("segmentation-3.0") / "pytorch_model.bin")
    return SegmentationNetwork(model).eval(), 0.1 * torch.randn(3, 1, WINDOW_SAMPLES)


@dataclass(frozen=True)
class Prepared:
    """A network, what it is given, and the same compiled, which takes seconds: for one thread."""

    module: nn.Module
    inputs: Tensor
    compute: Network


@pytest.fixture(scope="module", params=[campplus, segmentation])
def prepared(request: pytest.FixtureRequest) -> Prepared:
    torch.manual_seed(1)
    module, inputs = request.param()
    return Prepared(module, inputs, prepare_network(module, inputs[:1], CPU, threads=1))


def test_a_compiled_network_computes_what_torch_does(prepared: Prepared) -> None:
    with torch.inference_mode():
        expected = prepared.module(prepared.inputs)

    assert torch.allclose(prepared.compute(prepared.inputs), expected, rtol=1e-4, atol=1e-4)


def test_threads_and_what_else_is_in_a_batch_change_no_bit(prepared: Prepared) -> None:
    one, inputs = prepared.compute, prepared.inputs
    two = prepare_network(prepared.module, inputs[:1], CPU, threads=2)

    together = one(inputs)

    assert torch.equal(together, two(inputs))
    assert all(torch.equal(one(inputs[index : index + 1])[0], together[index]) for index in range(3))


@pytest.mark.parametrize("prepared", [campplus], indirect=True)
@pytest.mark.parametrize("frames", [50, 100, 150, 200, 250, 300, 350])
def test_the_network_that_knows_voices_takes_pieces_of_any_length(frames: int, prepared: Prepared) -> None:
    inputs = torch.randn(2, frames, MEL_BINS)
    with torch.inference_mode():
        expected = prepared.module(inputs)

    assert torch.allclose(prepared.compute(inputs), expected, rtol=1e-4, atol=1e-4)


def test_the_layers_compute_what_pyannotes_own_network_does() -> None:
    model = import_pyannote().Model.from_pretrained(model_folder("segmentation-3.0") / "pytorch_model.bin").eval()
    inputs = 0.1 * torch.randn(1, 1, WINDOW_SAMPLES)
    with torch.inference_mode():
        expected = model(inputs)
        assert torch.equal(SegmentationNetwork(model)(inputs), expected)


def test_a_network_whose_memory_was_released_computes_the_same(prepared: Prepared) -> None:
    before = prepared.compute(prepared.inputs)

    prepared.compute.release()

    assert torch.equal(prepared.compute(prepared.inputs), before)


@pytest.mark.usefixtures("prepared")
def test_nothing_is_reported_to_the_makers_of_the_runtime() -> None:
    assert sys.modules["openvino_telemetry"] is None

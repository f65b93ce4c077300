"""Networks give the results of torch, with any batch size, and need no torch on a CPU."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from careca.errors import InternalError, OutOfMemory, PreconditionFailed
from careca.models import ModelStore
from careca.settings import ModelServiceSettings
from careca.types import SAMPLE_RATE
from careca_diarizer import models, networks
from careca_diarizer.campplus import load_campplus
from careca_diarizer.device import CPU
from careca_diarizer.fbank import FilterBankFeatures
from careca_diarizer.networks import convert_in_subprocess
from careca_diarizer.pyannet import SegmentationNetwork, load_segmentation
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.runtime import (
    CONVERTED_EMBEDDING,
    CONVERTED_SEGMENTATION,
    EMBEDDING_SIZE,
    MEL_BINS,
    Floats,
    Network,
    OpenVINONetwork,
    import_openvino,
)
from careca_diarizer.torch_networks import load_torch_networks
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
    inputs: Floats
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


def noise(*shape: int) -> Floats:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def in_torch(module: nn.Module, inputs: Floats) -> Floats:
    with torch.inference_mode():
        outputs: Floats = module(torch.from_numpy(inputs)).numpy()
    return outputs


def segmentation(converted: Path) -> Prepared:
    inputs = 0.1 * noise(7, 1, WINDOW_SAMPLES)
    return Prepared(load_segmentation(checkpoints()[0]), inputs, converted / CONVERTED_SEGMENTATION)


def campplus(converted: Path) -> Prepared:
    return Prepared(load_campplus(checkpoints()[1]), noise(7, 150, MEL_BINS), converted / CONVERTED_EMBEDDING)


@pytest.fixture(scope="module", params=[campplus, segmentation])
def prepared(request: pytest.FixtureRequest, converted: Path) -> Prepared:
    found: Prepared = request.param(converted)
    return found


def test_a_compiled_network_computes_what_torch_does(prepared: Prepared) -> None:
    expected = in_torch(prepared.module, prepared.inputs)

    assert np.allclose(prepared.compute(prepared.inputs), expected, rtol=1e-4, atol=1e-4)


def test_threads_and_other_items_of_a_batch_do_not_change_a_bit(prepared: Prepared) -> None:
    one, inputs = prepared.compute, prepared.inputs
    two = OpenVINONetwork(prepared.file, threads=2)

    together = one(inputs)

    assert np.array_equal(together, two(inputs))
    assert all(np.array_equal(one(inputs[index : index + 1])[0], together[index]) for index in range(7))


@pytest.mark.parametrize("prepared", [campplus], indirect=True)
@pytest.mark.parametrize("frames", [50, 100, 150, 200, 250, 300, 350])
def test_the_embedding_network_accepts_pieces_of_any_length(frames: int, prepared: Prepared) -> None:
    inputs = noise(2, frames, MEL_BINS)

    assert np.allclose(prepared.compute(inputs), in_torch(prepared.module, inputs), rtol=1e-4, atol=1e-4)


def test_networks_in_torch_compute_the_same_as_those_in_openvino(converted: Path) -> None:
    """As on a GPU, but on the CPU."""
    networks_in_torch = load_torch_networks(*checkpoints(), torch.device("cpu"))
    segment, embed = (OpenVINONetwork(converted / file, 1) for file in (CONVERTED_SEGMENTATION, CONVERTED_EMBEDDING))
    windows = 0.1 * noise(2, 1, WINDOW_SAMPLES)
    cuts = [0.1 * noise(SAMPLE_RATE), 0.1 * noise(SAMPLE_RATE // 2)]

    scores = networks_in_torch.segmentation(windows)
    embeddings = networks_in_torch.embedding(networks_in_torch.features(cuts, 100))

    assert np.allclose(scores, segment(windows), atol=1e-3)
    assert np.allclose(embeddings, embed(FilterBankFeatures()(cuts, 100)), atol=1e-3)


def test_the_layers_compute_what_pyannotes_own_network_does() -> None:
    model = import_pyannote().Model.from_pretrained(checkpoints()[0]).eval()
    inputs = torch.from_numpy(0.1 * noise(1, 1, WINDOW_SAMPLES))
    with torch.inference_mode():
        expected = model(inputs)
        assert torch.equal(SegmentationNetwork(model)(inputs), expected)


def test_a_network_whose_memory_was_released_computes_the_same(prepared: Prepared) -> None:
    before = prepared.compute(prepared.inputs)

    prepared.compute.release()

    assert np.array_equal(prepared.compute(prepared.inputs), before)


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

    def results() -> list[Floats]:
        loaded = networks.load_networks(store, CPU(ModelServiceSettings(threads=1)))
        return [loaded.segmentation(noise(1, 1, WINDOW_SAMPLES)), loaded.embedding(noise(1, 150, MEL_BINS))]

    first, second = results(), results()
    assert len(conversions) == 1
    assert all(map(np.array_equal, first, second))

    monkeypatch.setattr(networks, "version", lambda _package: "9.9")
    results()
    assert len(conversions) == 2


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with weights, and without converted networks."""
    for name in ("segmentation-3.0", "campplus-zh-en"):
        (tmp_path / "models" / name).mkdir(parents=True)
        for file in model_folder(name).iterdir():
            (tmp_path / "models" / name / file.name).symlink_to(file)
    return ModelStore(tmp_path / "models")


@pytest.fixture
def command(store: ModelStore, converted: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Runs ``python -m careca_diarizer.models`` on the store. Its conversion takes no time."""
    monkeypatch.setenv("CARECA_MODELS_DIR", str(store.root))
    monkeypatch.setattr(
        networks, "convert_in_subprocess", lambda *paths: shutil.copytree(converted, paths[-1], dirs_exist_ok=True)
    )
    return lambda name: models.main([name])


def test_networks_are_converted_by_a_command_and_then_need_no_torch_and_no_weights(
    store: ModelStore, command: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("verify") == 1
    assert command("convert") == 0

    monkeypatch.setattr(networks, "torch_installed", lambda: False)
    shutil.rmtree(store.root / "campplus-zh-en")
    assert command("verify") == 0
    loaded = networks.load_networks(store, CPU(ModelServiceSettings(threads=1)))
    assert loaded.embedding(noise(1, 50, MEL_BINS)).shape == (1, EMBEDDING_SIZE)


def test_without_torch_and_converted_networks_an_error_names_the_command(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "torch_installed", lambda: False)

    with pytest.raises(PreconditionFailed, match=r"models convert.*careca-diarizer\[pyannote\]") as caught:
        networks.load_networks(store, CPU(ModelServiceSettings()))

    assert caught.value.reason == "MODEL_NOT_CONVERTED"
    assert not (store.root / "derived").exists()


def test_damaged_networks_are_refused(store: ModelStore, command: Callable[[str], int]) -> None:
    assert command("convert") == 0
    (weights,) = store.root.glob("derived/*/embedding.bin")
    weights.write_bytes(b"0" * weights.stat().st_size)

    assert command("verify") == 1
    assert command("convert") == 0
    assert command("verify") == 0


def test_with_a_gpu_the_weights_are_verified(
    store: ModelStore, command: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARECA_DEVICE", "cuda")

    assert command("verify") == 0
    (store.root / "campplus-zh-en" / "campplus_cn_en_common.pt").unlink()
    assert command("verify") == 1


def test_networks_that_cannot_be_kept_fail_the_command(
    store: ModelStore, command: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    (store.root / "derived").touch()

    assert command("convert") == 1
    assert "cannot be used" in capsys.readouterr().err


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

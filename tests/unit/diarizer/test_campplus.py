"""The speaker embedding network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import Progress, Stage
from careca_diarizer.campplus import CAMPPlus, load_campplus
from careca_diarizer.conversion import convert
from careca_diarizer.embedding import Embedder
from careca_diarizer.fbank import FilterBankFeatures
from careca_diarizer.runtime import EMBEDDING_SIZE, MEL_BINS, OpenVINONetwork
from careca_diarizer.stitching import Piece
from careca_diarizer.windows import FRAMES_PER_SECOND
from support.calls import phone_call, phone_call_turns
from support.weights import model_folder


@pytest.fixture(scope="module")
def weights() -> Path:
    return model_folder("campplus-zh-en") / "campplus_cn_en_common.pt"


@pytest.fixture(scope="module")
def network(weights: Path) -> CAMPPlus:
    return load_campplus(weights)


@pytest.fixture(scope="module")
def embedder(network: CAMPPlus) -> Embedder:
    compiled = OpenVINONetwork(convert(network, torch.zeros(1, 100, MEL_BINS)), threads=2)
    return Embedder(FilterBankFeatures(), compiled, batch_size=4)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def piece(start: float, end: float) -> Piece:
    return Piece(0, ((round(start * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND)),), clean=True)


def embed(embedder: Embedder, audio: Audio, pieces: list[Piece]) -> np.ndarray:
    return complete(embedder(audio, pieces, lambda fraction: Progress(Stage.DIARIZE, fraction))).embeddings


def test_the_network_has_the_size_that_its_paper_states() -> None:
    """7.18 million parameters, with embeddings of 512 dimensions."""
    parameters = sum(parameter.numel() for parameter in CAMPPlus().parameters())

    last_layer_inputs = 1024
    assert parameters + (512 - EMBEDDING_SIZE) * last_layer_inputs == pytest.approx(7.18e6, rel=0.001)


@pytest.mark.models
def test_the_published_weights_fit_the_network_to_the_last_name(network: CAMPPlus) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.models
def test_weights_of_another_network_are_refused(tmp_path: Path, network: CAMPPlus) -> None:
    state = network.state_dict()
    state.pop("head.conv1.weight")
    torch.save(state, tmp_path / "other.pt")

    with pytest.raises(RuntimeError, match=r"head\.conv1\.weight"):
        load_campplus(tmp_path / "other.pt")


@pytest.mark.models
@pytest.mark.parametrize("frames", [50, 100, 199, 201, 350])
def test_any_length_gives_one_embedding_each(network: CAMPPlus, frames: int) -> None:
    with torch.inference_mode():
        embeddings = network(noise(2, frames, MEL_BINS))

    assert embeddings.shape == (2, EMBEDDING_SIZE)
    assert embeddings.isfinite().all()


@pytest.mark.models
def test_the_other_items_of_a_batch_do_not_change_the_result(network: CAMPPlus) -> None:
    features = noise(3, 150, MEL_BINS)

    with torch.inference_mode():
        alone, together = network(features[1:2]), network(features)[1:2]

    assert torch.allclose(alone, together, atol=1e-4)


@pytest.mark.models
def test_two_pieces_of_one_person_are_more_similar_than_pieces_of_two(embedder: Embedder) -> None:
    turns = [turn for turn in phone_call_turns() if turn.end - turn.start > 1.5]

    voices = embed(embedder, phone_call(), [piece(turn.start, turn.end) for turn in turns])

    cosine = voices @ voices.T
    same = np.array([[one.speaker == other.speaker for other in turns] for one in turns])
    between = cosine[same & ~np.eye(len(turns), dtype=bool)]
    assert between.size
    assert between.mean() > cosine[~same].mean() + 0.2


@pytest.mark.models
def test_pieces_are_embedded_in_their_order_whatever_their_lengths(embedder: Embedder) -> None:
    call = phone_call()
    pieces = [piece(7, 7.2), piece(8, 11.4), piece(9, 10), piece(7, 7.7), piece(20, 23), piece(24, 24.6)]

    together = embed(embedder, call, pieces)

    alone = np.concatenate([embed(embedder, call, [one]) for one in pieces])
    assert np.abs(together - alone).max() < 1e-3
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


@pytest.mark.models
def test_without_pieces_there_are_no_voices(embedder: Embedder) -> None:
    assert embed(embedder, phone_call(), []).shape == (0, EMBEDDING_SIZE)

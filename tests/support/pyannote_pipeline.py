"""A whole diarization pipeline of pyannote.audio in a folder, as one is pulled from the Hugging Face hub.

It is pyannote's own pipeline with the published segmentation model. In place of an embedding model that only the hub
has, it holds CAM++ as a model of pyannote's; pyannote finds this class by the name of its module.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from careca_diarizer.campplus import load_campplus
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.runtime import EMBEDDING_SIZE
from careca_diarizer.torch_networks import TorchFilterBank

pyannote_audio = import_pyannote()

from pyannote.audio.core.task import Problem, Resolution, Specifications  # noqa: E402 - telemetry must be off first

_SHORTEST_CUT_SAMPLES = 800


class CAMPPlusModel(pyannote_audio.Model):  # type: ignore[misc, name-defined]
    """Embeddings of those parts of each waveform whose weight is not zero."""

    def __init__(self, weights: str = "", sample_rate: int = 16_000, num_channels: int = 1) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels)
        self.save_hyperparameters("weights")
        self.network = load_campplus(Path(weights))
        self.filter_bank = TorchFilterBank(torch.device("cpu"))

    @property
    def dimension(self) -> int:
        return EMBEDDING_SIZE

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, 1, samples) and perhaps (batch, frames) -> (batch, 192)."""
        masks = torch.ones(len(waveforms), 1) if weights is None else weights
        return torch.stack([self._embed(wave[0], mask) for wave, mask in zip(waveforms, masks, strict=True)])

    def _embed(self, samples: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        frame = torch.arange(len(samples)) * len(mask) // len(samples)
        cut = samples[mask[frame] > 0.5]
        if len(cut) < _SHORTEST_CUT_SAMPLES:
            return torch.full((EMBEDDING_SIZE,), torch.nan)
        features = self.filter_bank(cut)
        embedding: torch.Tensor = self.network((features - features.mean(dim=0))[None])[0]
        return embedding


def write_pipeline(folder: Path, segmentation: Path, campplus: Path) -> None:
    """Writes the pipeline's models and its configuration, in the part of YAML that is JSON."""
    for name in ("segmentation", "embedding", "plda"):
        (folder / name).mkdir(parents=True)
    shutil.copy(segmentation / "pytorch_model.bin", folder / "segmentation")
    _write_embedding(folder / "embedding" / "pytorch_model.bin", campplus / "campplus_cn_en_common.pt")
    _write_plda(folder / "plda")
    (folder / "config.yaml").write_text(json.dumps(_CONFIG))


_CONFIG = {
    "pipeline": {
        "name": "pyannote.audio.pipelines.SpeakerDiarization",
        "params": {
            "segmentation": "$model/segmentation",
            "segmentation_step": 0.2,
            "embedding": "$model/embedding",
            "embedding_exclude_overlap": True,
            "plda": "$model/plda",
            "clustering": "AgglomerativeClustering",
            "segmentation_batch_size": 4,
            "embedding_batch_size": 4,
        },
    },
    "params": {
        "segmentation": {"min_duration_off": 0.0},
        "clustering": {"method": "average", "min_cluster_size": 2, "threshold": 0.5},
    },
}


def _write_embedding(path: Path, weights: Path) -> None:
    model = CAMPPlusModel(weights=str(weights))
    model.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=10.0, classes=None
    )
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.0.0",
    }
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)


def _write_plda(folder: Path) -> None:
    """Files that pyannote reads whatever the clustering, and that this clustering does not use."""
    identity, zeros = np.eye(EMBEDDING_SIZE), np.zeros(EMBEDDING_SIZE)
    np.savez(folder / "xvec_transform.npz", mean1=zeros, mean2=zeros, lda=identity)
    np.savez(folder / "plda.npz", mu=zeros, tr=identity, psi=np.ones(EMBEDDING_SIZE))

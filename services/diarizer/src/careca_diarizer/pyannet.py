"""The network of pyannote's segmentation-3.0 in torch.

Source: Plaquet and Bredin, "Powerset multi-class cross entropy loss for neural speaker diarization", Interspeech 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from careca_diarizer.pyannote_setup import import_pyannote


def load_segmentation(checkpoint: Path) -> SegmentationNetwork:
    """Returns the network on the CPU, ready to infer.

    pyannote.audio unpickles the checkpoint, which can run code in it, so ``checkpoint`` must be verified.
    """
    network = SegmentationNetwork(import_pyannote().Model.from_pretrained(checkpoint))
    return network.eval().requires_grad_(requires_grad=False)


class SegmentationNetwork(nn.Module):
    """The layers of pyannote's ``PyanNet`` without the training framework, so that they can be traced.

    ``PyanNet`` computes the filters of the first layer at each call; here they are computed once.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.sincnet, self.lstm, self.linear = model.sincnet, model.lstm, model.linear
        self.classifier, self.activation = model.classifier, model.activation
        sinc = self.sincnet.conv1d[0]
        with torch.no_grad():
            filters = sinc.filterbank.filters()
        fixed = nn.Conv1d(1, len(filters), filters.shape[-1], stride=sinc.filterbank.stride, bias=False)
        fixed.weight.data = filters
        self.sincnet.conv1d[0] = fixed

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the log probability of each class: (B, 1, samples) -> (B, frames, 7)."""
        features, _ = self.lstm(self.sincnet(waveforms).transpose(1, 2))
        for layer in self.linear:
            features = functional.leaky_relu(layer(features))
        scores: Tensor = self.activation(self.classifier(features))
        return scores

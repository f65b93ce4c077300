"""Both networks and the filter bank in torch, on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from careca_diarizer.campplus import load_campplus
from careca_diarizer.fbank import (
    FFT_SIZE,
    FLOOR,
    FRAME_SAMPLES,
    FRAME_STEP_SAMPLES,
    PREEMPHASIS,
    mel_bands,
    povey_window,
)
from careca_diarizer.pyannet import load_segmentation
from careca_diarizer.runtime import Floats, Networks


def load_torch_networks(segmentation: Path, embedding: Path, device: torch.device) -> Networks:
    """Returns the networks of both checkpoints, which must be verified."""
    return Networks(
        segmentation=TorchNetwork(load_segmentation(segmentation), device),
        features=TorchFeatures(device),
        embedding=TorchNetwork(load_campplus(embedding), device),
    )


class TorchNetwork:
    """A network in torch. torch's allocator releases memory for all networks at once."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Moves ``module`` to the device."""
        self._module = module.to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, inputs: Any) -> Floats:
        """See ``Network``."""
        outputs: Floats = self._module(torch.as_tensor(inputs, device=self._device)).cpu().numpy()
        return outputs

    def release(self) -> None:
        """Does nothing."""


class TorchFeatures:
    """``Features`` on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._filter_bank = TorchFilterBank(device)

    @torch.inference_mode()
    def __call__(self, cuts: Sequence[Floats], length: int) -> Tensor:
        """See ``Features``."""
        return torch.stack([self._fitted(torch.as_tensor(cut, device=self._device), length) for cut in cuts])

    def _fitted(self, cut: Tensor, length: int) -> Tensor:
        energies = self._filter_bank(cut)
        return (energies - energies.mean(dim=0))[torch.arange(length, device=self._device) % len(energies)]


class TorchFilterBank:
    """Samples to log mel energies: ``fbank.FilterBank`` on one device."""

    def __init__(self, device: torch.device) -> None:
        self._bands = torch.as_tensor(mel_bands(), device=device)
        self._window = torch.as_tensor(povey_window(), device=device)

    def __call__(self, samples: Tensor) -> Tensor:
        """Returns log energies of ``samples`` in [-1, 1): (..., samples) -> (..., frames, 80); whole frames only."""
        frames = samples.unfold(-1, FRAME_SAMPLES, FRAME_STEP_SAMPLES)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = functional.pad(frames[..., :-1], (1, 0))
        previous[..., 0] = frames[..., 0]
        frames = (frames - PREEMPHASIS * previous) * self._window
        power = torch.fft.rfft(frames, n=FFT_SIZE).abs().square()
        energies: Tensor = power @ self._bands
        return energies.clamp(min=FLOOR).log()

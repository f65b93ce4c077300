"""CAM++: a speaker embedding network with context-aware masking.

Source: Wang, Zheng, Chen, Cheng and Chen, "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking", Interspeech 2023. A two-dimensional convolutional head (FCM) over the filter bank is followed by
three densely connected blocks of time-delay layers (D-TDNN), each layer masked by a context of the whole input and of
segments of it, by pooling of mean and standard deviation over time, and by one linear layer.

Submodules have the names in the published weights, so that these load strictly. B is the batch, T frames of 10 ms.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from careca_diarizer.runtime import EMBEDDING_SIZE, MEL_BINS

_HEAD_CHANNELS = 32
_TDNN_CHANNELS = 128
_GROWTH = 32
_BOTTLENECK_CHANNELS = 4 * _GROWTH
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each D-TDNN block."""

_CONTEXT_FRAMES = 100
"""Frames of a segment, whose mean is the local part of the context; one frame is 20 ms here."""


class CAMPPlus(nn.Module):
    """Filter banks to speaker embeddings: (B, T, 80) -> (B, 192)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["tdnn"] = _TDNNLayer(self.head.out_channels, _TDNN_CHANNELS)
        channels = _TDNN_CHANNELS
        for number, (depth, dilation) in enumerate(_BLOCKS, start=1):
            layers[f"block{number}"] = _DenseBlock(channels, depth, dilation)
            channels += depth * _GROWTH
            layers[f"transit{number}"] = _Transition(channels, channels // 2)
            channels //= 2
        layers["out_nonlinear"] = _BatchNormReLU(channels)
        layers["stats"] = _StatisticsPooling()
        layers["dense"] = _EmbeddingLayer(2 * channels, EMBEDDING_SIZE)
        self.xvector = nn.Sequential(layers)

    def forward(self, fbank: Tensor) -> Tensor:
        """Returns embeddings, not normalised, of log filter banks whose mean over time is zero."""
        features = self.head(fbank.transpose(1, 2))  # (B, 320, T)
        embedding: Tensor = self.xvector(features)
        return embedding


def load_campplus(weights: Path) -> CAMPPlus:
    """Returns the network on the CPU, ready to infer. Raises ``RuntimeError`` if the weights do not fit."""
    model = CAMPPlus()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    return model.eval().requires_grad_(requires_grad=False)


class _Head(nn.Module):
    """Front-end convolution module: keeps time, divides the bands by eight. (B, 80, T) -> (B, 320, T)."""

    out_channels = _HEAD_CHANNELS * (MEL_BINS // 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _HEAD_CHANNELS, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.layer1 = nn.Sequential(_ResidualBlock(band_stride=2), _ResidualBlock(band_stride=1))
        self.layer2 = nn.Sequential(_ResidualBlock(band_stride=2), _ResidualBlock(band_stride=1))
        self.conv2 = nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, kernel_size=3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)

    def forward(self, fbank: Tensor) -> Tensor:
        features = functional.relu(self.bn1(self.conv1(fbank.unsqueeze(1))))  # (B, 32, 80, T)
        features = self.layer2(self.layer1(features))  # (B, 32, 20, T)
        features = functional.relu(self.bn2(self.conv2(features)))  # (B, 32, 10, T)
        return features.flatten(1, 2)


class _ResidualBlock(nn.Module):
    """Two convolutions and a shortcut: (B, 32, bands, T) -> (B, 32, bands / stride, T)."""

    def __init__(self, band_stride: int) -> None:
        super().__init__()
        channels, stride = _HEAD_CHANNELS, (band_stride, 1)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if band_stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        residual = functional.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        return functional.relu(residual + self.shortcut(features))


class _BatchNormReLU(nn.Sequential):
    """Batch normalisation over channels, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class _TDNNLayer(nn.Module):
    """The input time-delay layer; it halves the frame rate. (B, 320, T) -> (B, 128, T / 2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(in_channels, out_channels, kernel_size=5, stride=2, padding=2, bias=False)
        self.nonlinear = _BatchNormReLU(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.nonlinear(self.linear(features))
        return output


class _ContextAwareMask(nn.Module):
    """A time-delay layer whose output is scaled, per channel, by a mask computed from the context of its input."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            in_channels, out_channels, kernel_size=3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(in_channels, in_channels // 2, kernel_size=1)
        self.linear2 = nn.Conv1d(in_channels // 2, out_channels, kernel_size=1)

    def forward(self, features: Tensor, segments: _Segments) -> Tensor:
        context = features.mean(dim=-1, keepdim=True) + _segment_means(features, segments)  # (B, C, segments)
        mask = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))  # the same within a segment
        output: Tensor = self.linear_local(features)
        return output * mask.index_select(-1, segments.of_frame)


class _Segments(NamedTuple):
    """The segments of T frames. They are computed once, because each operation of a layer costs time at the start."""

    shares: Tensor
    """The part of each segment that has frames, which is 1 except for the last one: (1, 1, segments)."""
    of_frame: Tensor
    """The segment of each frame: (T,)."""


def _segments_of(features: Tensor) -> _Segments:
    """Returns the segments of features with the shape (B, C, T)."""
    frames = torch.arange(features.shape[-1], device=features.device)
    return _Segments(_pool(torch.ones_like(features[:1, :1])), frames // _CONTEXT_FRAMES)


def _segment_means(features: Tensor, segments: _Segments) -> Tensor:
    """Mean of each segment; the last segment may be shorter: (B, C, T) -> (B, C, segments)."""
    return _pool(features) / segments.shares


def _pool(features: Tensor) -> Tensor:
    """Mean of each segment as if it were complete: (B, C, T) -> (B, C, segments).

    The last segment is padded with zeros, because other runtimes do not support a pooling kernel longer than the input.
    """
    padded = functional.pad(features, (0, _CONTEXT_FRAMES - 1))
    return functional.avg_pool1d(padded, _CONTEXT_FRAMES, stride=_CONTEXT_FRAMES)


class _DenseLayer(nn.Module):
    """Bottleneck and masked time-delay layer: (B, C, T) -> (B, 32, T), to be appended to its input."""

    def __init__(self, in_channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _BatchNormReLU(in_channels)
        self.linear1 = nn.Conv1d(in_channels, _BOTTLENECK_CHANNELS, kernel_size=1, bias=False)
        self.nonlinear2 = _BatchNormReLU(_BOTTLENECK_CHANNELS)
        self.cam_layer = _ContextAwareMask(_BOTTLENECK_CHANNELS, _GROWTH, dilation)

    def forward(self, features: Tensor, segments: _Segments) -> Tensor:
        bottleneck = self.linear1(self.nonlinear1(features))
        output: Tensor = self.cam_layer(self.nonlinear2(bottleneck), segments)
        return output


class _DenseBlock(nn.Module):
    """Layers that each read the outputs of all layers before: (B, C, T) -> (B, C + 32 * depth, T)."""

    def __init__(self, in_channels: int, depth: int, dilation: int) -> None:
        super().__init__()
        for index in range(depth):
            self.add_module(f"tdnnd{index + 1}", _DenseLayer(in_channels + index * _GROWTH, dilation))

    def forward(self, features: Tensor) -> Tensor:
        segments = _segments_of(features)
        for layer in self.children():
            features = torch.cat((features, layer(features, segments)), dim=1)
        return features


class _Transition(nn.Module):
    """Halves the channels after a block."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.nonlinear = _BatchNormReLU(in_channels)
        self.linear = nn.Conv1d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.linear(self.nonlinear(features))
        return output


class _StatisticsPooling(nn.Module):
    """Mean and standard deviation over time: (B, C, T) -> (B, 2 C)."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat((features.mean(dim=-1), features.std(dim=-1)), dim=1)


class _EmbeddingLayer(nn.Module):
    """The linear layer that computes the embedding, with a batch normalisation that only centres and scales."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(in_channels, out_channels, kernel_size=1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(out_channels, affine=False)))

    def forward(self, statistics: Tensor) -> Tensor:
        embedding: Tensor = self.nonlinear(self.linear(statistics.unsqueeze(-1)).squeeze(-1))
        return embedding

"""The transcriber's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from careca.settings import ModelServiceSettings

ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]


class TranscriberSettings(ModelServiceSettings):
    """What the transcriber needs to run."""

    port: int = Field(default=50052, ge=0, le=65535, description="Port for gRPC calls; 0 takes any free one.")
    metrics_port: int = Field(
        default=9102, ge=-1, le=65535, description="Port for Prometheus metrics; 0 takes any free one, -1 serves none."
    )
    whisper_model: str = Field(
        default="whisper-base",
        description="Whisper model: a name that `careca models list` shows, a faster-whisper repository of the Hugging "
        "Face hub that was pulled, or a local folder.",
    )
    whisper_compute_type: ComputeType = Field(
        default="auto",
        description="Type of number to compute with, such as int8, int8_float16, float16 or float32; auto is float16 "
        "on a GPU and int8 on a CPU.",
    )
    whisper_batch_size: int = Field(
        default=0,
        ge=0,
        le=128,
        description="Clips of up to 30 s that are read at once; more take more memory and are cancelled later. 0 is 16 "
        "on a GPU and 4 on a CPU.",
    )
    speech_threshold: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="Probability from which on something is taken for speech; lower misses less of quiet voices and "
        "listens to more noise.",
    )

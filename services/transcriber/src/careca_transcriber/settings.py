"""The transcriber's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from careca.settings import ModelServiceSettings, metrics_port_field, port_field

ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]


class TranscriberSettings(ModelServiceSettings):
    """The settings of the transcriber."""

    port: int = port_field(50052)
    metrics_port: int = metrics_port_field(9102)
    whisper_model: str = Field(
        default="whisper-base",
        description="Whisper model: a name from `careca models list`, a faster-whisper repository of the Hugging Face "
        "hub that has been pulled, or a local folder.",
    )
    whisper_compute_type: ComputeType = Field(
        default="auto",
        description="Number type for the computation, such as int8, int8_float16, float16 or float32; auto is float16 "
        "on a GPU and int8 on a CPU.",
    )
    whisper_batch_size: int = Field(
        default=0,
        ge=0,
        le=128,
        description="Clips of up to 30 s in a batch; a larger batch needs more memory and takes longer to cancel. 0 is "
        "16 on a GPU and 4 on a CPU.",
    )
    speech_threshold: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="Lowest probability that counts as speech. A lower value misses fewer quiet voices and processes "
        "more noise.",
    )

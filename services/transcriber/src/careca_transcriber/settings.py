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
        description="Clips of up to 30 s in a batch. A larger one needs more memory, and makes other tasks and "
        "cancellations wait longer. 0 is 16 on a GPU, and on a CPU 2 for each clip that is read at the same time, at "
        "most 8.",
    )
    whisper_short_windows: bool = Field(
        default=False,
        description="Whether Whisper sees a window of the length of a clip and not always 30 s. On a CPU this makes "
        "reading faster, and a few more words are wrong: on 14 conversations with Whisper base, the word error rate "
        "rose from 19.1 to 19.7 %.",
    )
    speech_threshold: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="Lowest probability that counts as speech. A lower value misses fewer quiet voices and processes "
        "more noise.",
    )

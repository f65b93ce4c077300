"""Settings of the diarizer."""

from __future__ import annotations

from pydantic import Field

from careca.settings import ModelServiceSettings


class DiarizerSettings(ModelServiceSettings):
    """Settings of the diarizer service."""

    port: int = Field(default=50053, ge=0, le=65535, description="Port for gRPC calls; 0 takes any free one.")
    metrics_port: int = Field(
        default=9103, ge=-1, le=65535, description="Port for Prometheus metrics; 0 takes any free one, -1 serves none."
    )
    pipeline: str = Field(
        default="",
        description="Pretrained pyannote.audio pipeline to use in place of Careca's own: a local folder, or a "
        "repository of the Hugging Face hub that was pulled; empty is Careca's own.",
    )
    segmentation_step_seconds: float = Field(
        default=2.5,
        ge=0.5,
        le=5.0,
        description="Distance of the windows of 10 s in which speakers are told apart; half of it takes twice the time "
        "and finds little more.",
    )
    segmentation_batch_size: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Windows that are segmented at once, which take the more memory; 0 is 32 on a GPU and 16 on a CPU.",
    )
    embedding_batch_size: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Pieces of speech that are heard at once, which take the more memory; 0 is 32 on a GPU and 16 on a "
        "CPU.",
    )
    max_speakers: int = Field(
        default=10, ge=2, le=50, description="Most speakers to find where a request does not say how many there are."
    )
    same_voice_similarity: float = Field(
        default=0.84,
        gt=0.0,
        lt=1.0,
        description="Likeness of the voices in two groups of speech from which on they are one speaker's: 1 is the "
        "same voice, 0 is two that have nothing in common. Raise it where two speakers come out as one, lower it where "
        "one comes out as two.",
    )

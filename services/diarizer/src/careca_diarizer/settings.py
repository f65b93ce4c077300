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
        description="A pretrained pyannote.audio pipeline to use instead of Careca's own: a local folder, or the id of a "
        "repository of the Hugging Face hub that was pulled; empty is Careca's own.",
    )
    segmentation_step_seconds: float = Field(
        default=2.0,
        ge=0.5,
        le=5.0,
        description="Distance of the windows of ten seconds in which speakers are told apart; a smaller one takes more "
        "time and places turns a little better.",
    )
    segmentation_batch_size: int = Field(
        default=16, ge=1, le=256, description="Windows that are segmented at once; more take more memory."
    )
    embedding_batch_size: int = Field(
        default=16, ge=1, le=256, description="Pieces of speech whose voices are computed at once; more take more memory."
    )
    max_speakers: int = Field(
        default=10, ge=2, le=50, description="Most speakers to find where a request does not say how many there are."
    )
    same_voice_similarity: float = Field(
        default=0.45,
        gt=0.0,
        lt=1.0,
        description="Mean similarity of pieces of speech, from 0 to 1, from which on they are one speaker's; raise it "
        "where speakers come out as one, lower it where one speaker comes out as several.",
    )

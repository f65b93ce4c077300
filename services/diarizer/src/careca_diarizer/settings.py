"""The diarizer's settings."""

from __future__ import annotations

from pydantic import Field

from careca.settings import ModelServiceSettings, metrics_port_field, port_field


class DiarizerSettings(ModelServiceSettings):
    """The settings of the diarizer."""

    port: int = port_field(50053)
    metrics_port: int = metrics_port_field(9103)
    pipeline: str = Field(
        default="",
        description="Pretrained pyannote.audio pipeline to use in place of Careca's own: a local folder, or "
        "a repository of the Hugging Face hub that has been pulled; empty uses Careca's own. It needs "
        "careca-diarizer[pyannote].",
    )
    segmentation_step_seconds: float = Field(
        default=2.5,
        ge=0.5,
        le=5.0,
        description="Distance between the starts of the 10 s windows for segmentation; half of it takes twice the time "
        "and finds little more.",
    )
    segmentation_batch_size: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Windows in a batch of the segmentation; more need more memory; 0 is 32 on a GPU and 16 on a CPU.",
    )
    embedding_batch_size: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Pieces of speech in a batch of the embedding; more need more memory; 0 is 32 on a GPU and 16 on a "
        "CPU.",
    )
    max_speakers: int = Field(
        default=10, ge=2, le=50, description="Most speakers to find if a request has no number of speakers."
    )
    same_voice_similarity: float = Field(
        default=0.84,
        gt=0.0,
        lt=1.0,
        description="Similarity from which the voices in two groups of speech count as the same speaker: 1 is the same "
        "voice, 0 is unrelated voices. Raise it if two speakers are merged into one, lower it if one speaker is split "
        "into two.",
    )

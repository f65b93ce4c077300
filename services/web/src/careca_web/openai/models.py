"""The names of models: those that the gateway serves, and OpenAI's names for them."""

from __future__ import annotations

from typing import Any

from careca.errors import NotFound
from careca_client import GatewayInfo

OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)
"""Names that programs written for OpenAI use. Each stands for the model that is served."""

_OWNER = "careca"


def model_names(info: GatewayInfo) -> list[str]:
    """Returns all names that a request may use: ids with and without the digest of the weights, and OpenAI's names."""
    ids = info.transcription_model.split(", ") if info.transcription_model else []
    names = [name for model in ids for name in (model, model.partition("@")[0])]
    return list(dict.fromkeys((*names, *OPENAI_NAMES)))


def check_model(info: GatewayInfo, name: str) -> None:
    """Raises ``NotFound`` (MODEL_NOT_FOUND) if ``name`` is none of the names."""
    names = model_names(info)
    if name not in names:
        raise NotFound(
            f"there is no model {name[:200]}; the models are {', '.join(names)}",
            reason="MODEL_NOT_FOUND",
            field="model",
        )


def model_object(name: str) -> dict[str, Any]:
    """Returns OpenAI's description of a model. When the model was made is not known: ``created`` is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": _OWNER}

"""Bodies that endpoints read themselves: their description in the OpenAPI document, and their errors."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

_FILE = {"type": "string", "format": "binary", "description": "The recording, in any container that FFmpeg reads."}


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of ``model`` without references."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, dict):
            if reference := part.get("$ref"):
                rest = {key: value for key, value in part.items() if key != "$ref"}
                return inline(definitions[reference.rpartition("/")[2]]) | rest
            return {key: inline(value) for key, value in part.items() if key != "discriminator"}
        return [inline(each) for each in part] if isinstance(part, list) else part

    inlined: dict[str, Any] = inline(schema)
    return inlined


def form_schema(model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Returns the schema of a form with a recording in the field ``file``, and the fields of ``model``."""
    schema: dict[str, Any] = json_schema(model) if model else {"type": "object", "properties": {}}
    return schema | {"properties": {"file": _FILE} | schema["properties"], "required": ["file"]}


def body_of(**contents: dict[str, Any]) -> dict[str, Any]:
    """Returns the description of a body that has one of the media types ``json``, ``form`` or ``binary``."""
    return {
        "requestBody": {
            "required": True,
            "content": {_MEDIA_TYPES[name]: {"schema": schema} for name, schema in contents.items()},
        }
    }


def in_body(error: ValidationError) -> RequestValidationError:
    """Returns the error as FastAPI raises it for a body that it reads itself."""
    errors = error.errors(include_url=False, include_context=False)
    return RequestValidationError([problem | {"loc": ("body", *problem["loc"])} for problem in errors])


_MEDIA_TYPES = {
    "json": "application/json",
    "form": "multipart/form-data",
    "binary": "application/octet-stream",
}

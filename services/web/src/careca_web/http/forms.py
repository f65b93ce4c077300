"""Reads multipart forms: a file to disk, and text to memory with a limit."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from careca.errors import InvalidRequest

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Maximum size of all fields except files together: 8 MiB of recordings of known speakers, as base64, and the rest."""

_MAX_FIELDS = 1000


async def read_form(request: Request) -> FormData:
    """Reads the request's body as a form with at most one file. Close the form to remove the file.

    Raises ``InvalidRequest`` if the body is not a valid form (INVALID_FORM, UNSUPPORTED_MEDIA_TYPE) or its fields are
    too large (FIELDS_TOO_LARGE).
    """
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise InvalidRequest(
            "the request's body must be a form with the Content-Type multipart/form-data",
            reason="UNSUPPORTED_MEDIA_TYPE",
        )
    parser = _FormParser(
        request.headers, request.stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=MAX_TEXT_BYTES
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise InvalidRequest(f"the form is not valid: {error.message}", reason="INVALID_FORM") from None


class _FormParser(MultiPartParser):
    """Limits the text of all fields together: it is kept in memory."""

    _text_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._text_bytes += end - start
            if self._text_bytes > MAX_TEXT_BYTES:
                raise InvalidRequest(
                    f"the fields of the form are larger than {MAX_TEXT_BYTES:,} bytes together, files not counted",
                    reason="FIELDS_TOO_LARGE",
                )
        super().on_part_data(data, start, end)

"""The messages of the calls that read recordings."""

from __future__ import annotations

from careca import codec
from careca.errors import InvalidRequest
from careca.types import RecordingForm, RecordingInfo
from careca.v1 import recordings_pb2
from careca_client.protocol.options import choice
from careca_client.protocol.streams import protocol_error

RECORDING_TIMEOUT_SECONDS = 600.0
"""Default limit of calls for which the gateway may have to decode a recording."""

_MAX_SECONDS = 1e9
"""No recording is longer."""


def encode_read_request(
    job_id: str, form: RecordingForm | str, offset: int, length: int | None
) -> recordings_pb2.ReadRecordingRequest:
    """Returns the request for a part of a recording. Raises ``InvalidRequest`` if an argument is invalid."""
    number = codec.encode_recording_form(choice(RecordingForm, form, "form", "forms", "form"))
    if offset < 0:
        raise InvalidRequest(f"offset must not be negative, but is {offset}", field="offset")
    if length is not None and length < 1:
        raise InvalidRequest(f"length must be at least 1, but is {length}", field="length")
    return recordings_pb2.ReadRecordingRequest(job_id=job_id, form=number, offset=offset, length=length or 0)


def decode_first_response(response: recordings_pb2.ReadRecordingResponse | None) -> RecordingInfo:
    """Returns the info. Raises ``InternalError`` (``PROTOCOL_ERROR``) if the stream began with something else."""
    if response is None or not response.HasField("info"):
        raise protocol_error("no info before the recording")
    return codec.decode_recording_info(response.info)


def encode_waveform_request(
    job_id: str, start: float, end: float | None, max_buckets: int | None
) -> recordings_pb2.GetWaveformRequest:
    """Returns the request for a waveform. Raises ``InvalidRequest`` if an argument is invalid."""
    for field, seconds in (("start_offset", start), ("end_offset", end or 0.0)):
        if not 0 <= seconds <= _MAX_SECONDS:
            raise InvalidRequest(f"{field} must not be negative and at most {_MAX_SECONDS:g} s", field=field)
    if max_buckets is not None and max_buckets < 1:
        raise InvalidRequest(f"max_buckets must be at least 1, but is {max_buckets}", field="max_buckets")
    return recordings_pb2.GetWaveformRequest(
        job_id=job_id,
        start_offset=codec.encode_duration(start),
        end_offset=None if end is None else codec.encode_duration(end),
        max_buckets=max_buckets or 0,
    )

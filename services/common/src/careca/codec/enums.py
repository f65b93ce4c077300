"""Conversion of enums. In protobuf, the name of a value has a prefix: ``ClearScope.ALL`` is ``CLEAR_SCOPE_ALL``."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Generic, TypeVar

from careca.errors import InvalidRequest
from careca.types import (
    AudioTracks,
    ChannelMode,
    ClearScope,
    JobPriority,
    JobState,
    OutputFormat,
    RecordingForm,
    SchedulingClass,
    Stage,
    StageState,
    WebhookState,
)
from careca.v1 import admin_pb2, audio_pb2, gateway_pb2, jobs_pb2, recordings_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

E = TypeVar("E", bound=enum.Enum)
V = TypeVar("V", bound=int)


class EnumCodec(Generic[E, V]):
    """Converts one enum.

    Args:
        values: the enum.
        messages: the protobuf enum.
        prefix: the prefix of protobuf's names.
        field: the path of the field in error messages, if ``decode`` gets none.
        default: the value for an unspecified field; ``None`` makes that an error.
    """

    def __init__(
        self, values: type[E], messages: _EnumTypeWrapper[V], prefix: str, *, field: str = "", default: E | None = None
    ) -> None:
        self._numbers = {value: messages.Value(f"{prefix}_{value.name}") for value in values}
        self._values = {number: value for value, number in self._numbers.items()}
        self._names = " or ".join(map(messages.Name, self._values))
        self._field = field
        if default is not None:
            self._values[messages.Value(f"{prefix}_UNSPECIFIED")] = default

    def encode(self, value: E) -> V:
        """Returns the protobuf value."""
        return self._numbers[value]

    def decode(self, number: V, field: str = "") -> E:
        """Returns the value. Raises ``InvalidRequest`` if it is unknown, or unspecified without a default."""
        value = self._values.get(number)
        if value is None:
            field = field or self._field
            raise InvalidRequest(
                f"{field} must be {self._names}, but is {number}", field=field, metadata={"value": str(number)}
            )
        return value


AUDIO_TRACK_MODES = EnumCodec(AudioTracks, gateway_pb2.AudioTrackMode, "AUDIO_TRACK_MODE", default=AudioTracks.AUTO)
CHANNEL_MODES = EnumCodec(ChannelMode, gateway_pb2.ChannelMode, "CHANNEL_MODE", default=ChannelMode.MIX)
CLEAR_SCOPES = EnumCodec(ClearScope, admin_pb2.ClearScope, "CLEAR_SCOPE", field="scope")
FORMATS = EnumCodec(OutputFormat, gateway_pb2.OutputFormat, "OUTPUT_FORMAT", field="config.formats")
JOB_PRIORITIES = EnumCodec(JobPriority, jobs_pb2.JobPriority, "JOB_PRIORITY", default=JobPriority.BATCH)
JOB_STATES = EnumCodec(JobState, jobs_pb2.JobState, "JOB_STATE")
RECORDING_FORMS = EnumCodec(RecordingForm, recordings_pb2.RecordingForm, "RECORDING_FORM", field="form")
SCHEDULING_CLASSES = EnumCodec(
    SchedulingClass, audio_pb2.SchedulingClass, "SCHEDULING_CLASS", default=SchedulingClass.INTERACTIVE
)
STAGES = EnumCodec(Stage, audio_pb2.Stage, "STAGE", field="stage")
STAGE_STATES = EnumCodec(StageState, gateway_pb2.StageState, "STAGE_STATE")
WEBHOOK_STATES = EnumCodec(WebhookState, jobs_pb2.WebhookState, "WEBHOOK_STATE")

encode_channel_mode = CHANNEL_MODES.encode
encode_clear_scope, decode_clear_scope = CLEAR_SCOPES.encode, CLEAR_SCOPES.decode
encode_format, decode_format = FORMATS.encode, FORMATS.decode
encode_job_priority, decode_job_priority = JOB_PRIORITIES.encode, JOB_PRIORITIES.decode
encode_job_state, decode_job_state = JOB_STATES.encode, JOB_STATES.decode
encode_recording_form, decode_recording_form = RECORDING_FORMS.encode, RECORDING_FORMS.decode
encode_stage, decode_stage = STAGES.encode, STAGES.decode

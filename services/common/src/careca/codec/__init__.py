"""Values to protobuf messages and back. What comes from a caller is validated here and refused by field.

Decoding trusts messages that a Careca service wrote (results, statistics) and checks those that a caller wrote
(digests, options, enums), where it raises ``InvalidRequest`` with the dotted path of the field at fault.
"""

from careca.codec.admin import (
    decode_cache_stats,
    decode_clear_scope,
    decode_clearance,
    decode_memory_release,
    decode_memory_usage,
    decode_model_service_stats,
    encode_cache_stats,
    encode_clear_scope,
    encode_clearance,
    encode_memory_release,
    encode_memory_usage,
    encode_model_service_stats,
)
from careca.codec.known_speakers import decode_known_speakers, encode_known_speaker
from careca.codec.options import (
    decode_channel_mode,
    decode_diarization_options,
    decode_transcription_options,
    encode_channel_mode,
    encode_diarization_options,
    encode_transcription_options,
)
from careca.codec.result import FORMATS, decode_format, decode_result, encode_format, encode_result
from careca.codec.scalars import (
    STAGES,
    check_name,
    decode_digest,
    decode_duration,
    decode_stage,
    encode_digest,
    encode_duration,
    encode_stage,
)
from careca.codec.speech import (
    decode_diarization,
    decode_progress,
    decode_segment,
    decode_transcript,
    encode_diarization,
    encode_progress,
    encode_segment,
    encode_transcript,
    read_speakers,
    write_speakers,
)

__all__ = [
    "FORMATS",
    "STAGES",
    "check_name",
    "decode_cache_stats",
    "decode_channel_mode",
    "decode_clear_scope",
    "decode_clearance",
    "decode_diarization",
    "decode_diarization_options",
    "decode_digest",
    "decode_duration",
    "decode_format",
    "decode_known_speakers",
    "decode_memory_release",
    "decode_memory_usage",
    "decode_model_service_stats",
    "decode_progress",
    "decode_result",
    "decode_segment",
    "decode_stage",
    "decode_transcript",
    "decode_transcription_options",
    "encode_cache_stats",
    "encode_channel_mode",
    "encode_clear_scope",
    "encode_clearance",
    "encode_diarization",
    "encode_diarization_options",
    "encode_digest",
    "encode_duration",
    "encode_format",
    "encode_known_speaker",
    "encode_memory_release",
    "encode_memory_usage",
    "encode_model_service_stats",
    "encode_progress",
    "encode_result",
    "encode_segment",
    "encode_stage",
    "encode_transcript",
    "encode_transcription_options",
    "read_speakers",
    "write_speakers",
]

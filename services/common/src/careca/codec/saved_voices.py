"""Conversion of saved voices."""

from __future__ import annotations

from careca.codec.messages import MessageCodec, time_field
from careca.types import SavedVoice
from careca.v1 import voices_pb2

_SAVED_VOICE = MessageCodec(SavedVoice, voices_pb2.SavedVoice, create_unix=time_field("create_time"))

encode_saved_voice, decode_saved_voice = _SAVED_VOICE.encode, _SAVED_VOICE.decode

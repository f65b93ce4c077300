"""Decoding requests and encoding events."""

from __future__ import annotations

from typing import Any

import pytest

from careca.errors import InvalidRequest
from careca.types import (
    AudioTrack,
    AudioTracks,
    ChannelMode,
    DiarizationOptions,
    Digest,
    OutputFormat,
    Progress,
    Segment,
    Stage,
    TranscriptionOptions,
)
from careca.v1 import audio_pb2, gateway_pb2
from careca_gateway.api.admin_messages import decode_stages
from careca_gateway.api.transcription import encode_event
from careca_gateway.request import Completed, RecordingKnown, RecordingNeeded, Request
from careca_gateway.request_codec import MAX_NAME_CHARACTERS, decode_request

DIGEST = audio_pb2.Digest(sha256="a" * 64, size_bytes=1000)


def config(**fields: Any) -> gateway_pb2.TranscribeRequest.Config:
    return gateway_pb2.TranscribeRequest.Config(**{"recording": DIGEST, **fields})


def test_a_config_with_only_a_digest_has_the_defaults() -> None:
    assert decode_request(config()) == Request(recording=Digest("a" * 64, 1000))


def test_all_options_are_decoded() -> None:
    asked = config(
        display_name="Reunião de segunda 🎙️.m4a",
        transcription=audio_pb2.TranscriptionOptions(language_code="pt", hotwords=["Careca"]),
        diarization=audio_pb2.DiarizationOptions(min_speaker_count=2, max_speaker_count=4),
        cache_control=audio_pb2.CacheControl(skip_cache=True),
        formats=[gateway_pb2.OUTPUT_FORMAT_SRT, gateway_pb2.OUTPUT_FORMAT_JSON, gateway_pb2.OUTPUT_FORMAT_SRT],
    )

    assert decode_request(asked) == Request(
        recording=Digest("a" * 64, 1000),
        display_name="Reunião de segunda 🎙️.m4a",
        transcription=TranscriptionOptions(language="pt", hotwords=("Careca",)),
        diarization=DiarizationOptions(min_speaker_count=2, max_speaker_count=4),
        skip_cache=True,
        formats=(OutputFormat.SRT, OutputFormat.JSON),
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"recording": audio_pb2.Digest(sha256="A" * 64)}, "config.recording.sha256"),
        ({"recording": audio_pb2.Digest(sha256="a" * 64, size_bytes=-1)}, "config.recording.size_bytes"),
        ({"display_name": "x" * (MAX_NAME_CHARACTERS + 1)}, "config.display_name"),
        ({"display_name": "two\nlines"}, "config.display_name"),
        ({"display_name": "bell\x07"}, "config.display_name"),
        ({"display_name": "separator\u2028"}, "config.display_name"),
        ({"transcription": audio_pb2.TranscriptionOptions(beam_size=0)}, "config.transcription.beam_size"),
        ({"transcription": audio_pb2.TranscriptionOptions(language_code="E!")}, "config.transcription.language_code"),
        ({"diarization": audio_pb2.DiarizationOptions(speaker_count=51)}, "config.diarization.speaker_count"),
        (
            {"diarization": audio_pb2.DiarizationOptions(min_speaker_count=5, max_speaker_count=2)},
            "config.diarization.min_speaker_count",
        ),
        ({"formats": [gateway_pb2.OUTPUT_FORMAT_TXT, gateway_pb2.OUTPUT_FORMAT_UNSPECIFIED]}, "config.formats[1]"),
        ({"formats": [99]}, "config.formats[0]"),
        ({"channel_mode": 99}, "config.channel_mode"),
        (
            {
                "channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE,
                "diarization": audio_pb2.DiarizationOptions(max_speaker_count=2),
            },
            "config.diarization.max_speaker_count",
        ),
        ({"audio_track": 0}, "config.audio_track"),
        ({"audio_track": -1}, "config.audio_track"),
        ({"audio_track": 1000}, "config.audio_track"),
        ({"audio_track_mode": 99}, "config.audio_track_mode"),
        (
            {
                "audio_track_mode": gateway_pb2.AUDIO_TRACK_MODE_EACH,
                "diarization": audio_pb2.DiarizationOptions(speaker_count=2),
            },
            "config.diarization.speaker_count",
        ),
        *(
            ({"audio_track_mode": mode, "channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE}, "config.audio_track_mode")
            for mode in (gateway_pb2.AUDIO_TRACK_MODE_ALL, gateway_pb2.AUDIO_TRACK_MODE_EACH)
        ),
    ],
)
def test_invalid_values_are_refused_with_their_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(config(**fields))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("number", "mode"),
    [
        (gateway_pb2.CHANNEL_MODE_UNSPECIFIED, ChannelMode.MIX),
        (gateway_pb2.CHANNEL_MODE_MIX, ChannelMode.MIX),
        (gateway_pb2.CHANNEL_MODE_SEPARATE, ChannelMode.SEPARATE),
    ],
)
def test_channels_are_mixed_by_default(number: gateway_pb2.ChannelMode.ValueType, mode: ChannelMode) -> None:
    assert decode_request(config(channel_mode=number)).channel_mode is mode


@pytest.mark.parametrize(
    ("fields", "track"),
    [
        ({}, AudioTracks.AUTO),
        ({"audio_track_mode": gateway_pb2.AUDIO_TRACK_MODE_UNSPECIFIED}, AudioTracks.AUTO),
        ({"audio_track_mode": gateway_pb2.AUDIO_TRACK_MODE_AUTO}, AudioTracks.AUTO),
        ({"audio_track_mode": gateway_pb2.AUDIO_TRACK_MODE_ALL}, AudioTracks.ALL),
        ({"audio_track_mode": gateway_pb2.AUDIO_TRACK_MODE_EACH}, AudioTracks.EACH),
        ({"audio_track": 1}, 1),
        ({"audio_track": 999}, 999),
    ],
)
def test_the_track_is_chosen_automatically_by_default(fields: dict[str, Any], track: AudioTrack) -> None:
    assert decode_request(config(**fields)).audio_track == track


def test_channels_of_one_track_can_be_separated() -> None:
    separate = gateway_pb2.CHANNEL_MODE_SEPARATE

    assert str(decode_request(config(channel_mode=separate, audio_track=2)).selection) == "separate.2"
    assert decode_request(
        config(channel_mode=separate, audio_track_mode=gateway_pb2.AUDIO_TRACK_MODE_AUTO)
    ).selection.separates_speakers


def test_every_event_has_its_message() -> None:
    result = gateway_pb2.TranscribeResponse(result=gateway_pb2.TranscribeResult(partial=True))
    events = (
        RecordingNeeded(),
        RecordingKnown(),
        Progress(Stage.MERGE, 0.5),
        Segment(0.0, 1.0, "hello"),
        Completed(result, ()),
    )

    kinds = [encode_event(event).WhichOneof("message") for event in events]

    assert kinds == ["recording_needed", "recording_known", "progress", "segment", "result"]
    assert encode_event(events[-1]) is result


def test_no_stages_means_all_stages() -> None:
    known = (Stage.TRANSCRIBE, Stage.DIARIZE)

    assert decode_stages([], known) == known
    assert decode_stages([audio_pb2.STAGE_DIARIZE, audio_pb2.STAGE_DIARIZE], known) == (Stage.DIARIZE,)


@pytest.mark.parametrize("number", [audio_pb2.STAGE_UNSPECIFIED, audio_pb2.STAGE_DECODE, audio_pb2.STAGE_MERGE])
def test_a_stage_without_a_cache_is_refused(number: audio_pb2.Stage.ValueType) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_stages([audio_pb2.STAGE_DIARIZE, number], (Stage.TRANSCRIBE, Stage.DIARIZE))
    assert caught.value.field == "stages[1]"

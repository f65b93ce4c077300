"""Conversion of edits and revisions."""

from __future__ import annotations

from careca.codec.messages import Field, MessageCodec, time_field
from careca.codec.result import decode_utterance, write_utterance
from careca.errors import InvalidRequest
from careca.types import Edit, RenameSpeaker, ReplaceUtterances, Revision, SavedTranscript, Splice
from careca.v1 import transcripts_pb2

_RENAME = MessageCodec(RenameSpeaker, transcripts_pb2.RenameSpeaker, speaker=Field("speaker_label"))

_REVISION = MessageCodec(
    Revision, transcripts_pb2.Revision, create_unix=time_field("create_time"), restored_from=Field(optional=True)
)

encode_revision, decode_revision = _REVISION.encode, _REVISION.decode


def encode_edit(edit: Edit) -> transcripts_pb2.EditOperation:
    """Returns the message of the edit."""
    if isinstance(edit, RenameSpeaker):
        return transcripts_pb2.EditOperation(rename_speaker=_RENAME.encode(edit))
    message = transcripts_pb2.EditOperation()
    message.replace_utterances.index, message.replace_utterances.count = edit.index, edit.count
    for utterance in edit.utterances:
        write_utterance(message.replace_utterances.utterances.add(), utterance)
    return message


def decode_edit(message: transcripts_pb2.EditOperation, field: str) -> Edit:
    """Returns the edit in ``message``. Raises ``InvalidRequest`` if it has none. Its values are not checked."""
    match message.WhichOneof("operation"):
        case "replace_utterances":
            replacing = message.replace_utterances
            utterances = tuple(map(decode_utterance, replacing.utterances))
            return ReplaceUtterances(replacing.index, replacing.count, utterances)
        case "rename_speaker":
            return _RENAME.decode(message.rename_speaker)
        case _:
            raise InvalidRequest(f"{field} must have replace_utterances or rename_speaker", field=field)


def encode_saved(saved: SavedTranscript) -> transcripts_pb2.SaveTranscriptResponse:
    """Returns the message of what was saved."""
    response = transcripts_pb2.SaveTranscriptResponse(revision=encode_revision(saved.revision))
    for splice in saved.splices:
        message = response.splices.add(index=splice.index, removed_count=splice.removed_count)
        for utterance in splice.utterances:
            write_utterance(message.utterances.add(), utterance)
    return response


def decode_saved(message: transcripts_pb2.SaveTranscriptResponse) -> SavedTranscript:
    """Returns what was saved."""
    return SavedTranscript(
        decode_revision(message.revision),
        tuple(
            Splice(splice.index, splice.removed_count, tuple(map(decode_utterance, splice.utterances)))
            for splice in message.splices
        ),
    )

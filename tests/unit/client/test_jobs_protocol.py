"""The state of the calls for jobs, without a network."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from careca import codec
from careca.errors import InternalError, PreconditionFailed, Unavailable
from careca.types import Digest, JobState
from careca.v1 import gateway_pb2, jobs_pb2
from careca_client.events import RecordingKnown, Uploading
from careca_client.protocol.jobs import MAX_UPLOADS, Listing, Submission
from careca_client.protocol.streams import UploadStream
from careca_client.recording import CHUNK_BYTES, Recording, open_recording

DATA = b"RIFF" + bytes(2 * CHUNK_BYTES)
DIGEST = Digest(hashlib.sha256(DATA).hexdigest(), len(DATA))

NEEDED = jobs_pb2.UploadRecordingResponse(recording_needed=gateway_pb2.TranscribeResponse.RecordingNeeded())
KNOWN = jobs_pb2.UploadRecordingResponse(recording_known=gateway_pb2.TranscribeResponse.RecordingKnown())
NOTHING = jobs_pb2.UploadRecordingResponse()
MISSING = PreconditionFailed("upload it first", reason="RECORDING_MISSING")


def recording(name: str = "call.wav") -> Recording:
    opened = open_recording(DATA, name)
    for _ in opened.hash():
        pass
    return opened


def exchange(answers: list[jobs_pb2.UploadRecordingResponse]) -> None:
    upload = UploadStream(recording())
    for answer in answers:
        upload.receive(answer)
    upload.finish()


def submission(**settings: Any) -> Submission:
    made = Submission(
        settings.pop("options", {}),
        **{"request_id": None, "once": False, "priority": "batch", "webhook_url": None, **settings},
    )
    made.set_recording(DIGEST, "call.wav")
    return made


def test_an_upload_sends_the_digest_and_then_the_recording_if_needed() -> None:
    upload = UploadStream(recording())

    assert codec.decode_digest(upload.first_request.config.recording, "recording") == DIGEST
    upload.receive(NEEDED)
    assert upload.recording_needed
    assert upload.event_of(NEEDED) == Uploading(0, len(DATA))
    assert b"".join(request.recording_chunk for request, _ in upload.chunks()) == DATA
    upload.finish()


def test_an_upload_of_a_known_recording_sends_nothing() -> None:
    upload = UploadStream(recording())
    upload.receive(KNOWN)

    assert not upload.recording_needed
    assert upload.event_of(KNOWN) == RecordingKnown(DIGEST)
    upload.finish()


@pytest.mark.parametrize("answers", [[NOTHING], [NEEDED, NEEDED], [NEEDED, NOTHING], []], ids=len)
def test_an_upload_with_an_unexpected_response_is_a_protocol_error(
    answers: list[jobs_pb2.UploadRecordingResponse],
) -> None:
    with pytest.raises(InternalError) as raised:
        exchange(answers)

    assert raised.value.reason == "PROTOCOL_ERROR"


def test_a_submission_keeps_its_request_id_and_no_two_have_the_same() -> None:
    first = submission()
    made = first.request.request_id
    first.set_recording(DIGEST, "call.wav")

    assert first.request.request_id == made
    assert submission().request.request_id != made
    assert submission(request_id="monday").request.request_id == "monday"


def test_the_id_of_a_submission_with_once_depends_on_all_options() -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"options": {"language": "en"}},
        {"options": {"skip_cache": True}},
        {"priority": "interactive"},
        {"webhook_url": "https://example.org/done"},
    ]
    ids = [submission(once=True, **settings).request.request_id for settings in asked]

    assert len(set(ids)) == len(ids)
    assert ids == [submission(once=True, **settings).request.request_id for settings in asked]


def test_a_submission_uploads_a_missing_recording_up_to_a_limit() -> None:
    made = submission()

    assert not made.needs_upload(Unavailable("gone"))
    assert not made.needs_upload(PreconditionFailed("used for other content", reason="REQUEST_ID_REUSED"))
    assert not made.uploaded
    assert [made.needs_upload(MISSING) for _ in range(MAX_UPLOADS + 1)] == [True] * MAX_UPLOADS + [False]
    assert made.uploaded


def test_a_listing_continues_with_each_token_until_there_is_none() -> None:
    listing = Listing([JobState.FAILED], 1.5, None, None)
    assert listing.request is not None
    assert (listing.request.page_token, listing.request.HasField("created_before")) == ("", False)
    assert codec.decode_time(listing.request.created_from) == 1.5

    assert listing.receive(jobs_pb2.ListJobsResponse(next_page_token="50")) == []
    assert listing.request.page_token == "50"
    assert list(listing.request.states) == [jobs_pb2.JOB_STATE_FAILED]
    listing.receive(jobs_pb2.ListJobsResponse())

    assert listing.request is None

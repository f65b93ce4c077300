"""Jobs over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from support.fakes import FakeTranscriberEngine, digest_of
from support.stack import Stack
from support.submitters import RECORDING
from support.tokens import Tokens
from support.web import Web, ended, problem, submit

DIGEST = {"sha256": digest_of(RECORDING).sha256, "size_bytes": len(RECORDING)}


async def test_a_form_with_a_file_is_a_job(web: Web, stack: Stack) -> None:
    submitted = await submit(
        web,
        name="a/b\\call.wav",
        language="Portuguese",
        max_speaker_count="3",
        hotwords="Careca",
        priority="interactive",
    )
    job = await ended(web, submitted)

    assert (job["state"], job["name"], job["recording"]) == ("succeeded", "call.wav", DIGEST)
    assert (job["priority"], job["partial"], job["from_cache"], job["error"]) == ("interactive", False, False, None)
    assert [stage["stage"] for stage in job["stages"]] == ["decode", "transcribe", "diarize", "merge"]
    assert {stage["state"] for stage in job["stages"]} == {"succeeded"}
    assert job["attempts"][0]["outcome"] == "SUCCEEDED"
    engine = stack.transcriber.engine
    assert isinstance(engine, FakeTranscriberEngine)
    assert (engine.options[0].language, engine.options[0].hotwords) == ("pt", ("Careca",))


async def test_a_digest_is_offered_first_and_the_recording_sent_if_it_is_missing(web: Web) -> None:
    request = {"recording": DIGEST, "name": "call.wav", "options": {"language": "en", "audio_track": 1}}
    missing = await web.http.post("/api/jobs", json=request)
    await web.http.post("/api/recordings", files={"file": RECORDING})
    submitted = await web.http.post("/api/jobs", json=request | {"request_id": "one"})
    again = await web.http.post("/api/jobs", json=request | {"request_id": "one"})
    other = await web.http.post("/api/jobs", json={"recording": DIGEST, "request_id": "one"})

    assert problem(missing)[:2] == (409, "RECORDING_MISSING")
    assert submitted.status_code == again.status_code == 201
    assert submitted.json()["id"] == again.json()["id"]
    assert problem(other)[:2] == (409, "REQUEST_ID_REUSED")


async def test_the_second_job_for_a_recording_comes_from_the_cache(web: Web) -> None:
    await ended(web, await submit(web))

    assert (await ended(web, await submit(web)))["from_cache"] is True


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"language": "Klingon"}, "options.language_code"),
        ({"beam_size": 0}, "options.beam_size"),
        ({"hotwords": [""]}, "options.hotwords.0"),
        ({"hotwords": ["x"] * 101}, "options.hotwords"),
        ({"initial_prompt": "x" * 1001}, "options.initial_prompt"),
        ({"speaker_count": 51}, "options.speaker_count"),
        ({"speaker_count": "two"}, "options.speaker_count"),
        ({"speaker_count": 2, "min_speaker_count": 2}, "options.speaker_count"),
        ({"min_speaker_count": 3, "max_speaker_count": 2}, "options.min_speaker_count"),
        ({"channel_mode": "stereo"}, "options.channel_mode"),
        ({"channel_mode": "separate", "speaker_count": 2}, "options.speaker_count"),
        ({"audio_track": "second"}, "options.audio_track"),
        ({"audio_track": 1000}, "options.audio_track"),
        ({"colour": "red"}, "options.colour"),
    ],
    ids=str,
)
async def test_a_bad_option_is_named(web: Web, options: dict[str, Any], field: str) -> None:
    status, _, named = problem(await web.http.post("/api/jobs", json={"recording": DIGEST, "options": options}))

    assert status in (400, 422)
    assert named.startswith(field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recording": {"sha256": "AB" * 32, "size_bytes": 1}}, "recording.sha256"),
        ({"recording": {"sha256": "ab" * 32, "size_bytes": 0}}, "recording.size_bytes"),
        ({"recording": None}, "recording"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\nb"}, "options.display_name"),
        ({"priority": "urgent"}, "priority"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"webhook_url": "x" * 2001}, "webhook_url"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
async def test_a_bad_field_of_a_submission_is_named(web: Web, change: dict[str, Any], field: str) -> None:
    await web.http.post("/api/recordings", files={"file": RECORDING})
    status, _, named = problem(await web.http.post("/api/jobs", json={"recording": DIGEST} | change))

    assert status in (400, 422)
    assert named == field


async def test_what_the_gateway_refuses_is_refused(web: Web) -> None:
    await web.http.post("/api/recordings", files={"file": RECORDING})
    response = await web.http.post("/api/jobs", json={"recording": DIGEST, "webhook_url": "https://example.org"})

    assert problem(response)[:2] == (409, "WEBHOOKS_OFF")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"speaker_count": "many"}, "speaker_count"),
        ({"colour": "red"}, "colour"),
        ({"speaker_count": ["1", "2"]}, "speaker_count"),
        ({"translate": "perhaps"}, "translate"),
    ],
    ids=str,
)
async def test_a_bad_field_of_a_form_is_named(web: Web, fields: dict[str, Any], field: str) -> None:
    response = await web.http.post("/api/jobs", files={"file": RECORDING}, data=fields)

    assert problem(response) == (422, "INVALID_REQUEST", field)
    assert (await web.http.get("/api/jobs")).json()["jobs"] == []


async def test_what_is_neither_json_nor_a_form_is_refused(web: Web) -> None:
    plain = await web.http.post("/api/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    broken = await web.http.post("/api/jobs", content=b"{", headers={"Content-Type": "application/json"})

    assert problem(plain)[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert problem(broken)[:2] == (422, "INVALID_REQUEST")


async def test_jobs_are_listed_in_pages_and_by_state(web: Web) -> None:
    ids = [(await ended(web, await submit(web)))["id"] for _ in range(3)]
    first = (await web.http.get("/api/jobs", params={"page_size": 2, "state": ["succeeded", "failed"]})).json()
    last = (await web.http.get("/api/jobs", params={"page_token": first["next_page_token"]})).json()
    none = (await web.http.get("/api/jobs", params={"state": "queued"})).json()
    later = (await web.http.get("/api/jobs", params={"created_from": 4e9})).json()

    assert [job["id"] for job in first["jobs"] + last["jobs"]] == ids[::-1]
    assert last["next_page_token"] == ""
    assert none["jobs"] == later["jobs"] == []


@pytest.mark.parametrize(
    "query",
    [{"page_size": 0}, {"page_size": 501}, {"state": "lost"}, {"created_from": -1}, {"colour": "red"}],
    ids=str,
)
async def test_a_bad_filter_is_named(web: Web, query: dict[str, Any]) -> None:
    assert problem(await web.http.get("/api/jobs", params=query))[0::2] == (422, next(iter(query)) + _index(query))


def _index(query: dict[str, Any]) -> str:
    return ".0" if "state" in query else ""


async def test_a_token_of_a_page_that_is_not_ours_is_refused(web: Web) -> None:
    assert problem(await web.http.get("/api/jobs", params={"page_token": "?"}))[0] == 400


async def test_a_job_is_cancelled_retried_and_deleted(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    cancelled = await web.http.post(f"/api/jobs/{job['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    retried = await web.http.post(f"/api/jobs/{job['id']}/retry")
    assert retried.json()["state"] == "queued"
    stack.transcriber.engine.may_go_on.set()
    assert (await ended(web, job))["state"] == "succeeded"
    assert problem(await web.http.post(f"/api/jobs/{job['id']}/retry"))[:2] == (409, "NOTHING_TO_RETRY")

    assert (await web.http.delete(f"/api/jobs/{job['id']}")).status_code == 204
    assert problem(await web.http.get(f"/api/jobs/{job['id']}"))[0] == 404


async def test_clearing_the_history_removes_what_has_ended_and_gives_back_memory(web: Web) -> None:
    await ended(web, await submit(web))
    cleared = (await web.http.delete("/api/jobs")).json()

    assert cleared["removed_jobs"] == 1
    assert [row["stage"] for row in cleared["memory"]] == ["transcription", "diarization", "gateway"]
    assert cleared["memory"][0]["memory"]["models_unloaded"] is True
    assert cleared["memory"][2]["memory"]["after"]["rss_bytes"] > 0
    assert (await web.http.get("/api/jobs")).json() == {"jobs": [], "next_page_token": ""}


@pytest.mark.parametrize("job_id", ["none", "..", "a%2Fb", "x" * 1000], ids=len)
async def test_an_unknown_job_is_not_found(web: Web, job_id: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("GET", "/result")):
        assert (await web.http.request(method, f"/api/jobs/{job_id}{path}")).status_code in (400, 404, 405)


async def test_jobs_belong_to_their_submitters(guarded: Web, tokens: Tokens) -> None:
    async with (
        guarded.as_caller(tokens.of["ana"]) as ana,
        guarded.as_caller(tokens.of["bo"]) as bo,
        guarded.as_caller(tokens.of["ops"]) as ops,
    ):
        job = (await ana.post("/api/jobs", files={"file": RECORDING})).json()

        assert job["submitter"] == "ana"
        assert problem(await bo.get(f"/api/jobs/{job['id']}"))[0] == 404
        assert (await bo.get("/api/jobs")).json()["jobs"] == []
        assert problem(await bo.get("/api/jobs?all_submitters=true"))[:2] == (403, "NEEDS_ADMIN")
        assert [each["id"] for each in (await ops.get("/api/jobs?all_submitters=true")).json()["jobs"]] == [job["id"]]
        assert problem(await bo.delete("/api/jobs?all_submitters=true"))[:2] == (403, "NEEDS_ADMIN")


async def test_a_submitter_may_name_itself_where_no_token_is_needed(web: Web) -> None:
    await submit(web)
    headers = {"X-Careca-Submitter": "ana"}

    assert (await web.http.get("/api/jobs", headers=headers)).json()["jobs"] == []
    response = await web.http.get("/api/jobs", headers={"X-Careca-Submitter": "Ana B"})
    assert problem(response) == (400, "INVALID_REQUEST", "x-careca-submitter")

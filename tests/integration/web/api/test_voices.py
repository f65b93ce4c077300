"""Saved voices, and the search in jobs, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from support.media import tone, wav
from support.web import Web, ended, problem, submit

OTHER = wav(tone(2.0, hertz=660.0))


async def test_a_saved_voice_is_recognised_in_later_jobs(web: Web) -> None:
    job = await ended(web, await submit(web))
    saved = await web.http.post("/api/voices", json={"name": "Ana", "job_id": job["id"], "speaker": "SPEAKER_00"})
    later = await ended(web, await submit(web, OTHER, use_saved_voices="true"))
    speakers = (await web.http.get(f"/api/jobs/{later['id']}/result")).json()["speakers"]

    assert saved.status_code == 201
    assert saved.json() == (await web.http.get("/api/voices")).json()["voices"][0]
    assert (saved.json()["name"], saved.json()["job_id"]) == ("Ana", job["id"])
    assert speakers[0]["name"] == "Ana"
    assert (await web.http.delete("/api/voices/Ana")).status_code == 204
    assert (await web.http.get("/api/voices")).json() == {"voices": []}
    assert problem(await web.http.delete("/api/voices/Ana"))[:2] == (404, "VOICE_NOT_FOUND")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "x" * 101}, 422),
        ({"name": "SPEAKER_00"}, 400),
        ({"name": "a\nb"}, 400),
        ({"job_id": "none"}, 404),
        ({"speaker": "Nobody"}, 404),
        ({"speaker": None}, 422),
        ({"colour": "red"}, 422),
    ],
    ids=str,
)
async def test_a_bad_voice_is_refused(web: Web, change: dict[str, Any], status: int) -> None:
    job = await ended(web, await submit(web))
    voice = {"name": "Ana", "job_id": job["id"], "speaker": "SPEAKER_00"} | change

    assert problem(await web.http.post("/api/voices", json=voice))[0] == status


async def test_jobs_are_found_by_name_and_by_what_was_said(web: Web) -> None:
    job = await ended(web, await submit(web, name="Reunião.wav"))
    for query, found in (("reuniao", True), ("MORNING hello", True), ("goodbye", False)):
        page = (await web.http.get("/api/jobs", params={"query": query})).json()
        assert [each["id"] for each in page["jobs"]] == ([job["id"]] if found else [])
    assert problem(await web.http.get("/api/jobs", params={"query": "x" * 201}))[0::2] == (422, "query")

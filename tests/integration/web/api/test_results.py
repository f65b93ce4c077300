"""Results over HTTP."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from careca.types import OutputFormat
from careca_client import AsyncClient
from support.stack import Stack
from support.web import Web, ended, problem, submit


async def test_a_result_is_careca_s_json_without_voices_unless_asked(web: Web, stack: Stack) -> None:
    job = await ended(web, await submit(web))
    path = f"/api/jobs/{job['id']}/result"
    plain, full = await web.http.get(path), await web.http.get(path, params={"embeddings": True})
    async with AsyncClient(stack.target) as client:
        result = await client.job_result(job["id"], formats=["json"])
    expected = json.loads(result.formats[OutputFormat.JSON])

    assert plain.headers["content-type"] == "application/json"
    assert full.json() == expected
    assert all(speaker["embedding"] for speaker in expected["speakers"])
    for speaker in expected["speakers"]:
        del speaker["embedding"]
    assert plain.json() == expected
    assert [utterance["text"] for utterance in expected["utterances"]] == ["hello there", "good morning"]


@pytest.mark.parametrize("extension", list(OutputFormat))
async def test_every_format_is_a_file_with_the_name_of_the_recording(
    web: Web, stack: Stack, extension: OutputFormat
) -> None:
    job = await ended(web, await submit(web, name="Reunião; '1'.final.wav"))
    response = await web.http.get(f"/api/jobs/{job['id']}/result.{extension}")
    async with AsyncClient(stack.target) as client:
        result = await client.job_result(job["id"], formats=[extension])

    assert response.text == result.formats[extension]
    saved = f"Reunião; '1'.final.{extension}"
    assert response.headers["content-disposition"] == (
        f"attachment; filename=\"Reuni_o_ _1_.final.{extension}\"; filename*=UTF-8''{quote(saved, safe='')}"
    )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


async def test_an_unknown_format_is_refused(web: Web) -> None:
    job = await ended(web, await submit(web))

    assert problem(await web.http.get(f"/api/jobs/{job['id']}/result.exe"))[0] == 422


async def test_a_job_without_a_result_says_so(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    for path in ("result", "result.srt"):
        assert problem(await web.http.get(f"/api/jobs/{job['id']}/{path}"))[:2] == (409, "NO_RESULT")
    await web.http.delete(f"/api/jobs/{job['id']}")
    for path in ("result", "result.srt"):
        assert problem(await web.http.get(f"/api/jobs/{job['id']}/{path}"))[0] == 404

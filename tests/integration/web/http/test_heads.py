"""HEAD: what GET answers, without the body."""

from __future__ import annotations

import pytest

from support.samples import sample_value
from support.waiting import until
from support.web import Web, ended, problem, submit

_VARYING = {"date", "x-request-id"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/api/info", "/api/jobs"])
async def test_head_is_get_without_the_body(web: Web, path: str) -> None:
    got, asked = await web.http.get(path), await web.http.head(path)

    assert asked.status_code == got.status_code == 200
    assert asked.content == b""
    assert {name: value for name, value in asked.headers.items() if name not in _VARYING} == {
        name: value for name, value in got.headers.items() if name not in _VARYING
    }


async def test_results_of_jobs_answer_head(web: Web) -> None:
    job = await ended(web, await submit(web))
    for path in ("result", "result.srt", "recording", "audio"):
        got, asked = (
            await web.http.get(f"/api/jobs/{job['id']}/{path}"),
            await web.http.head(f"/api/jobs/{job['id']}/{path}"),
        )
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == got.headers["content-length"] != "0"
        assert asked.headers.get("etag") == got.headers.get("etag")


async def test_the_page_answers_head_as_it_answers_get(web: Web) -> None:
    for path in ("/", "/jobs/one"):
        got, asked = await web.http.get(path), await web.http.head(path)
        assert (asked.status_code, asked.content) == (got.status_code, b"")


async def test_errors_are_those_of_get(web: Web) -> None:
    assert (await web.http.head("/api/jobs/none")).status_code == 404
    assert (await web.http.head("/api/nothing")).status_code == 404
    assert (await web.http.head("/api/info", headers={"Host": "evil.example"})).status_code == 400


async def test_a_stream_of_events_ends_at_once(web: Web) -> None:
    job = await submit(web)
    response = await web.http.head(f"/api/events?job={job['id']}")

    def in_flight() -> float | None:
        return sample_value(web.service.metrics.registry, "careca_http_requests_in_flight")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert problem(await web.http.get("/api/jobs/none"))[0] == 404  # the same connection
    await until(lambda: in_flight() == 0)

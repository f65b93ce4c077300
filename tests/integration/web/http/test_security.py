"""What protects browsers: headers, other sites, other hosts, other origins."""

from __future__ import annotations

from pathlib import Path

import pytest

from careca_web.http.security import CONTENT_SECURITY_POLICY
from support.stack import Stack
from support.web import Web, problem, web_service


@pytest.mark.parametrize("path", ["/api/info", "/api/jobs/none", "/nothing.txt", "/healthz", "/docs", "/openapi.json"])
async def test_every_response_has_the_security_headers(web: Web, path: str) -> None:
    headers = (await web.http.get(path)).headers

    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT"])
async def test_other_sites_change_nothing(web: Web, headers: dict[str, str], method: str) -> None:
    response = await web.http.request(method, "/api/jobs", headers=headers)

    assert problem(response)[:2] == (403, "CROSS_SITE_REQUEST")
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


async def test_our_own_pages_and_programs_may_change_things(web: Web) -> None:
    for headers in (
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": web.url},
        {"Sec-Fetch-Site": "none"},
    ):
        assert (await web.http.delete("/api/jobs", headers=headers)).status_code == 200


async def test_a_host_that_is_not_ours_is_refused(web: Web) -> None:
    response = await web.http.get("/api/info", headers={"Host": "evil.example"})

    assert problem(response)[:2] == (400, "HOST_NOT_ALLOWED")
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


async def test_the_answer_after_a_bug_has_the_security_headers(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.service.app.state, "callers", None)

    response = await web.http.get("/api/info")

    assert problem(response)[:2] == (500, "INTERNAL")
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


async def test_other_origins_may_call_only_if_they_are_set(stack: Stack, tmp_path: Path) -> None:
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with web_service(stack.target, tmp_path, cors_origins="https://app.example") as web:
        allowed = await web.http.options("/api/jobs", headers=asking)
        refused = await web.http.options("/api/jobs", headers=asking | {"Origin": "https://other.example"})

    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in allowed.headers
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "x" * 1000, "Bearer a b", "Bearer é"])
async def test_a_bad_authorization_is_refused(web: Web, value: str) -> None:
    assert problem(await web.http.get("/api/info", headers={b"Authorization": value.encode()}))[0] in (400, 401)


async def test_a_request_id_is_taken_over_if_it_is_one(web: Web) -> None:
    own = await web.http.get("/api/info", headers={"X-Request-Id": "mine-1"})
    made = await web.http.get("/api/info", headers={"X-Request-Id": "two words"})

    assert own.headers["x-request-id"] == "mine-1"
    assert made.headers["x-request-id"] != "two words"


async def test_small_bodies_have_a_limit(web: Web) -> None:
    response = await web.http.post("/api/admin/memory/release", content=bytes(2 << 20))
    assert problem(response)[:2] == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("path", ["/api", "/api/nothing", "/v1", "/v1/nothing"])
async def test_programs_never_get_the_console_for_a_path_that_does_not_exist(web: Web, path: str) -> None:
    response = await web.http.get(path)

    assert response.status_code == 404
    assert response.headers["content-type"] in ("application/problem+json", "application/json")


@pytest.mark.parametrize("path", ["/api/jobs/", "/docs/", "/healthz/", "/v1/models/"])
async def test_nobody_is_redirected_to_the_host_of_the_request(web: Web, path: str) -> None:
    response = await web.http.get(path)

    assert not response.is_redirect
    assert "location" not in response.headers

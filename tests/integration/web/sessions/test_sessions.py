"""Signing in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.stack import Stack
from support.submitters import RECORDING
from support.tokens import Tokens
from support.waiting import eventually
from support.web import Web, problem, web_service


async def sign_in(web: Web, token: str) -> httpx2.Response:
    return await web.http.post("/api/session", json={"token": token})


async def test_without_tokens_everybody_has_signed_in(web: Web) -> None:
    session = (await web.http.get("/api/session")).json()

    assert session == {"signed_in": True, "needs_token": False, "name": "", "role": "admin", "expires": None}


async def test_a_token_signs_in_and_out(guarded: Web, tokens: Tokens) -> None:
    before = (await guarded.http.get("/api/session")).json()
    response = await sign_in(guarded, tokens.of["ana"])
    cookie = response.headers["set-cookie"]
    session = (await guarded.http.get("/api/session")).json()
    job = await guarded.http.post("/api/jobs", files={"file": RECORDING})

    assert before == {"signed_in": False, "needs_token": True, "name": "", "role": "", "expires": None}
    assert (session["signed_in"], session["name"], session["role"]) == (True, "ana", "user")
    assert session["expires"] > 0
    assert tokens.of["ana"] not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert job.json()["submitter"] == "ana"
    assert (await guarded.http.delete("/api/session")).status_code == 204
    assert problem(await guarded.http.get("/api/jobs"))[0] == 401


@pytest.mark.parametrize("token", ["wrong", "x" * 1024])
async def test_a_wrong_token_signs_nobody_in(guarded: Web, token: str) -> None:
    response = await sign_in(guarded, token)

    assert problem(response)[:2] == (401, "UNKNOWN_TOKEN")
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": "x" * 1025}, {"token": 1}, []], ids=str)
async def test_a_bad_sign_in_is_refused(guarded: Web, body: object) -> None:
    assert problem(await guarded.http.post("/api/session", json=body))[0] == 422


async def test_a_tampered_cookie_is_no_session(guarded: Web, tokens: Tokens) -> None:
    await sign_in(guarded, tokens.of["ana"])
    value = guarded.http.cookies["careca-session"]
    changed = "A" if value[40] != "A" else "B"
    for tampered in (value[:40] + changed + value[41:], value[:60], "x", "", "é"):
        guarded.http.cookies.clear()
        headers = {b"Cookie": f"careca-session={tampered}".encode()}
        assert problem(await guarded.http.get("/api/jobs", headers=headers))[:2] == (401, "NO_TOKEN")


async def test_a_session_ends_with_its_time(guarded_stack: Stack, tmp_path: Path, tokens: Tokens) -> None:
    async with web_service(guarded_stack.target, tmp_path, session_seconds=0.5) as web:
        await sign_in(web, tokens.of["ana"])
        cookie = web.http.cookies.get("careca-session") or ""
        headers = {"Cookie": f"careca-session={cookie}"}

        async def has_ended() -> bool:
            return (await web.http.get("/api/jobs", headers=headers)).status_code == 401

        await eventually(has_ended)
        assert problem(await web.http.get("/api/jobs", headers=headers))[:2] == (401, "NO_TOKEN")


async def test_a_session_survives_a_restart_only_with_a_key_file(
    guarded_stack: Stack, tmp_path: Path, tokens: Tokens
) -> None:
    key = tmp_path / "key"
    key.write_text("s" * 32)
    cases: list[tuple[dict[str, Any], int]] = [({"session_key_file": key}, 200), ({}, 401)]
    for settings, status in cases:
        async with web_service(guarded_stack.target, tmp_path, **settings) as web:
            await sign_in(web, tokens.of["ana"])
            cookie = {"Cookie": f"careca-session={web.http.cookies['careca-session']}"}
        async with web_service(guarded_stack.target, tmp_path, **settings) as web:
            assert (await web.http.get("/api/jobs", headers=cookie)).status_code == status


@pytest.mark.parametrize("tls", [True, False])
async def test_behind_a_proxy_with_tls_the_cookie_is_never_sent_without_it(
    guarded_stack: Stack, tmp_path: Path, tokens: Tokens, *, tls: bool
) -> None:
    async with web_service(guarded_stack.target, tmp_path, browsers_use_tls=tls) as web:
        response = await sign_in(web, tokens.of["ana"])
    cookie = response.headers["set-cookie"]

    assert response.status_code == 200
    assert cookie.startswith("__Host-careca-session=") == tls
    assert ("; Secure" in cookie) == tls
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert ("strict-transport-security" in response.headers) == tls

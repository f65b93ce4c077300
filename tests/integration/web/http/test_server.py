"""The server itself: TLS, slow callers, drain, what it refuses to do, and what it logs."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError
from structlog.testing import capture_logs

from careca.errors import PreconditionFailed
from careca_web import server
from careca_web.settings import WebSettings
from support.certificates import CertificateFiles, issue
from support.samples import sample_value
from support.stack import Stack
from support.tokens import Tokens
from support.waiting import eventually, until
from support.web import Web, problem, submit, web_service


def settings_of(files: CertificateFiles) -> dict[str, Path]:
    return {"tls_cert_file": files.certificate, "tls_key_file": files.key}


async def test_a_replaced_certificate_is_used(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_TLS_CHECK_SECONDS", 0.05)
    authority = trustme.CA()
    files = issue(tmp_path, authority)
    trusted = ssl.create_default_context(cafile=str(files.authority))
    async with web_service(stack.target, tmp_path, verify=trusted, **settings_of(files)) as web:
        response = await web.http.get("/api/info")
        assert response.status_code == 200
        assert response.headers["strict-transport-security"]
        before = await _certificate(web, trusted)
        issue(tmp_path, authority)

        async def is_replaced() -> bool:
            return await _certificate(web, trusted) != before

        await eventually(is_replaced)


async def test_a_certificate_that_is_replaced_while_the_disk_is_full_is_used_later(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_TLS_CHECK_SECONDS", 0.05)
    authority = trustme.CA()
    files = issue(tmp_path, authority)
    trusted = ssl.create_default_context(cafile=str(files.authority))
    async with web_service(stack.target, tmp_path, verify=trusted, **settings_of(files)) as web:
        before = await _certificate(web, trusted)
        with monkeypatch.context() as full, capture_logs() as logs:
            full.setattr(server.tempfile, "TemporaryDirectory", _no_space)
            issue(tmp_path, authority)
            await until(lambda: any(entry["event"].startswith("the new certificate cannot be used") for entry in logs))

        async def is_replaced() -> bool:
            return await _certificate(web, trusted) != before

        await eventually(is_replaced)


def _no_space(prefix: str) -> tempfile.TemporaryDirectory[str]:
    raise OSError(errno.ENOSPC, f"No space left on device: {prefix}")


async def _certificate(web: Web, trusted: ssl.SSLContext) -> bytes | None:
    _, writer = await asyncio.open_connection("127.0.0.1", web.server.port, ssl=trusted)
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return found.getpeercert(binary_form=True)


async def test_an_idle_connection_that_nobody_reads_does_not_hold_up_the_end(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_CLOSE_SECONDS", 0.05)
    files = issue(tmp_path, trustme.CA())
    trusted = ssl.create_default_context(cafile=str(files.authority))

    def opened(port: int) -> ssl.SSLSocket:
        connection = trusted.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        return connection

    async with web_service(stack.target, tmp_path, verify=trusted, drain_seconds=10.0, **settings_of(files)) as web:
        connection = await asyncio.to_thread(opened, web.server.port)

        await web.server.stop()

    connection.close()
    assert "graceful shutdown exceeded" not in caplog.text


async def test_headers_that_come_too_slowly_end_the_connection(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path, header_seconds=0.2) as web:
        for begun in (b"", b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
            writer.write(begun)
            assert await reader.read() == b""
            writer.close()


async def test_headers_have_a_maximum_size(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (server.MAX_HEADER_BYTES + 1))
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_body_that_is_not_http_ends_its_request_as_if_the_caller_had_gone(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
    lines = (
        "POST /api/jobs HTTP/1.1",
        "Host: localhost",
        "Origin: null",
        "Transfer-Encoding: chunked",
        "",
        "no size",
        "",
    )
    with capture_logs() as logged:
        writer.write("\r\n".join(lines).encode())  # in one piece, so that the request is answered after it was refused
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        await until(lambda: "request served" in [line["event"] for line in logged])
    writer.close()

    assert [line for line in logged if line["log_level"] == "error"] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_bytes_that_are_not_http_after_a_response_has_begun_close_the_connection(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    job = await submit(web)
    reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
    head = f"GET /api/events?job={job['id']} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with capture_logs() as logged:
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.write(b"not the size of a chunk\r\n")
        await reader.read()
        await until(lambda: "request served" in [line["event"] for line in logged])
    writer.close()

    assert [line for line in logged if line["log_level"] == "error"] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_requests_in_flight_are_finished_when_the_service_stops(stack: Stack, tmp_path: Path) -> None:
    async with web_service(stack.target, tmp_path) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.server.port)
        writer.write(b"POST /api/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
        await until(lambda: sample_value(web.service.metrics.registry, "careca_http_requests_in_flight") == 1)
        stopping = asyncio.create_task(web.server.stop())
        await until(lambda: web.service.draining.has_begun)
        writer.write(b"RIFF")
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        writer.close()
        await stopping


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_reach_it_only_with_tls(host: str) -> None:
    with pytest.raises(ValidationError, match="CARECA_ALLOW_INSECURE"):
        WebSettings(host=host)
    assert WebSettings(host=host, allow_insecure=True).is_remote


async def test_other_machines_do_not_reach_a_gateway_without_tokens(stack: Stack, tmp_path: Path) -> None:
    files = issue(tmp_path, trustme.CA())
    async with web_service(stack.target, tmp_path, host="0.0.0.0", verify=False, **settings_of(files)) as web:
        before = await web.http.get("/api/jobs")
        with pytest.raises(PreconditionFailed) as raised:
            await web.server.wait_until_broken()
        after = await web.http.get("/api/jobs")

    assert raised.value.reason == "GATEWAY_WITHOUT_TOKENS"
    assert problem(before)[:2] == problem(after)[:2] == (503, "GATEWAY_NOT_CHECKED")


async def test_other_machines_reach_a_gateway_with_tokens_once_it_is_checked(
    guarded_stack: Stack, tmp_path: Path
) -> None:
    settings = {**settings_of(issue(tmp_path, trustme.CA())), "host": "0.0.0.0"}
    async with web_service(guarded_stack.target, tmp_path, verify=False, **settings) as web:
        before = await web.http.get("/api/jobs")
        ready = await web.http.get("/readyz")
        after = await web.http.get("/api/jobs")

    assert problem(before)[:2] == (503, "GATEWAY_NOT_CHECKED")
    assert before.headers["retry-after"] == "1"
    assert ready.status_code == 200
    assert problem(after)[:2] == (401, "NO_TOKEN")


async def test_a_port_that_is_taken_is_an_error(web: Web, stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="CARECA_PORT"):
        async with web_service(stack.target, tmp_path / "other", port=web.server.port):
            pass


async def test_no_line_of_the_log_has_a_token(guarded: Web, tokens: Tokens) -> None:
    secret = tokens.of["ana"]
    with capture_logs() as lines:
        async with guarded.as_caller(secret) as ana:
            await ana.get("/api/jobs")
            await ana.get("/api/jobs/none")
        await guarded.http.post("/api/session", json={"token": secret})
        await guarded.http.post("/api/session", json={"token": f"{secret}wrong"})
        await guarded.http.get("/api/jobs")

    assert any(line["event"] == "request served" and line.get("path") == "/api/session" for line in lines)
    assert secret not in repr(lines)


async def test_requests_are_counted_by_route_not_by_path(web: Web) -> None:
    job = await submit(web)
    await web.http.get(f"/api/jobs/{job['id']}")
    await web.http.get("/nothing.php")
    labels = [
        sample.labels["route"]
        for family in web.service.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "careca_http_seconds_count"
    ]

    assert not any(job["id"] in label or "nothing" in label for label in labels)
    assert any("{job_id}" in label for label in labels)


async def test_a_gateway_that_is_away_is_unavailable(web: Web, stack: Stack) -> None:
    await stack.stop_gateway()
    for path in ("/api/jobs", "/api/jobs/none/events"):
        response = await web.http.get(path)

        assert problem(response)[:2] == (503, "GATEWAY_UNREACHABLE")
        assert response.json()["detail"].startswith("the gateway cannot be reached: ")
        assert stack.target not in response.text
        assert int(response.headers["retry-after"]) >= 1


async def test_large_responses_are_compressed_for_callers_that_accept_it(web: Web) -> None:
    compressed = await web.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    plain = await web.http.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    small = await web.http.get("/api/session", headers={"Accept-Encoding": "gzip"})

    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.json() == plain.json()
    assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    assert "Accept-Encoding" in compressed.headers["vary"]
    assert "content-encoding" not in {*plain.headers, *small.headers}

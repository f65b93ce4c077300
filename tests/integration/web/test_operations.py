"""Health and readiness."""

from __future__ import annotations

from support.stack import Stack
from support.waiting import eventually
from support.web import Web


async def test_the_process_is_healthy_and_ready_while_the_gateway_accepts_calls(web: Web) -> None:
    assert (await web.http.get("/healthz")).text == "ok\n"
    response = await web.http.get("/readyz")
    assert (response.status_code, response.text) == (200, "ready\n")


async def test_without_a_gateway_it_is_healthy_and_not_ready(stack: Stack, web: Web) -> None:
    await stack.stop_gateway()

    async def is_not_ready() -> bool:
        return (await web.http.get("/readyz")).status_code == 503

    await eventually(is_not_ready)
    assert (await web.http.get("/healthz")).status_code == 200


async def test_a_service_that_stops_is_not_ready(web: Web) -> None:
    web.service.draining.begin()
    response = await web.http.get("/readyz")
    assert (response.status_code, response.text) == (503, "stopping\n")

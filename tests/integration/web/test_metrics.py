"""The metrics of HTTP requests."""

from __future__ import annotations

from support.samples import sample_value
from support.web import Web


def count(web: Web, method: str, route: str, status: int) -> float | None:
    """How many requests were counted; ``None`` if there is no such series."""
    labels = {"method": method, "route": route, "status": str(status)}
    return sample_value(web.service.metrics.registry, "careca_http_seconds_count", **labels)


async def test_every_route_starts_at_zero(web: Web) -> None:
    assert count(web, "GET", "/api/session", 200) == 0
    assert count(web, "DELETE", "/api/session", 204) == 0
    assert count(web, "POST", "/v1/audio/transcriptions", 200) == 0
    assert count(web, "GET", "/readyz", 200) == 0
    for route in ("/api/live", "/v1/realtime"):
        labels = {"route": route, "code": "1000"}
        registry = web.service.metrics.registry
        assert sample_value(registry, "careca_http_closed_websockets_total", **labels) == 0


async def test_a_request_counts_for_the_whole_path_of_its_route_with_names_for_parameters(web: Web) -> None:
    await web.http.get("/api/session")
    await web.http.get("/v1/models/none")
    await web.http.get("/assets/none.js")

    assert count(web, "GET", "/api/session", 200) == 1
    assert count(web, "GET", "/v1/models/{name:path}", 404) == 1
    assert count(web, "GET", "/assets", 404) == 1


async def test_paths_and_methods_that_a_stranger_invents_make_no_series_of_their_own(web: Web) -> None:
    await web.http.request("BREW", "/coffee", headers={"Authorization": "Bearer x"})
    await web.http.get("/api/stranger-1")
    await web.http.get("/api/stranger-2")

    samples = [each for family in web.service.metrics.registry.collect() for each in family.samples]
    methods = {each.labels["method"] for each in samples if each.name == "careca_http_seconds_count"}
    routes = {each.labels["route"] for each in samples if each.name == "careca_http_seconds_count"}
    assert "other" in methods
    assert "BREW" not in methods
    assert not any(route.startswith(("/coffee", "/api/stranger")) for route in routes)

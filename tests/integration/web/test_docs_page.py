"""The page /docs and the OpenAPI document."""

from __future__ import annotations

import re

from support.web import Web


async def test_the_page_needs_no_other_origin_and_no_inline_script(web: Web) -> None:
    page = await web.http.get("/docs")
    script = await web.http.get("/docs/docs.js")
    style = await web.http.get("/docs/docs.css")

    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r'(?:src|href)="([^"]+)"', page.text) == [
        "data:,",
        "/docs/docs.css",
        "/docs/docs.js",
        "/openapi.json",
    ]
    assert re.findall(r"<script[^>]*>([^<]*)", page.text) == [""]
    assert not re.search(r"style=|onclick=|innerHTML", page.text + script.text)
    assert script.headers["content-type"].startswith("text/javascript")
    assert style.headers["content-type"].startswith("text/css")


async def test_every_endpoint_is_described(web: Web) -> None:
    api = (await web.http.get("/openapi.json")).json()
    operations = {
        f"{method} {path}": operation for path, methods in api["paths"].items() for method, operation in methods.items()
    }

    assert {"post /api/jobs", "get /api/jobs/{job_id}/events", "patch /api/jobs/{job_id}/result"} <= set(operations)
    for name, operation in operations.items():
        assert operation["tags"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["in"] == "path" or parameter["schema"], name
    assert "$defs" not in str(api)

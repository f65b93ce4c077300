"""Damages HTTP requests: values, fields, headers and paths first, and then the bytes that are sent."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from bench.fuzz.http_calls import HttpCall, Part
from bench.fuzz.http_headers import NASTY_HEADERS
from bench.fuzz.mutations import mutated
from bench.fuzz.requests import BROKEN, BROKEN_BYTES, NASTY_TEXTS

BOUNDARY = "careca-fuzz"

INJECTED = "x-injected"
"""A header that no answer has, unless a line break in a value of a request becomes one in an answer."""

_TEXTS = (*NASTY_TEXTS, f"a\r\n{INJECTED}: yes", "..", "%2e%2e%2f", "%", "%zz", "1e999", "true", "1", "-0.0", "[]")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 51, 2**31, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, float("inf"), float("nan")),
    *([], {}, [[]], [None], {"": None}, ["a"] * 2_000, {"__proto__": {}}),
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "X" * 300)
_RAW_JSON = (b"", b"{", b"null", b"[" * 50_000, b'{"a":' * 50_000, b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"1" * 9_000)


@dataclass
class Draft:
    """A request while it is damaged."""

    method: str
    route: str
    values: dict[str, str]
    query: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    json: Any
    form: list[Part]
    body: bytes


Damage = Callable[[Draft, random.Random], None]


def damaged_request(call: HttpCall, host: str, chance: random.Random) -> bytes:
    """The bytes of ``call`` after damage to some of its parts, or to its bytes."""
    headers = [("Host", host), ("Connection", "close"), *call.headers.items()]
    draft = Draft(
        call.method,
        call.route,
        dict(call.values),
        list(call.query),
        headers,
        json.loads(json.dumps(call.json)),
        list(call.form),
        call.body,
    )
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        chance.choice(_damages(draft))(draft, chance)
    body = _body_of(draft, chance)
    head = _head_of(draft, body)
    if chance.random() < 0.3:
        part = chance.random()
        if part < 0.5:
            body = mutated(body, chance, [head, body])
        elif part < 0.9:
            head = mutated(head, chance, [head])
        else:
            return mutated(head + body, chance, [head, body])
        if part < 0.4:  # a damaged body of the right length is read to its end
            head = _head_of(draft, body)
    return head + body


def _damages(draft: Draft) -> Sequence[Damage]:
    """The kinds of damage that this request can have."""
    kinds: list[Damage] = [_header, _header, _header, _method, _query, _query]
    kinds += [_path] * (3 if draft.values else 1)
    kinds += [_json] * 12 if draft.json is not None else []
    kinds += [_form] * 12 if draft.form else []
    return kinds


def _method(draft: Draft, chance: random.Random) -> None:
    draft.method = chance.choice(_METHODS)


def _path(draft: Draft, chance: random.Random) -> None:
    if draft.values and chance.random() < 0.7:
        draft.values[chance.choice(list(draft.values))] = chance.choice(_TEXTS)
    else:
        draft.route += chance.choice(("/", "//", "/..", "/../../etc/passwd", "/%00", "?", "#", ";", "/" + "a" * 3_000))


def _query(draft: Draft, chance: random.Random) -> None:
    if draft.query and chance.random() < 0.8:
        at = chance.randrange(len(draft.query))
        draft.query[at] = (draft.query[at][0], chance.choice(_TEXTS))
    else:
        draft.query += [(chance.choice(("name", "state", "x", "", BROKEN)), chance.choice(_TEXTS))] * chance.choice(
            (1, 2, 300)
        )


def _header(draft: Draft, chance: random.Random) -> None:
    name = chance.choice(list(NASTY_HEADERS))
    value = chance.choice(NASTY_HEADERS[name])
    if chance.random() < 0.8:  # otherwise it comes twice
        draft.headers = [each for each in draft.headers if each[0] != name]
    draft.headers.append((name, value))


def _json(draft: Draft, chance: random.Random) -> None:
    draft.json = _twisted(draft.json, chance)


def _twisted(value: Any, chance: random.Random) -> Any:
    """``value`` with one change, at whatever depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.2:
            return value | {chance.choice(("x", "", "__proto__", key.upper())): chance.choice(_VALUES)}
        return value | {key: _twisted(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], _twisted(value[at], chance), *value[at + 1 :]] * chance.choice((1, 1, 1, 60))
    return chance.choice(_TEXTS if chance.random() < 0.5 else _VALUES)


def _form(draft: Draft, chance: random.Random) -> None:
    if not draft.form:
        return
    at, kind = chance.randrange(len(draft.form)), chance.random()
    name, filename, content = draft.form[at]
    if kind < 0.1:
        del draft.form[at]
    elif kind < 0.2:
        draft.form += [draft.form[at]] * chance.choice((1, 2, 1_200))
    elif kind < 0.3:
        draft.form[at] = (chance.choice(_TEXTS), filename, content)
    elif kind < 0.5 and filename is not None:
        draft.form[at] = (name, chance.choice((None, *_TEXTS)), content)
    elif kind < 0.6 and filename is not None:
        draft.form[at] = (name, filename, mutated(content, chance, [content]))
    elif filename is None:
        draft.form[at] = (name, chance.choice((None, None, None, "x")), _bytes_of(chance.choice(_TEXTS)))


def _body_of(draft: Draft, chance: random.Random) -> bytes:
    """The body; adds its media type to the headers."""
    if draft.form:
        _default(draft, "Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        return b"".join(map(_part_of, draft.form)) + f"--{BOUNDARY}--\r\n".encode()
    if draft.json is not None:
        _default(draft, "Content-Type", "application/json")
        return chance.choice(_RAW_JSON) if chance.random() < 0.03 else _bytes_of(json.dumps(draft.json))
    return draft.body


def _part_of(part: Part) -> bytes:
    name, filename, content = part
    file = "" if filename is None else f'; filename="{filename}"'
    return b"".join(
        (
            f"--{BOUNDARY}\r\n".encode(),
            _bytes_of(f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'),
            content,
            b"\r\n",
        )
    )


def _head_of(draft: Draft, body: bytes) -> bytes:
    path = draft.route
    for name, value in draft.values.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = f"?{urlencode(draft.query)}" if draft.query else ""
    headers = list(draft.headers)
    if (body or draft.method not in ("GET", "HEAD")) and not {"Content-Length", "Transfer-Encoding"} & dict(
        headers
    ).keys():
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{draft.method} {path}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return _bytes_of("\r\n".join(lines))


def _default(draft: Draft, name: str, value: str) -> None:
    if name not in dict(draft.headers):
        draft.headers.append((name, value))


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(BROKEN.encode(), BROKEN_BYTES)


def headers_of(items: Sequence[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """The headers of an answer, by their names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in items}

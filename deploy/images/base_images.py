"""`make base-images`: writes which base images the tags of docker-bake.hcl stand for now, by their digests.

Asks the registry of each, and changes docker-bake.hcl and the Dockerfiles. With a digest, a build has the same base
image until this is run again. Changes nothing if a registry cannot be reached.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

ROOT = Path(__file__).parents[2]
FILES = ("docker-bake.hcl", *(f"services/{each}/Dockerfile" for each in ("gateway", "web", "transcriber", "diarizer")))
VARIABLES = ("PYTHON_IMAGE", "NODE_IMAGE")

_VARIABLE = re.compile(r'variable "(\w+)" \{\s*default = "([^"]*)"')
_IMAGE = re.compile(r"([\w.-]+\.[\w.-]+)/([\w./-]+):([\w.-]+)(?:@sha256:[0-9a-f]{64})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose API has another name."""

# An index of several processors comes first: its digest fits all of them.
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class BaseImageError(Exception):
    """A digest cannot be had. The text says why."""


class Reply(NamedTuple):
    """What a registry answers."""

    status: int
    headers: Mapping[str, str]
    """The names are in small letters."""
    body: bytes


Ask = Callable[[str, str, Mapping[str, str]], Reply]
"""Sends a request: its method, its URL, and its headers."""


def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
    """Sends a request. Raises ``BaseImageError`` if there is no answer."""
    request = urllib.request.Request(url, method=method, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Reply(response.status, _small(response.headers.items()), response.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, _small(error.headers.items()), error.read())
    except OSError as error:
        raise BaseImageError(f"{url} cannot be reached: {error}") from error


def images(bake: str) -> dict[str, str]:
    """Returns the base images by the names of their variables in the text of docker-bake.hcl."""
    found = dict(_VARIABLE.findall(bake))
    return {variable: found[variable] for variable in VARIABLES}


def without_digest(image: str) -> str:
    """Returns the name with its tag alone."""
    return image.partition("@")[0]


def digest(image: str, ask: Ask = ask) -> str:
    """Returns the digest that a registry has for the tag of an image, such as ``sha256:...``.

    Raises ``BaseImageError`` if there is none.
    """
    parts = _IMAGE.fullmatch(image)
    if not parts:
        raise BaseImageError(f"{image!r} is not an image with registry and tag")
    registry, name, tag = parts.groups()
    url = f"https://{_HOSTS.get(registry, registry)}/v2/{name}/manifests/{tag}"
    headers = {"Accept": _ACCEPT}
    reply = ask("HEAD", url, headers)
    if reply.status == HTTPStatus.UNAUTHORIZED:
        headers["Authorization"] = f"Bearer {_token(reply, ask)}"
        reply = ask("HEAD", url, headers)
    found = reply.headers.get("docker-content-digest", "")
    if reply.status != HTTPStatus.OK or not _DIGEST.fullmatch(found):
        raise BaseImageError(f"{url} answers {reply.status} and the digest {found!r}")
    return found


def pinned(text: str, image: str, digest: str) -> str:
    """Returns the text with this digest wherever it names the image, with another digest or none."""
    tag = without_digest(image)
    return re.sub(rf"{re.escape(tag)}(?:@sha256:[0-9a-f]{{64}}|(?![\w.@-]))", f"{tag}@{digest}", text)


def main() -> int:
    """Prints a line for each image. Returns 1 if a digest cannot be had."""
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in FILES}
    try:
        for variable, image in images(texts["docker-bake.hcl"]).items():
            found = digest(image)
            texts = {file: pinned(text, image, found) for file, text in texts.items()}
            print(f"{variable}: {without_digest(image)}@{found}")
    except BaseImageError as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 1
    for file, text in texts.items():
        (ROOT / file).write_text(text, encoding="utf-8")
    return 0


def _token(refused: Reply, ask: Ask) -> str:
    """Returns the token that the registry asks for; everybody gets one for images that everybody may pull."""
    challenge = dict(_CHALLENGE.findall(refused.headers.get("www-authenticate", "")))
    realm = challenge.pop("realm", "")
    if not realm.startswith("https://"):
        raise BaseImageError(f"the registry wants a password, and names no place for a token: {realm!r}")
    reply = ask("GET", f"{realm}?{urlencode(challenge)}", {})
    if reply.status != HTTPStatus.OK:
        raise BaseImageError(f"{realm} answers {reply.status}")
    answer = json.loads(reply.body)
    return str(answer.get("token") or answer["access_token"])


def _small(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


if __name__ == "__main__":
    sys.exit(main())

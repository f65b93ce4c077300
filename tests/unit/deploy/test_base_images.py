"""`make base-images`, with a registry that is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import base_images
from base_images import BaseImageError, Reply, digest, images, pinned

ROOT = Path(__file__).parents[3]
IMAGE = "docker.io/library/python:3.11.14-slim-bookworm"
DIGEST = "sha256:" + "ab" * 32
MANIFEST = "https://registry-1.docker.io/v2/library/python/manifests/3.11.14-slim-bookworm"
CHALLENGE = 'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:library/python:pull"'


class Registry:
    """Answers as a registry that gives everybody a token."""

    def __init__(self, digest: str = DIGEST, challenge: str = CHALLENGE) -> None:
        self.asked: list[tuple[str, str]] = []
        self._digest = digest
        self._challenge = challenge

    def __call__(self, method: str, url: str, headers: Mapping[str, str]) -> Reply:
        self.asked.append((method, url))
        if url.startswith("https://auth.test/token"):
            return Reply(200, {}, json.dumps({"token": "secret"}).encode())
        if headers.get("Authorization") != "Bearer secret":
            return Reply(401, {"www-authenticate": self._challenge}, b"")
        return Reply(200, {"docker-content-digest": self._digest}, b"")


@pytest.mark.parametrize("image", [IMAGE, f"{IMAGE}@sha256:{'00' * 32}"])
def test_the_registry_says_the_digest_of_a_tag(image: str) -> None:
    registry = Registry()

    assert digest(image, registry) == DIGEST
    assert registry.asked == [
        ("HEAD", MANIFEST),
        ("GET", "https://auth.test/token?service=registry.test&scope=repository%3Alibrary%2Fpython%3Apull"),
        ("HEAD", MANIFEST),
    ]


def test_a_registry_without_tokens_is_asked_once() -> None:
    def ask(method: str, url: str, headers: Mapping[str, str]) -> Reply:
        assert (method, url) == ("HEAD", "https://ghcr.io/v2/careca/gateway/manifests/0.1.0")
        assert headers["Accept"].startswith("application/vnd.oci.image.index.v1+json, ")
        return Reply(200, {"docker-content-digest": DIGEST}, b"")

    assert digest("ghcr.io/careca/gateway:0.1.0", ask) == DIGEST


@pytest.mark.parametrize("found", ["", "sha256:12", "latest"])
def test_what_is_not_a_digest_is_not_taken(found: str) -> None:
    with pytest.raises(BaseImageError, match="answers 200"):
        digest(IMAGE, Registry(digest=found))


@pytest.mark.parametrize("challenge", ["", 'Basic realm="registry"', 'Bearer realm="http://auth.test/token"'])
def test_no_token_is_asked_for_without_tls(challenge: str) -> None:
    with pytest.raises(BaseImageError, match="no place for a token"):
        digest(IMAGE, Registry(challenge=challenge))


@pytest.mark.parametrize("image", ["python:3.11", "docker.io/library/python", ""])
def test_an_image_needs_a_registry_and_a_tag(image: str) -> None:
    with pytest.raises(BaseImageError, match="not an image"):
        digest(image, Registry())


def test_a_digest_is_written_wherever_the_image_is_named() -> None:
    text = f'default = "{IMAGE}"\nARG PYTHON_IMAGE={IMAGE}\nARG OTHER={IMAGE}-more\n'
    other = "sha256:" + "cd" * 32

    once = pinned(text, IMAGE, DIGEST)

    assert once == f'default = "{IMAGE}@{DIGEST}"\nARG PYTHON_IMAGE={IMAGE}@{DIGEST}\nARG OTHER={IMAGE}-more\n'
    assert pinned(once, f"{IMAGE}@{DIGEST}", other) == once.replace(DIGEST, other)


def test_all_files_that_name_a_base_image_are_changed() -> None:
    texts = {file: (ROOT / file).read_text() for file in base_images.FILES}
    found = images(texts["docker-bake.hcl"])

    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("services/*/Dockerfile")} < set(texts)
    for image in found.values():
        changed = {file: pinned(text, image, DIGEST) for file, text in texts.items()}
        assert {file for file in texts if image in texts[file]} == {f for f in texts if DIGEST in changed[f]} != set()


def test_nothing_is_changed_without_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in base_images.FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text())
    monkeypatch.setattr(base_images, "ROOT", tmp_path)

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(base_images.urllib.request, "urlopen", unreachable)

    assert base_images.main() == 1
    assert "Nothing was changed" in capsys.readouterr().err
    assert all((tmp_path / file).read_text() == (ROOT / file).read_text() for file in base_images.FILES)

"""The web console as it is built: small, from this origin only, and nothing that the security policy forbids."""

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "services" / "web" / "console"
STATIC = ROOT / "services" / "web" / "src" / "careca_web" / "console" / "static"
MOST_SCRIPT_BYTES = 150_000
"""Compressed, at first load."""


class Page(HTMLParser):
    """What a page loads, and what it contains inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attrs:
            if name in {"src", "href"}:
                self.loaded.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    assert (STATIC / "index.html").is_file(), "run `make console`"
    return Page((STATIC / "index.html").read_text())


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {path.name: path.read_text() for path in STATIC.rglob("*.js")}


def test_the_page_loads_files_of_this_origin_that_exist(page: Page) -> None:
    assert any(path.endswith(".js") for path in page.loaded)
    assert [path for path in page.loaded if not path.startswith("/") or path.startswith("//")] == []
    assert [path for path in page.loaded if not (STATIC / path.removeprefix("/")).is_file()] == []


def test_the_page_has_nothing_inline(page: Page) -> None:
    assert page.inline == []


def test_a_page_with_something_inline_is_noticed() -> None:
    assert len(Page("<p style='a' onclick='b'></p><script>c</script><style>d</style>").inline) == 4


def test_the_scripts_are_small(scripts: dict[str, str]) -> None:
    assert 0 < sum(len(gzip.compress(text.encode())) for text in scripts.values()) < MOST_SCRIPT_BYTES


def test_templates_set_no_style_by_an_attribute(scripts: dict[str, str]) -> None:
    assert [name for name, text in scripts.items() if re.search(r"<\w[^<>`]* style=", text)] == []


def test_scripts_and_styles_name_no_other_origin(scripts: dict[str, str]) -> None:
    styles = {path.name: path.read_text() for path in STATIC.rglob("*.css")}
    # Names of namespaces, links in messages for developers, and a dummy base for relative addresses: nothing is loaded.
    harmless = re.compile(r"https?://(?:www\.w3\.org/|svelte\.dev/e/|localhost$|tus\.io)")

    for name, text in {**scripts, **styles}.items():
        found = re.findall(r"https?://[\w.-]+[\w./-]*", text)
        assert [address for address in found if not harmless.match(address)] == [], name
    assert all("@import" not in text and "url(" not in text for text in styles.values())


def test_the_licences_of_the_bundled_libraries_are_delivered() -> None:
    dependencies = json.loads((SOURCES / "package.json").read_text())["dependencies"]
    delivered = re.findall(r"^## (\S+) - ", (STATIC / "licenses.md").read_text(), flags=re.MULTILINE)
    notice = (ROOT / "NOTICE").read_text().lower()

    assert {"svelte", *dependencies} <= set(delivered)
    assert [name for name in delivered if name not in notice] == []


def test_the_versions_of_all_packages_are_locked() -> None:
    stated = json.loads((SOURCES / "package.json").read_text())
    locked = json.loads((SOURCES / "package-lock.json").read_text())["packages"]

    for name, version in {**stated["dependencies"], **stated["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{name} has no exact version"
        assert locked[f"node_modules/{name}"]["version"] == version
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []
    # The registry is the user's: its address is in the settings of npm.
    assert [name for name, package in locked.items() if "resolved" in package] == []

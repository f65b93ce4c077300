"""What README and docs refer to exists: links, anchors, paths, packages. Every page is in the index."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
BASES = (ROOT, DOCS, ROOT / "deploy" / "k8s", *ROOT.glob("services/*/src"), ROOT / "client" / "src")
"""What a path in backticks may be relative to."""

ELSEWHERE = {
    *(".venv/bin", ".venv/bin/python", ".venv/bin/pytest", "build/", ".careca/"),  # made by commands
    *("data/dev", "data/dev/ami", "data/dev/mix", "data/dev/phone/call_40_stereo", "phone/sample", "mix/mix1"),
    *("phone/call_49", "careca-secrets/"),  # data and files of the reader
    *("ami/dev", "Systran/faster-whisper-large-v3"),
}
"""Paths that are right although they are not in the repository."""

NO_PATH = re.compile(r"[=:@|,]|^[/~$]|^(nvidia\.com|careca\.io|job|deployment|statefulset|service)/|/\d+$|^[A-Z]{2,}")
"""What has a slash and is not a path of the repository: URLs, absolute paths, labels, versions, placeholders."""


def text_of(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub forms them."""
    titles = re.findall(r"^#+ (.*)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"docs/{page.name}")
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent == ROOT else f"docs/{page.name}")
def test_every_path_in_backticks_exists(page: Path) -> None:
    words = {word for code in re.findall(r"`([^`\n]+)`", text_of(page)) for word in code.split()}
    named = {word for word in words if "/" in word and not NO_PATH.search(word)}

    assert sorted(word for word in named - ELSEWHERE if not any(any(base.glob(word)) for base in BASES)) == []


def test_every_page_is_in_the_index_once() -> None:
    listed = re.findall(r"^- \[[^]]+\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text(), flags=re.MULTILINE)

    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")


def test_the_printed_tree_has_every_package_with_a_line() -> None:
    tree = (DOCS / "architecture.md").read_text().split("## The tree")[1].split("```")[1]
    packages = {
        module.parent.relative_to(src).as_posix()
        for src in (*ROOT.glob("services/*/src"), ROOT / "client" / "src")
        for module in src.rglob("*.py")
        if "careca/v1" not in module.as_posix()
    }

    described = dict(re.findall(r"^  (\S+) +(\S.*)$", tree, flags=re.MULTILINE))
    assert described.keys() == packages
    assert re.findall(r"^(\S+)", tree, flags=re.MULTILINE) == [
        *("protos/careca/v1", "services/common/src", "services/transcriber/src", "services/diarizer/src"),
        *(
            "services/gateway/src",
            "services/web/src",
            "services/web/console",
            "client/src",
            "deploy/local",
            "deploy/images",
            "deploy/k8s",
            "deploy/release",
        ),
        *("bench", "docs", "tests"),
    ]


def test_the_walks_pass_each_package_once() -> None:
    page = (DOCS / "architecture.md").read_text()
    request, job = (page.split(title)[1].split("\n## ")[0] for title in ("## One request", "## One job"))

    for walk in (request, job):
        passed = re.findall(r"\*\*\[?`?(careca[\w/]*)`?\]?", walk)
        assert len(passed) > 5
        assert len(passed) == len(set(passed))

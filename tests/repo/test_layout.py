"""What the tree promises: light packages, versions in one place, nothing of one machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".toml", ".proto", ".md", ".txt"}
FOLDERS = ("services", "client", "deploy", "bench", "tests", "protos", "docs")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in KINDS
    and not any(part in str(path) for part in ("egg-info", "node_modules", "src/careca/v1", "console/static"))
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("careca_gateway", ("torch", "faster_whisper", "ctranslate2", "sklearn", "pyannote")),
        ("careca_transcriber", ("torch", "pyannote", "sklearn")),
        ("careca_client", ("torch", "faster_whisper", "pyannote", "sklearn", "av")),
    ],
)
def test_a_package_does_not_pull_in_another_ones_libraries(package: str, forbidden: tuple[str, ...]) -> None:
    walk = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({package!r})\n"
        "names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "[importlib.import_module(n) for n in names if not n.endswith('__main__')]\n"
        f"print(len(names), [m for m in {forbidden!r} if m in sys.modules])"
    )

    count, loaded = run(walk).split(" ", 1)

    assert int(count) > 3
    assert loaded.strip() == "[]"


def test_exact_versions_stand_only_in_the_constraints() -> None:
    pinned = re.compile(r"^\s*\"?[A-Za-z0-9_.\[\]-]+==\d")
    files = [path for path in SOURCES if path.name in {"pyproject.toml", "requirements.txt"}]

    assert len(files) >= 7
    assert [f"{path}: {line}" for path in files for line in path.read_text().splitlines() if pinned.match(line)] == []


def test_every_dependency_is_constrained() -> None:
    constrained = {
        re.split(r"==", line)[0].lower().replace("_", "-").replace(".", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    requirements = [
        line.strip().lower().replace("_", "-").replace(".", "-")
        for path in SOURCES
        if path.name == "requirements.txt"
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]

    assert requirements
    assert set(requirements) - constrained == set()


def test_no_file_names_a_path_of_one_machine() -> None:
    home = re.compile(r"(?<![\w.])/(?:work|root|home)/\w+")

    assert [str(path) for path in SOURCES if home.search(path.read_text())] == []


PACKAGES = sorted(
    {
        module.parent
        for folder in (*ROOT.glob("services/*/src"), ROOT / "client" / "src", ROOT / "bench")
        for module in folder.rglob("*.py")
        if "src/careca/v1" not in str(module)
    }
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.relative_to(ROOT).as_posix())
def test_each_package_says_what_lives_there(package: Path) -> None:
    text = (package / "__init__.py").read_text()

    assert re.match(r'"""[\w`][^"]+\.', text), "a sentence"

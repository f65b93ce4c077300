"""What people expect of a repository: one version, hooks that check what continuous integration checks, a changelog."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local_stack import TIMED_SERVICE
from support.waiting import until

ROOT = Path(__file__).parents[2]
VERSION = (ROOT / "VERSION").read_text().strip()
PROJECTS = sorted([*ROOT.glob("services/*/pyproject.toml"), ROOT / "client" / "pyproject.toml"])
MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_each_package_reads_its_version_from_the_one_file(project: Path) -> None:
    stated = tomllib.loads(project.read_text())

    assert stated["project"]["dynamic"] == ["version"]
    assert stated["tool"]["setuptools"]["dynamic"]["version"] == {"file": "VERSION"}
    assert (project.parent / "VERSION").resolve() == ROOT / "VERSION"
    assert importlib.metadata.version(stated["project"]["name"]) == VERSION, "run `make setup`"


def test_images_are_made_with_the_version_of_the_file() -> None:
    assert 'variable "VERSION" {\n  default = "dev"\n}' in (ROOT / "docker-bake.hcl").read_text()
    assert "VERSION=$$(cat VERSION) " in MAKEFILE.split("\nimages:")[1].split("\n\n")[0]


def test_the_hooks_run_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    printed = subprocess.run(
        ["make", "--dry-run", "--always-make", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    checks = re.findall(r"^\.venv/bin/(?:ruff|mypy|lint-imports|buf).*$", printed, flags=re.MULTILINE)

    assert len(checks) >= 6
    # What the protos are compared with differs: the last commit, or what landed last.
    hook_commands = [re.sub(r"#ref=\w+", "#ref=", hook["entry"]) for hook in hooks]
    assert hook_commands == [re.sub(r"#ref=[\w/~]+", "#ref=", check.replace("'", "")) for check in checks]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_every_command_of_the_makefile_is_described() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)

    assert [name for name in phony.split() if not re.search(rf"^{name}:.* ## \w", MAKEFILE, flags=re.MULTILINE)] == []


def test_the_changelog_keeps_to_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    kinds = set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE))

    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases[1:])
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert VERSION in text


@pytest.fixture(params=["diarizer", "web"])
def log_of_one_service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """What a service logs while it runs alone and without a model."""
    log = tmp_path / "log"
    environment = {"CARECA_PORT": "0", "CARECA_METRICS_PORT": "-1", "HOME": str(tmp_path), "PATH": ""}
    with log.open("wb") as file:
        command = [sys.executable, TIMED_SERVICE, request.param]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    yield log
    process.terminate()
    process.wait()


async def test_one_service_can_be_run_without_a_model(log_of_one_service: Path) -> None:
    await until(lambda: "Service ready" in log_of_one_service.read_text())


def test_an_unknown_service_is_refused() -> None:
    done = subprocess.run([sys.executable, TIMED_SERVICE, "gatway"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (2, "name one service: gateway, web, transcriber or diarizer\n")

"""The licence of Careca, and the licences of what it downloads and of what its images contain."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import requirements
from bench.audit import licence_of
from careca.models import load_catalogue

ROOT = Path(__file__).parents[2]
NOTICE = (ROOT / "NOTICE").read_text()
PROJECTS = sorted([*ROOT.glob("services/*/pyproject.toml"), ROOT / "client" / "pyproject.toml"])


def closure(service: str) -> dict[str, importlib.metadata.Distribution]:
    """What the image of the service installs, as far as it is installed here, by name."""
    wanted = [Requirement(each) for each in requirements.requirements(service, "cpu", ROOT)]
    found: dict[str, importlib.metadata.Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = importlib.metadata.distribution(requirement.name)
        needed = map(Requirement, found[requirement.name].requires or ())
        wanted += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_each_package_states_the_licence_and_carries_it(project: Path) -> None:
    stated = tomllib.loads(project.read_text())["project"]

    assert stated["license"] == "Apache-2.0"
    assert stated["license-files"][0] == "LICENSE"
    for name in stated["license-files"]:
        assert (project.parent / name).read_text() == (ROOT / name).read_text()


def test_the_licence_of_each_model_is_named() -> None:
    named = dict(re.findall(r"^(\S+) +(\S+)  ", NOTICE.partition("2. What")[0], flags=re.MULTILINE))

    assert named == {model.name: model.licence for model in load_catalogue().values()}


@pytest.mark.parametrize("service", ["gateway", "transcriber", "diarizer"])
def test_every_package_with_a_reciprocal_licence_is_named(service: str) -> None:
    reciprocal = [name for name, each in closure(service).items() if re.search(r"MPL|Mozilla|GPL", licence_of(each))]

    assert [name for name in reciprocal if not re.search(rf"\b{name}\b", NOTICE)] == []

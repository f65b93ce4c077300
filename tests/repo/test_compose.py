"""Docker Compose: the same images and settings as everywhere, and nothing open to other machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from careca.settings import PREFIX
from k8s_check.build import build
from k8s_check.settings import CLASSES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
VERSION = (ROOT / "VERSION").read_text().strip()
SERVICES = ("gateway", "web", "transcriber", "diarizer")

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def read(name: str) -> dict[str, Any]:
    """The file with the defaults of its variables."""
    text = (FOLDER / name).read_text()
    content: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda match: match[2], text))
    return content


COMPOSE, GPU = read("compose.yaml"), read("compose.gpu.yaml")


def tags_in_bake() -> set[str]:
    text = (ROOT / "docker-bake.hcl").read_text()
    tags = re.findall(r'tags\s*= \["\$\{REGISTRY\}/([\w-]+):\$\{VERSION\}([\w-]*)"\]', text)
    return {f"ghcr.io/careca/{name}:{VERSION}{suffix}" for name, suffix in tags}


@pytest.mark.parametrize("content", [COMPOSE, GPU], ids=["compose.yaml", "compose.gpu.yaml"])
def test_images_are_those_that_are_built(content: dict[str, Any]) -> None:
    images = {each["image"] for each in content["services"].values()}

    ours = {image for image in images if image.startswith("ghcr.io/careca/")}
    assert ours <= tags_in_bake()
    redis = build("base").workload("redis-jobs").main.spec["image"]
    assert images - ours <= {redis}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_can_be_built_from_its_dockerfile(name: str) -> None:
    service = COMPOSE["services"][name]["build"]

    assert (FOLDER / service["context"] / service["dockerfile"]).is_file()
    assert (FOLDER / service["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("overrides", [{}, GPU["services"]], ids=["cpu", "gpu"])
def test_each_service_starts_with_its_settings(name: str, overrides: dict[str, Any]) -> None:
    variables = COMPOSE["services"][name]["environment"] | overrides.get(name, {}).get("environment", {})
    fields = {key.removeprefix(PREFIX).lower(): value for key, value in variables.items()}

    assert fields.keys() <= CLASSES[name].model_fields.keys()
    settings = CLASSES[name](_env_prefix="NOT_READ_", **fields)  # type: ignore[call-arg]  # of pydantic-settings
    assert float(settings.drain_seconds) < seconds(COMPOSE["services"][name]["stop_grace_period"])  # type: ignore[attr-defined]


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def test_all_services_of_the_manifests_are_there() -> None:
    assert COMPOSE["services"].keys() == {each.name for each in build("base").workloads}
    assert GPU["services"].keys() == {"transcriber", "diarizer"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_containers_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert name == "models" or service["mem_limit"]


@pytest.mark.parametrize("name", [*SERVICES, "models"])
def test_large_files_are_on_the_disk(name: str) -> None:
    assert "/tmp" in COMPOSE["services"][name]["volumes"]


def test_only_this_machine_reaches_the_gateway_and_the_web_service() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}

    assert ports == {"gateway": ["127.0.0.1:50051:50051"], "web": ["127.0.0.1:8080:8080"]}


def test_volumes_and_files_exist() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", ())]

    for source in (mount.partition(":")[0] for mount in mounts if mount != "/tmp"):
        assert source in COMPOSE["volumes"] or (FOLDER / source).is_file(), source


def test_addresses_are_names_of_services() -> None:
    text = yaml.safe_dump(COMPOSE["services"])

    called = set(re.findall(r"(?:redis://|dns:///|TARGET: )([a-z-]+):\d+", text))
    assert called == {"redis-cache", "redis-jobs", "transcriber", "diarizer", "gateway"}

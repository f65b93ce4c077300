"""`make images-check`, as far as it needs neither root nor podman."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from images_check.base import default_of
from images_check.images import IMAGES, MOST_BYTES
from images_check.podman import CheckError, Podman
from images_check.pods import ADDRESSES, service_names
from k8s_check.build import build
from k8s_check.manifests import SERVICES


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "podman" else f"/usr/bin/{name}")

    with pytest.raises(CheckError, match=r"podman cannot be found.*apt-get install podman"):
        Podman(tmp_path)


def test_all_services_are_built_and_have_a_limit() -> None:
    assert set(IMAGES) == set(SERVICES) == set(MOST_BYTES)
    assert set(ADDRESSES) < set(SERVICES)


def test_base_images_are_those_of_the_dockerfiles() -> None:
    assert default_of("PYTHON_IMAGE").startswith("docker.io/library/python:3.11")
    with pytest.raises(CheckError, match="NO_SUCH_IMAGE"):
        default_of("NO_SUCH_IMAGE")


def test_pods_have_the_names_of_their_services() -> None:
    names = {workload.name: set(service_names(workload)) for workload in build("base").workloads}

    assert names["gateway"] == {"gateway", "gateways"}
    assert names["diarizer"] == {"diarizer"}
    assert names["redis-jobs"] == {"redis-jobs"}
    assert names["models"] == set()

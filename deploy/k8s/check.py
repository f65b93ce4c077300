"""Checks the manifests without a cluster: builds everything that can be built and holds it to all rules.

make k8s-check
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from k8s_check import network, pods, references, schemas, settings
from k8s_check.build import BUILDS, build
from k8s_check.manifests import Manifests

Rule = Callable[[Manifests], list[str]]

RULES: tuple[Rule, ...] = (
    schemas.kubernetes,
    pods.confinement,
    pods.limits,
    pods.graphics,
    pods.probes,
    pods.uploads,
    pods.ending,
    pods.images,
    pods.availability,
    references.namespaces,
    references.names,
    references.files,
    references.services,
    references.ingresses,
    references.targets,
    references.scaling,
    references.certificates,
    settings.known,
    settings.values,
    settings.metrics,
    network.arrows,
)


def main() -> int:
    """Says what is wrong, and whether anything is by the exit code."""
    count = 0
    for name in BUILDS:
        manifests = build(name)
        problems = [problem for rule in RULES for problem in rule(manifests)]
        count += len(problems)
        versions = ", ".join(schemas.VERSIONS)
        outcome = f"{len(problems)} problems" if problems else f"right for Kubernetes {versions}"
        print(f"{name}: {len(manifests.objects)} objects, {outcome}")
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

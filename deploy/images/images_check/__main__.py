"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path

from careca.errors import CarecaError
from careca.settings import ModelServiceSettings
from images_check import checks, images
from images_check.base import ROOT, base_images, default_of
from images_check.load import load
from images_check.podman import CheckError, Podman
from images_check.pods import ADDRESSES, Cluster, copy_weights
from images_check.sbom import bill_of_materials, without_licence
from images_check.upgrade import older_images, upgrade
from k8s_check.build import build
from k8s_check.secrets import contents, make_secrets

_CHECKS: dict[str, Callable[[checks.System], str | Iterable[str]]] = {
    "start": checks.start,
    "confinement": checks.confinement,
    "transcription": checks.transcription,
    "operation": checks.operation,
    "http": checks.http,
    "healthchecks": checks.healthchecks,
    "drain": checks.drain,
    "kill": checks.kill,
    "faults": checks.faults,
    "load": load,
}
_UPGRADE = "upgrade"


def main() -> int:
    """Returns 1 if something is not as it must be."""
    names = [*_CHECKS, _UPGRADE]
    parser = argparse.ArgumentParser(prog="make images-check", description=sys.modules["images_check"].__doc__)
    parser.add_argument("--build-options", default="", help="more options of `buildah bud`, such as --secret, --volume")
    parser.add_argument("--skip-build", action="store_true", help="take the images that were built before")
    parser.add_argument("--checks", nargs="+", choices=names, default=names, help="only these, after `start`")
    parser.add_argument("--older", default="HEAD~1", help="the revision to upgrade from (default: %(default)s)")
    parser.add_argument("--overlay", default="base", help="the build of the manifests to run (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="careca-images-", dir="/var/tmp") as folder:
        try:
            _run(arguments, Path(folder))
        except (CheckError, CarecaError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    return 0


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    podman = Podman(folder)
    manifests = build(arguments.overlay)
    redis = str(manifests.workload("redis-jobs").main.spec["image"])
    for name, stand_in in base_images(podman, folder, redis).items():
        _report("base image", f"{name}{' (a stand-in: no registry can be reached)' if stand_in else ''}")
    for service in images.IMAGES:
        name = str(manifests.workload(service).main.spec["image"])
        began = time.monotonic()
        if not arguments.skip_build:
            images.build(podman, service, name, arguments.build_options)
        added_bytes = images.examine(podman, service, name, default_of("PYTHON_IMAGE"))
        _report("image", f"{name}: {added_bytes / 1e6:.0f} MB more than its base, {time.monotonic() - began:.0f} s")
        _write_bill(podman, service, name)
    older = None
    if _UPGRADE in arguments.checks:
        older = older_images(podman, arguments.older, folder, arguments.build_options)
        _report("older images", arguments.older)
    people = folder / "people"
    volumes = folder / "volumes"
    volumes.mkdir()
    models = folder / "models"
    copy_weights(ModelServiceSettings().models_dir, models)
    secrets = contents(make_secrets(people, "careca.example", "127.0.0.1", *chain(*ADDRESSES.values())))
    cluster = Cluster(podman, manifests, secrets, volumes, models)
    cluster.create()
    try:
        system = checks.System(cluster, people, folder)
        for name in dict.fromkeys(("start", *arguments.checks)):
            check = partial(upgrade, older=older) if older and name == _UPGRADE else _CHECKS[name]
            found = check(system)
            for line in (found,) if isinstance(found, str) else found:
                _report(name, line)
    finally:
        cluster.remove()
    print("All is as it must be.")


def _write_bill(podman: Podman, service: str, image: str) -> None:
    bill = bill_of_materials(podman, image)
    file = ROOT / "build" / "sbom" / f"{service}.cdx.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    unknown = without_licence(bill)
    named = f"; without a licence in their metadata: {', '.join(unknown)}" if unknown else ""
    _report("materials", f"{file.relative_to(ROOT)}: {len(bill['components'])} packages{named}")


def _report(check: str, found: str) -> None:
    print(f"{check:>13}: {found}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

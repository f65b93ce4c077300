"""`make release-check`: builds the wheels of all packages, installs them into clean environments, and runs them.

This proves that

- each wheel can be built from what git tracks and the generated stubs, and has the version of the file VERSION;
- the wheels of the client, the gateway, the web service and the diarizer are complete, and so are their stated
  dependencies: there is nothing else in their environments. The diarizer is checked without its extras, as on a CPU;
- what the transcriber states as dependencies is installed in .venv in a version that satisfies them, and is enough to
  import every module, together with the wheels. Its environment sees the packages of .venv. So a dependency that is
  missing in its pyproject.toml, but comes with another package, is not noticed;
- the web service's wheel contains the built console;
- each command starts: `careca --help`, and `--help` of each service.

Packages come from pip's index, in the versions of constraints.txt.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("services/common", "services/transcriber", "services/diarizer", "services/gateway", "services/web", "client")
MADE = {"services/common/src/careca/v1": "make proto", "services/web/src/careca_web/console/static": "make console"}
"""Folders that git does not track and wheels contain, and the commands that make them."""
LIGHT = ("client", "gateway", "web", "diarizer")
"""Packages that are installed with all that they depend on, without extras."""
NEED_EXTRAS = tuple(
    f"careca_diarizer.{name}"
    for name in ("campplus", "conversion", "pretrained_engine", "pyannet", "torch_device", "torch_networks")
)
"""Modules that cannot be imported without an extra of their package."""
NEEDS = {"web": ("client",)}
"""Packages that need others besides careca-common."""

IMPORT_ALL = f"""
import importlib, pkgutil, sys
skipped = {("careca_gateway.decoding.process", *NEED_EXTRAS)}
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    assert package.__file__.startswith(sys.prefix), package.__file__
    modules = [each.name for each in pkgutil.walk_packages(package.__path__, name + ".")]
    for module in modules:
        if not module.endswith("__main__") and module not in skipped:
            importlib.import_module(module)
    print(f"  {{name}}: {{len(modules)}} modules")
"""

CHECK_CONSOLE = """
from importlib.resources import files
page = (files("careca_web.console") / "static" / "index.html").read_text()
print(f"  the console's page has {len(page)} characters")
"""

CHECK_METADATA = """
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from packaging.requirements import Requirement
wrong = []
for name in sys.argv[1:]:
    for each in map(Requirement, requires(name) or ()):
        if each.marker and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(each.name)
        except PackageNotFoundError:
            wrong.append(f"{name} needs {each}, which is not installed")
        else:
            if not each.specifier.contains(found, prereleases=True):
                wrong.append(f"{name} needs {each}, but {found} is installed")
sys.exit("; ".join(wrong) or 0)
"""


def main() -> int:
    """Returns 0 if everything works. Raises ``CalledProcessError`` at the first command that fails."""
    expected = (ROOT / "VERSION").read_text().strip()
    with tempfile.TemporaryDirectory(prefix="careca-release-") as name:
        folder = Path(name)
        wheels = build(folder)
        wrong = [wheel.name for wheel in wheels.values() if wheel.name.split("-")[1] != expected]
        if len(wheels) != len(PARTS) or wrong:
            print(f"{len(wheels)} wheels were built, and these have another version than {expected}: {wrong}")
            return 1
        for package in ("client", "gateway", "web", "transcriber", "diarizer"):
            check(package, wheels, folder)
    print(f"all packages of version {expected} can be built, installed and started")
    return 0


def build(folder: Path) -> dict[str, Path]:
    """Builds the wheels in ``folder`` from a copy of the sources, without older builds. Returns them by package."""
    source, target = folder / "source", folder / "wheels"
    tracked = subprocess.run(["git", "ls-files", "-z", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True)
    for path in (*filter(None, tracked.stdout.split("\0")), "VERSION", "LICENSE", "NOTICE"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).exists():  # not if it was just deleted and that is not committed
            shutil.copy(ROOT / path, source / path, follow_symlinks=False)
    for made, command in MADE.items():
        if not (ROOT / made).is_dir():
            raise SystemExit(f"{made} is missing: run `{command}`")
        shutil.copytree(ROOT / made, source / made, ignore=shutil.ignore_patterns("__pycache__"))
    for part in PARTS:
        print(f"building {part}", flush=True)
        pip("wheel", "--no-deps", "--wheel-dir", str(target), f"./{part}", cwd=source)
    return {wheel.name.split("-")[0].removeprefix("careca_"): wheel for wheel in target.glob("*.whl")}


def check(package: str, wheels: Mapping[str, Path], folder: Path) -> None:
    """Installs ``package`` into a new environment, imports its modules and starts its command."""
    print(f"installing careca-{package}", flush=True)
    environment = folder / package
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    light = package in LIGHT
    needed = [f"{wheels['common']}[tracing]", *(str(wheels[each]) for each in (*NEEDS.get(package, ()), package))]
    constraints = ["--constraint", str(ROOT / "constraints.txt")] if light else ["--no-deps"]
    pip("--python", str(python), "install", *constraints, *needed)
    if not light:
        site = next((environment / "lib").glob("python*/site-packages"))
        (site / "packages-of-the-repository.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run(python, "-I", "-c", CHECK_METADATA, f"careca-{package}")
    run(python, "-I", "-c", IMPORT_ALL, "careca", f"careca_{package}")
    if package == "web":
        run(python, "-I", "-c", CHECK_CONSOLE)
    if package == "client":
        run(environment / "bin" / "careca", "--version")
        run(environment / "bin" / "careca", "--help", quiet=True)
    else:
        run(python, "-I", "-m", f"careca_{package}", "--help", quiet=True)


def pip(*arguments: str, cwd: Path | None = None) -> None:
    """Runs this environment's pip."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, cwd=cwd, check=True)


def run(*command: str | Path, quiet: bool = False) -> None:
    """Runs a command in a folder that has nothing of the repository."""
    subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL if quiet else None, check=True)


if __name__ == "__main__":
    sys.exit(main())

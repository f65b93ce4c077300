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
    "faster_whisper|ctranslate2": {
        "careca_transcriber.clip_reader",
        "careca_transcriber.whisper_engine",
        "careca_transcriber.whisper_request",
        "careca_transcriber.window_reader",
    },
    "torch|torchaudio|pyannote": {
        f"careca_diarizer.{name}"
        for name in (
            *("campplus", "conversion", "networks", "pretrained_engine", "pyannet", "pyannote_setup"),
            *("torch_device", "torch_networks"),
        )
    },
    "openvino": {"careca_diarizer.runtime"},
    "cryptography": {"auth.tls", "sessions.cookie"},
    "redis": {"cache.circuit_breaker", "queue.notifications", "queue.redis_script"},
    "av": {"live.audio"}
    | {
        f"decoding.{name}"
        for name in (
            *(
                "process",
                "truncation",
                "level",
                "outputs",
                "passes",
                "pcm",
                "track_reader",
                "source",
                "mixing",
                "tracks",
            ),
        )
    },
    "obstore": {"storage.object_storage"},
    "aiohttp": {"webhooks.addresses", "webhooks.delivery"},
    "sklearn|scipy": {
        f"careca_diarizer.{name}"
        for name in ("clustering", "declipping", "fbank", "partitions", "reconstruction", "stitching")
    },
    "grpc": {
        "inference.model_service",
        *(
            f"rpc.{name}"
            for name in (
                *("channel", "deferred_channel", "interceptors", "probe", "robust_server", "rotating_channel"),
                *("server", "statuses"),
            )
        ),
        *("api.admin", "api.transcription", "api.transcripts", "api.jobs", "api.live", "api.recordings"),
        "api.voices",
        *("backends.calls", "backends.replicas", "careca_gateway.wiring"),
        *("careca_transcriber.service", "careca_transcriber.wiring"),
        *("careca_diarizer.service", "careca_diarizer.wiring"),
    },
}


def importers(libraries: str) -> set[str]:
    """As ``folder.module``."""
    statement = re.compile(rf"^\s*(?:import|from) (?:{libraries})\b", flags=re.MULTILINE)
    return {f"{path.parent.name}.{path.stem}" for path in MODULES if statement.search(path.read_text())}


@pytest.mark.parametrize("libraries", IMPORTERS)
def test_a_library_is_imported_only_by_the_modules_that_are_there_for_it(libraries: str) -> None:
    assert importers(libraries) == IMPORTERS[libraries]


def test_settings_are_the_only_modules_that_read_variables_of_the_environment() -> None:
    reading = re.compile(r"getenv|environ\.get|environ\[[^\]]+\](?!\s*=)")

    assert [str(path) for path in MODULES if reading.search(path.read_text())] == []

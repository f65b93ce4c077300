"""On a CPU the diarizer works without torch and pyannote.audio."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.weights import model_store

pytestmark = pytest.mark.models

TESTS = Path(__file__).parents[2]
ABSENT = {"torch", "torchaudio", "pyannote.audio"}


def test_neither_the_service_nor_its_engine_imports_torch() -> None:
    """With the default device, on a machine without a GPU."""
    store = model_store("segmentation-3.0", "campplus-zh-en")
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "CARECA_MODELS_DIR": str(store.root),
        "CARECA_DEVICE": "auto",
    }

    done = subprocess.run(
        [sys.executable, "-m", "support.imported_modules"],
        cwd=TESTS,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["turns"] > 3
    assert ABSENT & set(found["parent"]) == set()
    assert ABSENT & set(found["child"]) == set()
    assert {"openvino", "sklearn"} <= set(found["child"])
    assert {"grpc", "redis"} & set(found["child"]) == set(), "they are for the parent, and would delay a start"


@pytest.mark.parametrize("service", ["diarizer", "transcriber"])
def test_the_process_of_an_engine_starts_before_grpc_is_imported(service: str) -> None:
    code = f"import sys, careca_{service}.__main__; print(*sys.modules)"

    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert "careca.inference.engine_process" in modules
    assert {"grpc", "redis", "openvino", "ctranslate2"} & set(modules) == set()

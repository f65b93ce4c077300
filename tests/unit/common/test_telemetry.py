"""The telemetry of libraries is off."""

from __future__ import annotations

import os
import subprocess
import sys

from careca_transcriber.engine import build_engine
from careca_transcriber.settings import TranscriberSettings
from support.waiting import HANG_SECONDS

# The variable as it is when ONNX Runtime is imported, which is when it is read.
PROBE = f"""
import os, sys
class Watch:
    def find_spec(self, name, *rest):
        if name == "onnxruntime":
            print("imported with", os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
from {build_engine.__module__} import {build_engine.__name__}
from {TranscriberSettings.__module__} import {TranscriberSettings.__name__}
build_engine(TranscriberSettings(models_dir="/nowhere"))
import onnxruntime
"""


def test_the_telemetry_of_onnx_runtime_is_off_before_its_import() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env=environment, timeout=HANG_SECONDS
    )

    assert done.stdout.splitlines() == ["imported with 1"]

"""The blocking client is generated from the one for asyncio."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_blocking_client_is_what_the_generator_writes() -> None:
    command = [sys.executable, str(ROOT / "client" / "generate_blocking.py"), "--check"]

    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""

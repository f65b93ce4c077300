"""A time of day for each process, which steps while it runs. The machine's clock stays as it is."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


def clocks_can_step() -> bool:
    """Whether this machine has a C compiler, which makes what is preloaded."""
    return shutil.which("cc") is not None


class Clocks:
    """A file in ``folder`` for each process that says how far its time of day is from the machine's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._library = folder / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._library, _SOURCE, "-ldl"], check=True)

    def environment(self, name: str) -> Mapping[str, str]:
        """What the process of that name needs in its environment. Its clock starts as the machine's."""
        path = self._path(name)
        if not path.exists():
            path.write_bytes(struct.pack("d", 0.0))
        return {"LD_PRELOAD": str(self._library), "CARECA_SOAK_CLOCK": str(path)}

    def step(self, name: str, seconds: float) -> None:
        """Sets how far the clock of a process is from the machine's."""
        with self._path(name).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:] = struct.pack("d", seconds)

    def _path(self, name: str) -> Path:
        return self._folder / name

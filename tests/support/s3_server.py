"""An S3 endpoint as a process of its own: moto in server mode."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request

from support.redis_server import free_port

BUCKET = "recordings"


class S3Server:
    """Answers on a port that it keeps when it is stopped and started again; its buckets go with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients of S3 read to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Returns when it has an empty bucket."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self._makes_a_bucket():
            assert self._process.poll() is None, "the S3 server ended while it started"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it; connections to its port are refused from now on."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reset(self) -> None:
        """Empties everything and makes the bucket anew."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST"))
        assert self._makes_a_bucket()

    def _makes_a_bucket(self) -> bool:
        try:
            request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

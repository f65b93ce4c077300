"""A small load in which everything happens once: what is computed, known, skipped, cancelled, refused and cleared."""

from __future__ import annotations

import contextlib
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2

from careca.errors import InvalidRecording
from careca.types import ClearScope, Job, JobPriority, JobState
from careca_client import Client
from careca_client.live import LiveResult

Announce = Callable[[str], None]


def settings(folder: Path) -> Mapping[str, str]:
    """What the services need to be set to: room for few results, one job at a time, webhooks to this machine."""
    secret = folder / "webhook-secret"
    secret.write_text("a secret for this check only")
    return {
        "CARECA_CACHE_MAX_ENTRIES": "2",
        "CARECA_JOB_SLOTS": "1",
        "CARECA_WEBHOOK_SECRET_FILE": str(secret),
        "CARECA_WEBHOOK_ALLOW_PRIVATE": "true",
    }


def run(
    client: Client, web_url: str, recordings: Sequence[Path], announce: Announce, *, pause_seconds: float = 0.0
) -> None:
    """Has everything happen; ``recordings`` are three or more, so that one of them has to leave the cache.

    ``web_url`` is where the web service of the same gateway is. Pauses between the steps make it easier to look at.
    """
    with _receiver() as webhook_url:
        announce("each recording twice")
        for recording in recordings:
            client.transcribe(recording)
            client.transcribe(recording)
            time.sleep(pause_seconds)
        announce("jobs: some to their ends with webhooks, one cancelled at work")
        jobs = [client.submit(each, skip_cache=True, webhook_url=webhook_url) for each in recordings]
        jobs.append(client.submit(recordings[0], skip_cache=True, priority=JobPriority.INTERACTIVE))
        for job in jobs:
            _to_the_end(client, job)
        _cancel_at_work(client, client.submit(recordings[-1], skip_cache=True))
        time.sleep(pause_seconds)
        announce("something that is no recording")
        with contextlib.suppress(InvalidRecording):
            client.transcribe(b"this is no recording" * 1000)
        announce("the caches cleared, memory released, statistics asked for")
        client.clear_cache(ClearScope.EXPIRED)
        time.sleep(pause_seconds)
        client.clear_cache(ClearScope.ALL)
        client.release_memory()
        time.sleep(pause_seconds)
        client.stats()
        announce("all recordings at once")
        with ThreadPoolExecutor() as callers:
            list(callers.map(client.transcribe, recordings))
        time.sleep(pause_seconds)
        client.transcribe(recordings[-1])
        announce("a live session")
        _live(client, recordings[-1])
        announce("over HTTP")
        with httpx2.Client(base_url=web_url, timeout=None, trust_env=False) as browser:
            _over_http(browser, recordings[0], pause_seconds)


def _live(client: Client, recording: Path) -> None:
    """A live session to its result, as fast as the services take it."""
    with wave.open(str(recording)) as source:
        audio, rate = source.readframes(source.getnframes()), source.getframerate()
    with client.live(sample_rate=rate) as session, ThreadPoolExecutor(1) as speaker:

        def speak() -> None:
            session.send(audio)
            session.end()

        spoken = speaker.submit(speak)
        if not any(isinstance(event, LiveResult) for event in session):
            raise RuntimeError("the live session has no result")
        spoken.result()


def _over_http(browser: httpx2.Client, recording: Path, pause_seconds: float) -> None:
    """What browsers and programs ask for, an event stream, and requests for what is not there or not valid."""
    for path in ("/api/session", "/api/info", "/api/jobs", "/v1/models"):
        _expect(200, browser.get(path))
    for path in ("/v1/models/none", "/api/none"):
        _expect(404, browser.get(path))
    _expect(201, browser.post("/api/recordings", files={"file": ("call.wav", recording.read_bytes())}))
    _transcribe_over_http(browser, recording.read_bytes(), stream=True)
    time.sleep(pause_seconds)
    _transcribe_over_http(browser, recording.read_bytes(), stream=False)
    _expect(400, browser.post("/v1/audio/transcriptions", files={"file": b"no recording"}, data={"model": "whisper-1"}))


def _transcribe_over_http(browser: httpx2.Client, recording: bytes, *, stream: bool) -> None:
    form = {"model": "whisper-1", "stream": str(stream).lower()}
    _expect(200, browser.post("/v1/audio/transcriptions", files={"file": ("call.wav", recording)}, data=form))


def _expect(status: int, response: httpx2.Response) -> None:
    if response.status_code != status:
        raise RuntimeError(f"{response.request.url} answered {response.status_code}: {response.text}")


def _to_the_end(client: Client, job: Job) -> None:
    *_, last = (event for event in client.watch(job.id) if isinstance(event, Job))
    if last.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"the job ended otherwise: {last}")


def _cancel_at_work(client: Client, job: Job) -> None:
    for event in client.watch(job.id):
        if isinstance(event, Job) and event.state is JobState.RUNNING:
            client.cancel_job(job.id)
        if isinstance(event, Job) and event.state is JobState.CANCELLED:
            return
    raise RuntimeError("the job ended before it was cancelled")


class _Receiver(BaseHTTPRequestHandler):
    """Takes every webhook."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        """Says nothing."""


@contextmanager
def _receiver() -> Iterator[str]:
    """A server for webhooks; its address."""
    with HTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, name="webhook-receiver", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/ended"
        finally:
            server.shutdown()
            thread.join()

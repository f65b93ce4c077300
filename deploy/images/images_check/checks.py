"""What is checked, in order. Each check returns what it found; it raises ``CheckError`` if something is wrong."""

from __future__ import annotations

import ssl
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx2

from careca.errors import Unavailable
from careca.types import ClearScope, Job, JobState
from careca_client import Access, Client, TranscriptionResult
from demo import sample
from images_check import certificates
from images_check.podman import CheckError
from images_check.pods import ADDRESSES, Cluster, Pod, copy_weights

REDIS = ("redis-cache", "redis-jobs")
MODEL_SERVICES = ("transcriber", "diarizer")
IN_ORDER = (*REDIS, *MODEL_SERVICES, "gateway", "web")
"""All workloads, each after those that it needs."""

_NEEDED_SECONDS = 300.0
"""How long a job may take after something was broken: a kubelet starts a container again within five minutes."""


@dataclass
class System:
    """All pods, and what callers need."""

    cluster: Cluster
    people: Path
    """The folder with the authority's certificate and the token."""
    folder: Path

    def __post_init__(self) -> None:
        self.pods = {name: self.cluster.pod(name) for name in IN_ORDER}
        self.token = (self.people / "admin.token").read_text()
        access = Access(token=self.token, ca_file=self.people / "ca.crt")
        self.client = Client(f"{ADDRESSES['gateway'][0]}:50051", access=access)
        self._numbers = iter(range(1, 1000))

    def recording(self) -> Path:
        """Returns another recording of the same call, with a longer silence at its end, so that no result is cached."""
        path = self.folder / f"call-{(number := next(self._numbers))}.wav"
        with wave.open(str(sample()), "rb") as source, wave.open(str(path), "wb") as target:
            target.setparams(source.getparams())
            target.writeframes(source.readframes(source.getnframes()))
            target.writeframes(bytes(2 * source.getframerate() * source.getnchannels() * number // 10))
        return path

    def submit(self) -> Job:
        """Submits a job for a new recording and waits until a model computes for it."""
        job = self.client.submit(self.recording())
        wait_for(lambda: self._state(job).ended or self._computes(), "a job does not begin")
        return job

    def assert_succeeds(self, job: Job) -> None:
        """Waits for the end of a job, which must have succeeded."""
        wait_for(lambda: self._state(job).ended, f"job {job.id} does not end")
        ended = self.client.job(job.id)
        if ended.state is not JobState.SUCCEEDED:
            raise CheckError(f"job {job.id} is {ended.state}: {ended.error_reason} {ended.error_message}")
        assert_call(self.client.job_result(job.id))

    def _computes(self) -> bool:
        stages = self.client.stats().stages
        return any(stage.stats.in_flight for stage in stages if stage.stats)

    def _state(self, job: Job) -> JobState:
        try:
            return self.client.job(job.id).state
        except Unavailable:  # a connection to a gateway that was started again takes a moment
            return JobState.QUEUED

    def sure(self) -> None:
        """The system transcribes. Used after each fault."""
        assert_call(self.client.transcribe(self.recording()))


def wait_for(condition: Callable[[], bool], otherwise: str, seconds: float = _NEEDED_SECONDS) -> None:
    """Waits for a condition. Raises ``CheckError`` if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise CheckError(otherwise)
        time.sleep(0.5)


def assert_call(result: TranscriptionResult) -> None:
    """The sample is a call of two people."""
    speakers = {utterance.speaker for utterance in result.utterances}
    words = sum(len(utterance.words) for utterance in result.utterances)
    if len(speakers) != 2 or words < 50:
        raise CheckError(f"the sample call has {words} words of {len(speakers)} speakers")


def start(system: System) -> str:
    """All pods start as the manifests say."""
    seconds = {name: system.pods[name].start() for name in IN_ORDER}
    wait_for(lambda: system.pods["web"].passes("readinessProbe"), "the web service does not become ready")
    return ", ".join(f"{name} {took:.0f} s" for name, took in seconds.items())


def confinement(system: System) -> str:
    """No container has rights that its manifest does not give it."""
    for name, pod in system.pods.items():
        status = pod.execute("cat", "/proc/1/status")
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if (
            int(found["CapEff"], 16)
            or int(found["CapBnd"], 16)
            or found["NoNewPrivs"] != "1"
            or found["Seccomp"] != "2"
        ):
            raise CheckError(f"{name} has capabilities, or may get new privileges, or has no seccomp filter")
        if "0" in found["Uid"].split() or pod.execute("touch", "/check").find("Read-only") < 0:
            raise CheckError(f"{name} runs as root, or can write to its root file system")
    return "no capabilities, no new privileges, seccomp, not root, root file system read-only: all pods"


def transcription(system: System) -> str:
    """A recording is transcribed; the same one again is answered from the caches."""
    recording = system.recording()
    result = system.client.transcribe(recording)
    assert_call(result)
    again = system.client.transcribe(recording)
    if not all(stage.cached for stage in again.stages) or again.utterances != result.utterances:
        raise CheckError("the second answer is not the first one from the caches")
    return f"{len(result.utterances)} utterances of 2 speakers; the second time all stages come from the caches"


def operation(system: System) -> str:
    """Jobs, statistics, and clearing the caches."""
    job = system.submit()
    system.assert_succeeds(job)
    stats = system.client.stats()
    system.client.clear_cache(scope=ClearScope.ALL)
    system.client.delete_job(job.id)
    system.sure()
    loaded = ", ".join(f"{each.stage} {each.stats.model}" for each in stats.stages if each.stats)
    return f"a job; statistics ({loaded}); caches cleared, models loaded again"


def http(system: System) -> str:
    """The web service: signing in, OpenAI's API, the history."""
    trust = ssl.create_default_context(cafile=str(system.people / "ca.crt"))
    url = f"https://{ADDRESSES['web'][0]}:8080"
    with httpx2.Client(base_url=url, verify=trust, trust_env=False, timeout=_NEEDED_SECONDS) as browser:
        browser.headers["Host"] = "careca.example"
        signed_in = browser.post("/api/session", json={"token": system.token})
        page = browser.get("/jobs")
        with system.recording().open("rb") as file:
            answer = browser.post(
                "/v1/audio/transcriptions",
                headers={"Authorization": f"Bearer {system.token}"},
                files={"file": ("call.wav", file)},
                data={"model": "whisper-1", "response_format": "diarized_json"},
            )
    if (signed_in.status_code, page.status_code, answer.status_code) != (HTTPStatus.OK,) * 3:
        raise CheckError(f"the web service answers {signed_in.text} {page.status_code} {answer.text}")
    return f"signed in; OpenAI's API has {len(answer.json()['segments'])} segments"


def healthchecks(system: System) -> str:
    """The HEALTHCHECK of each image succeeds."""
    for name in (*MODEL_SERVICES, "gateway", "web"):
        if not system.pods[name].healthy():
            raise CheckError(f"the HEALTHCHECK of {name} fails")
    return "healthy: all four images"


def drain(system: System) -> str:
    """SIGTERM during a job: the service ends in its grace period with status 0, and the job succeeds."""
    found = []
    for name in (*MODEL_SERVICES, "gateway", "web", *REDIS):
        job = system.submit()
        status, seconds = system.pods[name].stop()
        if status:
            raise CheckError(f"{name} ended with status {status} after SIGTERM: {system.pods[name].logs()[-1500:]}")
        system.pods[name].start_again()
        system.assert_succeeds(job)
        found.append(f"{name} {seconds:.0f} s")
    return ", ".join(found)


def kill(system: System) -> str:
    """SIGKILL of each container during a job: the job succeeds, and no other job is lost."""
    done = [job.id for job in system.client.jobs()]
    for name in IN_ORDER:
        job = system.submit()
        system.pods[name].kill()
        system.pods[name].start_again()
        system.assert_succeeds(job)
        done.append(job.id)
    listed = {job.id for job in system.client.jobs()}
    if lost := set(done) - listed:
        raise CheckError(f"jobs are lost: {', '.join(lost)}")
    return f"{len(IN_ORDER)} containers, {len(listed)} jobs in the history, none lost"


def faults(system: System) -> Iterator[str]:
    """Each fault of an installation is told by the log line that docs/operations.md promises."""
    cluster = system.cluster
    yield from _weights(system)
    store = _unwritable(cluster.folder / "store")
    yield _fault(system, "gateway", "a store that cannot be written to", "STORE_UNUSABLE", store)
    wrong = {"CARECA_JOBS_REDIS_URL": "redis://:wrong@redis-jobs:6379/0"}
    yield _fault(system, "gateway", "a wrong password of the jobs' Redis", "password", changed=wrong)
    wrong = {"CARECA_STORE_MAX_BYTES": "many"}
    yield _fault(system, "gateway", "a wrong setting", "CARECA_STORE_MAX_BYTES", changed=wrong)
    name = "diarizer-tls"
    kept, other = cluster.secrets[name], cluster.secrets["transcriber-tls"]
    secret = _secret(cluster, name, {**kept, "tls.key": other["tls.key"]})
    yield _fault(system, "diarizer", "a key of another certificate", "TLS_FILES", secret)
    secret = _secret(cluster, name, {**kept, "tls.crt": certificates.expired(kept, system.people)})
    yield _fault(system, "diarizer", "an expired certificate", "has expired", secret)
    system.sure()


def _fault(
    system: System,
    name: str,
    what: str,
    told: str,
    fault: AbstractContextManager[None] | None = None,
    *,
    changed: Mapping[str, str] | None = None,
) -> str:
    """Starts a pod with a fault or with changed variables, and again without. Returns the log line that tells of it."""
    pod = system.cluster.pod(name, changed=changed)
    pod.remove()
    with fault or nullcontext():
        try:
            pod.begin()
            line = _line_with(told, pod)
        finally:
            pod.remove()
    system.pods[name].start()
    return f"{what}: {line[:160]}"


def _line_with(text: str, pod: Pod) -> str:
    """Waits for a line of a log that has this text, and returns it."""
    wait_for(lambda: text in pod.logs(), f"no line with {text!r} in the log of {pod.name}", 60.0)
    return next(line for line in pod.logs().splitlines() if text in line)


@contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    mode = folder.stat().st_mode
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(mode)


@contextmanager
def _secret(cluster: Cluster, name: str, changed: Mapping[str, bytes]) -> Iterator[None]:
    kept = cluster.secrets[name]
    cluster.secrets[name] = changed
    try:
        yield
    finally:
        cluster.secrets[name] = kept


def _weights(system: System) -> Iterator[str]:
    """The init container says which weights are missing or damaged, and waits for them."""
    cluster, complete = system.cluster, system.cluster.models
    cluster.models = system.folder / "weights"
    copy_weights(complete, cluster.models)
    try:
        for service in MODEL_SERVICES:
            pod, file = cluster.pod(service), _largest(cluster, service)
            kept = file.read_bytes()
            told = file.name if service == "transcriber" else "are not converted"
            for what, spoil in (("missing", Path.unlink), ("damaged", _damage)):
                pod.remove()
                spoil(file)
                pod.begin_init()
                yield f"{what} weights: {_line_with(told, pod)[:160]}"
                file.unlink(missing_ok=True)
                file.write_bytes(kept)
            pod.remove()
            pod.start()
    finally:
        cluster.models = complete


def _largest(cluster: Cluster, service: str) -> Path:
    """Returns the largest file of the weights that a service reads."""
    model = cluster.manifests.workload("transcriber").main.environment["CARECA_WHISPER_MODEL"]
    folder = cluster.models / (model if service == "transcriber" else "derived")
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def _damage(file: Path) -> None:
    """Inverts a byte in the middle."""
    middle = file.stat().st_size // 2
    with file.open("r+b") as opened:
        opened.seek(middle)
        (byte,) = opened.read(1)
        opened.seek(middle)
        opened.write(bytes([byte ^ 0xFF]))

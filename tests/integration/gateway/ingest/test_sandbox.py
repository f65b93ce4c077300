"""What a decoder can still do in the sandbox: real processes that try everything else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av.error
import pytest

from careca.errors import InvalidRecording, PreconditionFailed
from careca_gateway.decoding import passes, sandbox
from careca_gateway.decoding.sandbox import LANDLOCK, SECCOMP, USER
from careca_gateway.decoding.source import RecordingError, RecordingFile, not_a_recording
from careca_gateway.ingest import decoder as decode_module
from careca_gateway.ingest.decoder import DecodeLimits, Decoder
from careca_gateway.request import AudioSelection
from support.media import recording, tone, wav
from support.waiting import HANG_SECONDS

LIMITS = DecodeLimits(memory_bytes=1 << 30, cpu_seconds=60, timeout_seconds=60.0, max_audio_seconds=3600.0)
REFUSED = "Operation not permitted"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in sandbox._ARCHITECTURES,
    reason="only Linux confines, on two machines",
)

PREPARED = """
import ctypes, json, mmap, os, signal, socket, subprocess, sys, threading
from careca_gateway.decoding import sandbox
folder, port = sys.argv[1], int(sys.argv[2])
parent, libc = os.getppid(), ctypes.CDLL(None, use_errno=True)
tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
directory = os.open(folder, os.O_RDONLY)
readable = os.open(folder + "/secret", os.O_RDONLY)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return error.strerror
"""
"""What the process has before it enters the sandbox. A decoder has less: no socket and no folder."""

ATTEMPTS = {
    "make a socket": "socket.socket()",
    "make a local socket": "socket.socketpair()",
    "connect": "tcp.connect(('127.0.0.1', port))",
    "bind": "tcp.bind(('127.0.0.1', 0))",
    "listen": "tcp.listen()",
    "send": "udp.sendto(b'x', ('127.0.0.1', port))",
    "read a file": "open(folder + '/secret').read()",
    "read a file of the system": "open('/etc/passwd').read()",
    "read a file from a folder that is open": "os.open('secret', os.O_RDONLY, dir_fd=directory)",
    "make a file": "open(folder + '/new', 'w')",
    "make a file in memory": "os.memfd_create('new')",
    "change a file": "open(folder + '/secret', 'a')",
    "cut a file": "os.truncate(folder + '/secret', 0)",
    "remove a file": "os.unlink(folder + '/secret')",
    "rename a file": "os.rename(folder + '/secret', folder + '/new')",
    "link a file": "os.link(folder + '/secret', folder + '/new')",
    "make a link": "os.symlink('/etc/passwd', folder + '/new')",
    "make a folder": "os.mkdir(folder + '/new')",
    "list a folder": "os.listdir(folder)",
    "look at a file": "os.stat('/etc/passwd')",
    "change the mode of an open file": "os.fchmod(readable, 0o777)",
    "fork": "os.fork()",
    "fork cheaply": "call('vfork')",
    "start a program": "subprocess.run(['/bin/true'])",
    "spawn a program": "os.posix_spawn('/bin/true', ['true'], {})",
    "become a program": "os.execv('/bin/true', ['true'])",
    "kill another process": "os.kill(parent, signal.SIGTERM)",
    "signal a thread of another process": "call('tgkill', parent, parent, 15)",
    "trace another process": "call('ptrace', 16, parent, None, None)",
    "read another process's memory": "call('process_vm_readv', parent, None, 0, None, 0, 0)",
    "become root": "os.setuid(0)",
    "mount": "call('mount', b'none', folder.encode(), b'tmpfs', 0, None)",
    "leave its namespaces": "call('unshare', 0x10000000)",
    "change its root": "os.chroot(folder)",
    "ask the kernel's ring": "call('syscall', 425, 8, None)",
    "load a program into the kernel": "call('syscall', 321 if os.uname().machine == 'x86_64' else 280, 0, None, 0)",
    "make memory that can be executed": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "make its memory executable": "call('mprotect', ctypes.c_void_p(id(call) & ~4095), 4096, 7)",
    "raise its limits": "call('setrlimit', 7, bytes(16))",
    "change what it is": "call('prctl', 4, 1, 0, 0, 0)",
}


def confined(folder: Path, code: str, *, before: str = "", port: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a process in the sandbox, after ``before``."""
    (folder / "secret").write_text("swordfish")
    command = f"{PREPARED}\n{before}\nimport resource\nlayers = sandbox.enter_sandbox('auto', lambda: None)\n{code}"
    program = [sys.executable, "-c", command, str(folder), str(port)]
    return subprocess.run(program, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


def attempting(names: Iterable[str]) -> str:
    """Returns code that makes these attempts and prints the outcome of each as it is known."""
    return "\n".join(f"print({name!r}, attempt(lambda: {ATTEMPTS[name]}), sep=': ', flush=True)" for name in names)


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Returns the outcome of each attempt of a process, which must have come to its end."""
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_a_sandboxed_process_can_only_decode(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = confined(tmp_path, attempting(ATTEMPTS), port=server.getsockname()[1])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert outcomes(done) == dict.fromkeys(ATTEMPTS, REFUSED)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == "swordfish"


def test_a_process_without_the_sandbox_can_do_it(tmp_path: Path) -> None:
    """This proves that the attempts work without the sandbox."""
    names = [
        *("make a socket", "bind", "listen", "send", "read a file", "make a file", "make a file in memory"),
        *("list a folder", "look at a file", "remove a file", "start a program"),
        *("make memory that can be executed", "make its memory executable"),
    ]

    done = confined(tmp_path, attempting(names), before="sandbox.enter_sandbox = lambda *_: []")

    assert outcomes(done) == dict.fromkeys(names, "done")


def test_threads_memory_and_open_files_still_work(tmp_path: Path) -> None:
    code = """
heard = []
threads = [threading.Thread(target=lambda: heard.append(len(bytearray(50_000_000)))) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(heard), os.read(readable, 100), layers)
os.abort()
"""

    done = confined(tmp_path, code)

    layers = [USER, LANDLOCK, SECCOMP] if os.geteuid() == 0 else [LANDLOCK, SECCOMP]
    assert done.stdout.strip() == f"8 b'swordfish' {[each for each in layers if each != LANDLOCK or has_landlock()]}"
    assert done.returncode == -6


def has_landlock() -> bool:
    return confined_layers_include(LANDLOCK)


def confined_layers_include(layer: str) -> bool:
    code = "from careca_gateway.decoding.sandbox import enter_sandbox; print(enter_sandbox('auto', lambda: None))"
    return layer in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_decoder_started_by_root_runs_as_nobody_without_capabilities(tmp_path: Path) -> None:
    """Without the system call filter, which would block the test itself."""
    code = "print(os.getresuid(), os.getresgid(), os.getgroups(), open('/proc/self/status').read())"
    before = "sandbox._ARCHITECTURES.clear(); sandbox._restrict_access = lambda _: False"

    ids, *status = confined(tmp_path, code, before=before).stdout.splitlines()

    assert ids.startswith("(65534, 65534, 65534) (65534, 65534, 65534) []")
    found = dict(line.split(":\t") for line in [ids.partition("[] ")[2], *status] if ":\t" in line)
    assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert found["NoNewPrivs"] == "1"


@pytest.mark.skipif(not confined_layers_include(LANDLOCK), reason="this kernel has no Landlock")
def test_without_a_system_call_filter_landlock_still_blocks_paths_and_ports(tmp_path: Path) -> None:
    names = ["read a file", "read a file of the system", "make a file", "list a folder", "connect", "bind"]
    code = f"print('filtered', {SECCOMP!r} in layers, sep=': ')\n{attempting(names)}"

    done = confined(tmp_path, code, before="sandbox._ARCHITECTURES.clear()")

    assert outcomes(done) == {"filtered": "False", **dict.fromkeys(names, "Permission denied")}


NO_FILTER = "from careca_gateway.decoding import process, sandbox; sandbox._ARCHITECTURES.clear(); process.main()"


async def test_if_the_sandbox_is_required_nothing_is_decoded_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "CHILD", ("-c", NO_FILTER))

    for attempt in (
        Decoder(LIMITS, slots=1, sandbox_mode="require").sandbox_layers(),
        decode(tmp_path, wav(tone(1.0)), "require"),
    ):
        with pytest.raises(PreconditionFailed) as caught:
            await attempt
        assert caught.value.reason == "NOT_CONFINED"
        assert "CARECA_DECODE_CONFINED" in caught.value.message
    await decode(tmp_path, wav(tone(1.0)), "auto")


async def test_the_gateway_knows_the_layers_of_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert SECCOMP in await Decoder(LIMITS, slots=1).sandbox_layers()
    assert await Decoder(LIMITS, slots=1, sandbox_mode="off").sandbox_layers() == []
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    monkeypatch.setattr(decode_module, "CHILD", ("-c", NO_FILTER))
    assert SECCOMP not in await Decoder(LIMITS, slots=1).sandbox_layers()


async def test_the_sandbox_is_active_before_the_first_byte_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import socket, os\n"
        "from careca_gateway.decoding import process\n"
        "def decode(recording, files, wanted, progress):\n"
        "    found = [recording.read(4).decode()]\n"
        "    for attempt in (lambda: open('/etc/passwd'), socket.socket, os.fork, lambda: open('/tmp/new', 'w')):\n"
        "        try:\n"
        "            attempt()\n"
        "            found.append('done')\n"
        "        except OSError as error:\n"
        "            found.append(error.strerror)\n"
        "    raise process.RecordingError('NO_AUDIO', '; '.join(found))\n"
        "process.decode = decode\n"
        "process.main()\n"
    )
    monkeypatch.setattr(decode_module, "CHILD", ("-c", code))

    with pytest.raises(InvalidRecording) as caught:
        await decode(tmp_path, wav(tone(1.0)), "require")

    assert caught.value.message == "; ".join(["RIFF", *[REFUSED] * 4])


async def decode(folder: Path, data: bytes, how: str) -> None:
    (folder / "recording").write_bytes(data)
    decoder = Decoder(LIMITS, slots=1, sandbox_mode=how)
    await decoder.decode(folder / "recording", AudioSelection(), [folder / "audio"], lambda _: None)


class Temptation:
    """A real HTTP server with a real recording, which counts its requests."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        sound = wav(tone(2.0))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self.hits.append(handler.path)
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(sound)))
                handler.end_headers()
                handler.wfile.write(sound)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/sound.wav"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def temptation() -> Iterator[Temptation]:
    there = Temptation()
    yield there
    there.server.shutdown()
    there.server.server_close()


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n{}#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
    '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
IMF = (
    '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2013"><Id>urn:uuid:0</Id>'
    "<ContentTitle>x</ContentTitle><EditRate>24 1</EditRate><SegmentList/></CompositionPlaylist><!-- {} -->"
)
PLAYLISTS = {
    "hls": lambda url: HLS.format("", url),
    "hls master": lambda url: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "hls rendition": lambda url: (
        f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{url}"\n'
        f'#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\n{url}\n'
    ),
    "hls key": lambda url: HLS.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n', url),
    "hls map": lambda url: HLS.format(f'#EXT-X-MAP:URI="{url}"\n', url),
    "hls concat protocol": lambda url: HLS.format("", f"concat:{url}|{url}"),
    "hls subfile protocol": lambda url: HLS.format("", f"subfile,,start,0,end,0,,:{url}"),
    "hls crypto protocol": lambda url: HLS.format("", f"crypto+{url}"),
    "concat": lambda url: f"ffconcat version 1.0\nfile '{url}'\n",
    "concat with its protocols": lambda url: (
        f"ffconcat version 1.0\nfile '{url}'\noption protocol_whitelist file,http,tcp\n"
    ),
    "dash": DASH.format,
    "imf": IMF.format,
    "sdp": lambda url: (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=control:{url}\n"
    ),
    "asx": lambda url: f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "asf reference": lambda url: f"[Reference]\nRef1={url}\nRef2={url}\n",
    "pls": lambda url: f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
    "m3u": lambda url: f"{url}\n",
    "real text": lambda url: f'<window type="generic" duration="10"><a href="{url}">x</a><time begin="1"/></window>',
    "sami": lambda url: f'<SAMI><BODY><SYNC Start=0><P><img src="{url}"></P></SYNC></BODY></SAMI>',
    "svg": lambda url: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    "xml entity": lambda url: f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "{url}">]>' + DASH.format("&y;"),
    "vobsub": lambda url: (
        f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n# {url}\n"
        "timestamp: 00:00:01:000, filepos: 000000000\n"
    ),
    "smooth streaming": lambda url: (
        f'<SmoothStreamingMedia MajorVersion="2"><StreamIndex Type="audio" Url="{url}"/></SmoothStreamingMedia>'
    ),
}


@pytest.mark.parametrize("kind", PLAYLISTS)
async def test_playlists_are_not_followed(
    kind: str, tmp_path: Path, temptation: Temptation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a decoder nor by its own rules alone, without limits and sandbox: they must not rely on the kernel."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tone(2.0)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRecording) as caught:
        await decode(tmp_path, PLAYLISTS[kind](temptation.url).encode(), "require")
    assert caught.value.reason in REFUSALS
    targets = (temptation.url, str(secret), temptation.url.replace("http:", "https:"), secret.as_uri(), "secret.wav")
    for target in targets:
        assert await asyncio.to_thread(decoded_here, tmp_path, PLAYLISTS[kind](target).encode()) in REFUSALS
    assert temptation.hits == []


REFUSALS = ("NOT_A_RECORDING", "NO_AUDIO")


def decoded_here(folder: Path, data: bytes) -> str:
    """Decodes ``data`` in this process. Returns the reason of the refusal, or "decoded"."""
    (folder / "recording").write_bytes(data)
    with RecordingFile(folder / "recording") as source, (folder / "audio").open("w+b") as audio:
        try:
            passes.decode(
                source, [audio], passes.DecodeOptions("auto", False, 1 << 30), passes.Progress(lambda _: None)
            )
        except RecordingError as error:
            return error.reason
        except av.error.FFmpegError:
            return not_a_recording().reason
    return "decoded"


def test_what_playlists_refer_to_can_be_decoded(tmp_path: Path) -> None:
    """This proves that refusals are not of the recording."""
    assert decoded_here(tmp_path, wav(tone(2.0))) == "decoded"


async def test_external_sound_of_a_video_is_not_opened(tmp_path: Path, temptation: Temptation) -> None:
    (tmp_path / "secret.mov").write_bytes(recording("mov", "pcm_s16le", 1.0))
    film = recording("mov", "pcm_s16le", 1.0)
    await decode(tmp_path, film, "off")

    for target in (temptation.url, str(tmp_path / "secret.mov"), "secret.mov"):
        with pytest.raises(InvalidRecording):
            await decode(tmp_path, with_sound_in(film, target), "off")
    assert temptation.hits == []


def with_sound_in(film: bytes, path: str) -> bytes:
    """Returns the QuickTime ``film`` with an external data reference that FFmpeg can follow."""
    name = path.encode()
    alias = bytes(10) + bytes([1]) + b"v".ljust(27, b"\0") + bytes(12) + bytes([1]) + b"f".ljust(63, b"\0") + bytes(16)
    alias += (0).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(16)
    alias += (2).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name + b"\0" * (len(name) % 2) + b"\xff\xff\0\0"
    alias += bytes(max(0, 160 - len(alias)))
    reference = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    return _with_reference(film, reference)


def _with_reference(boxes: bytes, reference: bytes) -> bytes:
    """Replaces the one data reference in ``boxes`` at any depth. The samples come before it."""
    written, at = b"", 0
    while at < len(boxes):
        size, kind = int.from_bytes(boxes[at : at + 4], "big"), boxes[at + 4 : at + 8]
        body = boxes[at + 8 : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            body = _with_reference(body, reference)
        elif kind == b"dref":
            body = body[:8] + reference
        written += (8 + len(body)).to_bytes(4, "big") + kind + body
        at += size
    return written


async def test_video_is_never_decoded(tmp_path: Path) -> None:
    for container, codec in (
        ("mp4", "aac"),
        ("matroska", "flac"),
        ("avi", "libmp3lame"),
        ("mpegts", "mp2"),
        ("mov", "aac"),
    ):
        await decode(tmp_path, recording(container, codec, 2.0, rate=48_000, video=True), "require")
        assert (tmp_path / "audio").stat().st_size == pytest.approx(2 * 16_000 * 2, rel=0.1)


def test_only_audio_decoders_are_run() -> None:
    code = "from careca_gateway.decoding import source; print(source._sound_decoders())"

    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert {"aac", "mp3float", "flac", "opus", "vorbis", "pcm_s16le", "alac"} <= set(names.split(","))
    assert not {"h264", "hevc", "mpeg4", "vp9", "png", "ass", "subrip"} & set(names.split(","))

"""The process that decodes one recording: started by ``careca_gateway.ingest.decoder``, never imported by the gateway.

FFmpeg reads bytes from untrusted people, so it runs here and not in the gateway: with hard limits on memory, processor
time and output, without environment variables, and in a sandbox (``careca_gateway.decoding.sandbox``).

The recording is standard input. The audio goes to the file descriptors that the arguments name. Each line of standard
output is one JSON object: ``{"fraction": 0.25}`` any number of times, then either ``{"audio": [{"sha256": ...,
"size_bytes": ...}, ...], "notices": [{"code": ..., "message": ..., "start": ..., "end": ...}, ...], "raised_db": ...}``
with one entry of ``audio`` for each file that was written, or ``{"reason": ..., "message": ...}``. Without files to
write to, it decodes nothing and reports only the active layers of its sandbox: ``{"sandbox_layers": [...]}``.

With the option ``stream``, the recording is still being made: standard input is a pipe, and the audio goes to a pipe as
soon as it is decoded. The report has no audio then.
"""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, BinaryIO

import av.error

from careca_gateway.decoding.level import DB_PER_BIT
from careca_gateway.decoding.notices import build_notices
from careca_gateway.decoding.outputs import SAMPLE_BYTES
from careca_gateway.decoding.passes import DecodeOptions, Progress, decode
from careca_gateway.decoding.sandbox import SandboxUnavailable, enter_sandbox
from careca_gateway.decoding.source import RecordingError, RecordingFile, StreamedBytes, not_a_recording
from careca_gateway.decoding.stream import decode_stream

_BUFFER_BYTES = 1 << 20


def main() -> None:
    """Decodes standard input. The first argument is a JSON object with the options."""
    options = json.loads(sys.argv[1])
    try:
        # Files are opened before the limits, after which nothing can be opened.
        with ExitStack() as opened:
            stream = options.get("stream", False)
            files: list[BinaryIO] = [
                opened.enter_context(
                    os.fdopen(fd, "wb", buffering=0) if stream else os.fdopen(fd, "r+b", buffering=_BUFFER_BYTES)
                )
                for fd in options["output_fds"]
            ]
            limits = partial(
                set_limits, options["memory_bytes"], options["cpu_seconds"], options["max_samples"] * SAMPLE_BYTES
            )
            layers = enter_sandbox(options["sandbox_mode"], limits)
            if stream:
                decode_stream(StreamedBytes(0), files[0], options["max_samples"])
                report: dict[str, object] = {"audio": []}
            elif files:
                report = _decode(opened.enter_context(RecordingFile(0, closefd=False)), files, options)
            else:
                report = {"sandbox_layers": layers}
    except RecordingError as error:
        _report(reason=error.reason, message=str(error))
    except SandboxUnavailable as error:
        _report(reason="NOT_CONFINED", message=f"the decoder cannot be confined: {error}")
    except MemoryError:
        _report(reason="DECODE_LIMIT_EXCEEDED", message="decoding the recording takes more memory than is allowed")
    except av.error.FFmpegError:
        _report(reason=not_a_recording().reason, message=str(not_a_recording()))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _report(reason="STORE_FULL", message="there is no space left for the decoded audio")
    else:
        _report(**report)


def _decode(source: io.RawIOBase, files: Sequence[BinaryIO], options: dict[str, Any]) -> dict[str, object]:
    """Decodes the recording to ``files``. Returns the report."""
    decode_options = DecodeOptions(options["track"], options["separate"], options["max_samples"])
    decoded = decode(source, files, decode_options, Progress(lambda fraction: _report(fraction=fraction)))
    return {
        "audio": [{"sha256": sha256, "size_bytes": size_bytes} for sha256, size_bytes in decoded.written],
        "notices": build_notices(decoded),
        "raised_db": round(decoded.gain_bits * DB_PER_BIT, 1),
    }


def set_limits(memory_bytes: int, cpu_seconds: int, output_bytes: int) -> None:
    """Sets the limits of this process, which cannot be raised again.

    The descriptors 0, 1 and 2 are in use. So with a limit of three, nothing can be opened anymore: neither a file nor a
    socket, in whichever way a demuxer tries.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: output_bytes + _BUFFER_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 3,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _report(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

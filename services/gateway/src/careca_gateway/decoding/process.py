"""The process that decodes one recording: run by ``careca_gateway.ingest.decoder``, never imported by the gateway.

FFmpeg reads bytes that strangers made, so it runs here and not in the gateway: with hard limits on memory, processor
time and output, without environment, and confined (``careca_gateway.decoding.sandbox``) before it sees the first byte.

The recording is standard input, the audio is written to the file descriptors that the arguments name, and each line of
standard output is one JSON object: ``{"fraction": 0.25}`` any number of times, then either ``{"audio": [{"sha256": ...,
"size_bytes": ...}, ...], "notices": [{"code": ..., "message": ..., "start": ..., "end": ...}, ...], "raised_db": ...}``
with one entry of ``audio`` for each file that was written, or ``{"reason": ..., "message": ...}``. Asked for no file it
decodes nothing and says only how it is confined: ``{"confined": [...]}``.
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
from careca_gateway.decoding.passes import Progress, Wanted, decode
from careca_gateway.decoding.sandbox import SandboxUnavailable, confine
from careca_gateway.decoding.source import RecordingError, Source, unreadable

_BUFFER_BYTES = 1 << 20


def main() -> None:
    """Decodes standard input as the JSON object in the first argument says."""
    options = json.loads(sys.argv[1])
    try:
        # Opened before nothing can be any more; what is written to it follows.
        with ExitStack() as opened:
            source = opened.enter_context(Source(0, closefd=False))
            files = [
                opened.enter_context(os.fdopen(fd, "r+b", buffering=_BUFFER_BYTES)) for fd in options["output_fds"]
            ]
            limits = partial(
                restrict, options["memory_bytes"], options["cpu_seconds"], options["max_samples"] * SAMPLE_BYTES
            )
            confined = confine(options["confinement"], limits)
            answer = _decoded(source, files, options) if files else {"confined": confined}
    except RecordingError as refusal:
        _say(reason=refusal.reason, message=str(refusal))
    except SandboxUnavailable as error:
        _say(reason="NOT_CONFINED", message=f"the decoder cannot be confined: {error}")
    except MemoryError:
        _say(reason="DECODE_LIMIT_EXCEEDED", message="decoding the recording takes more memory than is allowed")
    except av.error.FFmpegError:
        _say(reason=unreadable().reason, message=str(unreadable()))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(reason="STORE_FULL", message="there is no space left for the decoded audio")
    else:
        _say(**answer)


def _decoded(source: io.RawIOBase, files: Sequence[BinaryIO], options: dict[str, Any]) -> dict[str, object]:
    """What to say of the recording once its audio is in ``files``."""
    wanted = Wanted(options["track"], options["separate"], options["max_samples"])
    heard = decode(source, files, wanted, Progress(lambda fraction: _say(fraction=fraction)))
    return {
        "audio": [{"sha256": sha256, "size_bytes": size_bytes} for sha256, size_bytes in heard.written],
        "notices": build_notices(heard),
        "raised_db": round(heard.raised_by * DB_PER_BIT, 1),
    }


def restrict(memory_bytes: int, cpu_seconds: int, output_bytes: int) -> None:
    """Sets the limits of this process; none can be raised again.

    All of descriptors 0, 1 and 2 are in use, so with a limit of three nothing more can be opened: neither a file nor a
    socket, by whichever way a demuxer tries.
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


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Does most of the work for the result of a session while people still talk.

The model services compute what the recording will need, for all audio so far, and keep it. At the end they compute the
rest only. The result does not depend on it: see ``careca.inference.preparation``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from careca import codec
from careca.cancellation import interruptible
from careca.errors import CarecaError
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.live.audio import Converter
from careca_gateway.live.journal import Journal
from careca_gateway.live.models import WindowModels
from careca_gateway.live.session import LiveSession
from careca_gateway.request import ONE_SPEAKER, AudioSelection, Deadline
from careca_gateway.storage.files import StoreFiles
from careca_gateway.storage.held_recording import StoredAudio

_LEAST_NEW_SECONDS = 10.0
_NEW_SHARE = 0.01
"""The work is prepared again after so much new audio, absolute and as a share of all audio: the audio is sent anew, and
who speaks in its last seconds is computed in vain."""

_TIMEOUT_SECONDS = 120.0

_log = get_logger(__name__)


async def prepare_repeatedly(session: LiveSession, models: WindowModels, files: StoreFiles, decoder: Decoder) -> None:
    """Prepares the result of ``session`` until it ends. Failures are logged: they only make the result later."""
    config = session.journal.config
    transcription = codec.decode_transcription_options(config.transcription, "config.transcription")
    diarization = ONE_SPEAKER if session.options.separate else session.options.diarization
    prepared = 0.0
    while await session.read_beyond(prepared + max(_LEAST_NEW_SECONDS, prepared * _NEW_SHARE)):
        seconds = session.read_until
        try:
            with ExitStack() as drafts:
                paths = [drafts.enter_context(files.draft()) for _ in session.options.channels]
                for audio in await _audio_of(session, seconds, paths, decoder):
                    deadline = Deadline.after(_TIMEOUT_SECONDS)
                    await interruptible(models.prepare(audio, transcription, diarization, deadline))
        except (CarecaError, OSError) as error:
            _log.info("the result of a live session was not prepared", session_id=session.id, error=str(error))
        prepared = seconds


async def _audio_of(
    session: LiveSession, seconds: float, paths: Sequence[Path], decoder: Decoder
) -> Sequence[StoredAudio]:
    """Writes the audio of the session so far, at least ``seconds`` of it, as the recording will be decoded."""
    if converter := session.new_converter():
        return await asyncio.to_thread(_write_audio, session.journal, converter, seconds, paths)
    decoded = await decoder.decode(session.journal.path, AudioSelection(), paths, lambda _: None)
    return [StoredAudio(digest, path) for digest, path in zip(decoded.audio, paths, strict=True)]


def _write_audio(journal: Journal, converter: Converter, seconds: float, paths: Sequence[Path]) -> list[StoredAudio]:
    """Writes the first ``seconds`` of the session, as 16 kHz PCM: each channel that is read, to its file."""
    size = int(seconds * SAMPLE_RATE) * SAMPLE_BYTES
    digests, written = [hashlib.sha256() for _ in paths], 0
    with ExitStack() as files:
        outputs = [files.enter_context(path.open("wb")) for path in paths]
        for data in journal.audio():
            blocks = [block[: size - written] for block in converter.convert(data)]
            for digest, output, pcm in zip(digests, outputs, blocks, strict=True):
                digest.update(pcm)
                output.write(pcm)
            written += len(blocks[0])
            if written == size:
                break
    return [StoredAudio(Digest(digest.hexdigest(), written), path) for digest, path in zip(digests, paths, strict=True)]

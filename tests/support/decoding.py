"""The real decoder on recordings that tests create."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from careca.errors import InvalidRecording
from careca.types import ChannelMode, Digest, Notice
from careca_gateway.ingest.decoder import DecodeLimits, Decoder, files_needed
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord
from support.waiting import HANG_SECONDS

DEFAULT = AudioSelection()
LIMITS = DecodeLimits(memory_bytes=1 << 30, cpu_seconds=60, timeout_seconds=HANG_SECONDS, max_audio_seconds=3600.0)


class Bench:
    """Decodes bytes in a folder and returns the audio."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress: list[float] = []
        self.audio = folder / "0.s16"

    async def decode(
        self, data: bytes | Path, limits: DecodeLimits = LIMITS, selection: AudioSelection = DEFAULT
    ) -> DecodedRecord:
        """Returns the decoder's record for ``data``, with its files in the folder."""
        path = data if isinstance(data, Path) else self.folder / "recording"
        if not isinstance(data, Path):
            path.write_bytes(data)
        drafts = [self.folder / f"{number}.s16" for number in range(files_needed(selection))]
        drafts[0] = self.audio
        return await Decoder(limits, slots=1).decode(path, selection, drafts, self.progress.append)

    async def digest(self, data: bytes | Path, limits: DecodeLimits = LIMITS) -> Digest:
        """Returns the digest of the one audio that ``data`` decodes to."""
        (digest,) = (await self.decode(data, limits)).audio
        return digest

    async def samples(
        self, data: bytes | Path, limits: DecodeLimits = LIMITS, selection: AudioSelection = DEFAULT
    ) -> np.ndarray:
        """Returns the one audio that ``data`` decodes to."""
        (samples,) = await self.audios(data, limits, selection)
        return samples

    async def samples_and_notices(self, data: bytes | Path) -> tuple[np.ndarray, list[Notice]]:
        """Returns the one audio that ``data`` decodes to, and the decoder's notices."""
        record = await self.decode(data)
        (samples,) = self._audios(record, DEFAULT)
        return samples, list(record.notices)

    async def channels(self, data: bytes | Path, limits: DecodeLimits = LIMITS) -> list[np.ndarray]:
        """Returns the audio of each channel."""
        return await self.audios(data, limits, AudioSelection(ChannelMode.SEPARATE))

    async def audios(self, data: bytes | Path, limits: DecodeLimits, selection: AudioSelection) -> list[np.ndarray]:
        """Returns all audio that ``data`` decodes to. Checks the digests, and that other files stay empty."""
        return self._audios(await self.decode(data, limits, selection), selection)

    def _audios(self, record: DecodedRecord, selection: AudioSelection) -> list[np.ndarray]:
        digests = record.audio
        drafts = [self.audio, *(self.folder / f"{number}.s16" for number in range(1, files_needed(selection)))]
        pcm = [draft.read_bytes() for draft in drafts]
        assert list(digests) == [Digest(hashlib.sha256(each).hexdigest(), len(each)) for each in pcm[: len(digests)]]
        assert selection.audio_track == "all" or not any(pcm[len(digests) :])
        return [np.frombuffer(each, "<i2").astype(np.float64) for each in pcm[: len(digests)]]

    async def notices(self, data: bytes | Path, selection: AudioSelection = DEFAULT) -> list[Notice]:
        """Returns the decoder's notices."""
        return list((await self.decode(data, selection=selection)).notices)

    async def codes(self, data: bytes | Path, selection: AudioSelection = DEFAULT) -> list[str]:
        """Returns the codes of the decoder's notices."""
        return [notice.code for notice in await self.notices(data, selection)]

    async def refusal(
        self, data: bytes | Path, limits: DecodeLimits = LIMITS, selection: AudioSelection = DEFAULT
    ) -> InvalidRecording:
        """Returns the error for ``data``. Checks that no process is left."""
        with pytest.raises(InvalidRecording) as caught:
            await self.decode(data, limits, selection)
        assert children() == []
        return caught.value


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the correlation of two sounds at the best delay: 1 if they differ only in level."""
    size = len(one) + len(other)
    products = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    return float(products.max() / np.sqrt((one**2).sum() * (other**2).sum()))


def children() -> list[psutil.Process]:
    """Returns the running decoders. Processes that have just ended may still be listed."""
    running = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and "careca_gateway.decoding.process" in " ".join(
                child.cmdline()
            ):
                running.append(child)
    return running

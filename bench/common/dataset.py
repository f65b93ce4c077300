"""Recordings with the truth about them, from a folder of folders: audio files with RTTM, STM or TXT beside them."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import REPOSITORY
from careca.types import Turn, Utterance

AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a"})
SAMPLE = "sample"
"""The folder of the phone call that pyannote.audio's wheel brings."""
READ_SPEECH = "fleurs"
"""The folder whose recordings are one person reading; its names carry the language: ``fleurs-pt-003``."""


class DatasetError(Exception):
    """The folder holds no recordings that can be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording. ``turns``, ``utterances`` and ``text`` are the truth, each ``None`` where it is not known."""

    name: str
    folder: str
    path: Path
    language: str
    turns: tuple[Turn, ...] | None = None
    utterances: tuple[Utterance, ...] | None = None
    text: str | None = None


def default_folder() -> Path:
    """The folder of folders of recordings if none is named: that of ``CARECA_DATA``, or one beside the repository."""
    return Path(os.environ.get("CARECA_DATA") or REPOSITORY.parent / "shared" / "data" / "dev")


def find(folder: Path | None = None) -> list[Recording]:
    """All recordings in the folders of ``folder``, or else of ``default_folder``, or else the sample alone.

    Raises ``DatasetError`` where a folder was named, here or by ``CARECA_DATA``, that has no recordings, and where the
    sample is missing too.
    """
    if folder or os.environ.get("CARECA_DATA") or default_folder().is_dir():
        return load(folder or default_folder())
    return [sample()]


def sample() -> Recording:
    """The phone call that pyannote.audio's wheel brings, with who says what in it, and when.

    Raises ``DatasetError`` where the wheel is not installed.
    """
    package = importlib.util.find_spec("pyannote")
    for folder in (package.submodule_search_locations if package else None) or ():
        path = Path(folder) / "audio" / SAMPLE / "sample.wav"
        if path.exists():
            return _recording(path)
    raise DatasetError("pyannote.audio's sample is not installed: run `make setup`, or set CARECA_DATA")


def speech(folder: Path | None = None) -> list[Path]:
    """Recordings in which people talk, where it matters neither who talks nor what about. Raises as ``find`` does."""
    recordings = find(folder)
    return [each.path for each in conversations(recordings) or recordings]


def is_sample(recordings: Sequence[Recording]) -> bool:
    """Whether there is nothing but the sample."""
    return [each.path.parent.name for each in recordings] == [SAMPLE]


def require_labelled(recordings: Sequence[Recording], what: str) -> None:
    """Raises ``DatasetError``, which says what to do, where ``what`` would have nothing but the sample to go by."""
    if is_sample(recordings):
        raise DatasetError(
            f"{what} needs recordings with the truth about them: set CARECA_DATA to a folder of them "
            "(docs/benchmarks.md says of what form)"
        )


def load(root: Path) -> list[Recording]:
    """All recordings under ``root``, by folder and name. Raises ``DatasetError`` where there are none."""
    recordings = [_recording(path) for path in sorted(root.glob("*/*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not recordings:
        raise DatasetError(f"no recordings in the folders of {root}; set CARECA_DATA or --data")
    return recordings


def conversations(recordings: Iterable[Recording]) -> list[Recording]:
    """Those in which people talk to each other, or at least freely."""
    return [each for each in recordings if each.folder != READ_SPEECH]


def read_speech(recordings: Iterable[Recording]) -> list[Recording]:
    """Those in which one person reads."""
    return [each for each in recordings if each.folder == READ_SPEECH]


def spread(recordings: Iterable[Recording], count: int) -> list[Recording]:
    """At most ``count`` recordings, taken from each folder and language in turn, small ones first."""
    kinds: dict[tuple[str, str], list[Recording]] = {}
    for recording in sorted(recordings, key=_size):
        kinds.setdefault((recording.folder, recording.language), []).append(recording)
    rounds = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [each for each in itertools.chain.from_iterable(rounds) if each is not None][:count]


def typical(recordings: Iterable[Recording]) -> Recording:
    """The recording of median size. Raises ``DatasetError`` where there is none."""
    by_size = sorted(recordings, key=_size)
    if not by_size:
        raise DatasetError("there are no conversations among the recordings")
    return by_size[len(by_size) // 2]


def parse_rttm(text: str) -> tuple[Turn, ...]:
    """Turns of NIST's RTTM: ``SPEAKER file channel start duration <NA> <NA> speaker <NA> <NA>``."""
    turns = (
        Turn(start=float(start), end=float(start) + float(duration), speaker=speaker)
        for kind, _file, _channel, start, duration, _text, _type, speaker, *_rest in _rows(text)
        if kind == "SPEAKER"
    )
    return tuple(turns)


def parse_stm(text: str) -> tuple[Utterance, ...]:
    """Utterances of NIST's STM: ``file channel speaker start end [<label>] words``."""
    return tuple(
        Utterance(start=float(start), end=float(end), text=" ".join(_without_label(words)), speaker=speaker)
        for _file, _channel, speaker, start, end, *words in _rows(text)
    )


def _rows(text: str) -> Iterator[list[str]]:
    return (line.split() for line in text.splitlines() if line.strip() and not line.startswith(";;"))


def _without_label(words: Sequence[str]) -> Sequence[str]:
    return words[1:] if words and words[0].startswith("<") and words[0].endswith(">") else words


def _size(recording: Recording) -> int:
    return recording.path.stat().st_size


def _recording(path: Path) -> Recording:
    folder = path.parent.name
    rttm, stm, text = (_read_if_there(path.with_suffix(suffix)) for suffix in (".rttm", ".stm", ".txt"))
    return Recording(
        name=path.stem,
        folder=folder,
        path=path,
        language=path.stem.split("-")[1] if folder == READ_SPEECH else "en",
        turns=None if rttm is None else parse_rttm(rttm),
        utterances=None if stm is None else parse_stm(stm),
        text=text,
    )


def _read_if_there(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None

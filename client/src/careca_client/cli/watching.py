"""How people follow the work on stderr: bars in a terminal, lines elsewhere, nothing if so asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeAlias

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from careca import types
from careca_client.cli import terminal
from careca_client.events import Event, Hashing, RecordingKnown, Retrying, Uploading

Watcher: TypeAlias = Callable[[Event], None]
"""Follows one recording."""


class Display(Protocol):
    """Shows how several recordings come on. Used with ``with``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def watch(self, name: str) -> Watcher:
        """Begins to follow a recording; what it returns takes the recording's events."""

    def finish(self, watcher: Watcher) -> None:
        """Ends it."""

    def say(self, message: str, name: str) -> None:
        """One line on a recording that is not about something wrong."""

    @property
    def console(self) -> Console:
        """Where lines on what went wrong can be printed without disturbing the rest."""


def open_display(*, quiet: bool) -> Display:
    """The display that fits the place where stderr goes."""
    console = terminal.stderr()
    if quiet:
        return Silence(console)
    return Bars(console) if console.is_terminal else Lines(console)


class Silence:
    """Shows nothing but errors."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def watch(self, name: str) -> Watcher:
        """Nothing is shown of ``name``."""
        return lambda _: None

    def finish(self, watcher: Watcher) -> None:
        """Nothing was shown."""

    def say(self, message: str, name: str) -> None:
        """Nothing is said."""


class Lines(Silence):
    """A line where something new begins and at each quarter of the model stages: for logs."""

    def watch(self, name: str) -> Watcher:
        """Says what happens to ``name``."""
        return _Narrator(lambda message: self.say(message, name))

    def say(self, message: str, name: str) -> None:
        """One line."""
        self.console.print(terminal.line(message, name))


class _Narrator:
    """Turns many events into few sentences."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._quarters: dict[types.Stage, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Uploading(done_bytes=0):
                self._say(f"uploading {decimal(event.total_bytes)}")
            case RecordingKnown():
                self._say("the gateway has this recording already, nothing is uploaded")
            case Retrying():
                self._say(retry_sentence(event))
            case types.Progress():
                self._narrate_progress(event)
            case _:
                pass

    def _narrate_progress(self, progress: types.Progress) -> None:
        quarter = int(progress.fraction * 4)
        if quarter > self._quarters.get(progress.stage, 0):
            self._quarters[progress.stage] = quarter
            self._say(f"{progress.stage} {quarter * 25} %")


class Bars(Silence):
    """For each recording a bar for each step that has begun. They vanish when the recording is done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, name: str) -> Watcher:
        """Shows the bars of ``name``."""
        return _BarGroup(self._progress, lambda message: self.say(message, name), name)

    def finish(self, watcher: Watcher) -> None:
        """Takes the recording's bars away."""
        if isinstance(watcher, _BarGroup):
            watcher.remove()

    def say(self, message: str, name: str) -> None:
        """One line above the bars."""
        self.console.print(Text(terminal.line(message, name), "dim"))


class _BarGroup:
    """The bars of one recording."""

    def __init__(self, progress: Progress, say: Callable[[str], None], name: str) -> None:
        self._progress = progress
        self._say = say
        self._name = name
        self._bars: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Hashing():
                self._show("hash", event.done_bytes, event.total_bytes)
            case Uploading():
                self._show("upload", event.done_bytes, event.total_bytes)
            case RecordingKnown():
                self._show("upload", 1, 1)
            case types.Progress():
                self._show(event.stage, event.fraction, 1)
            case Retrying():
                self._say(retry_sentence(event))
            case _:
                pass

    def _show(self, step: str, done: float, total: float) -> None:
        if step not in self._bars:
            self._bars[step] = self._progress.add_task(f"{self._name}  {step:10}", total=total)
        self._progress.update(self._bars[step], completed=done, total=total)

    def remove(self) -> None:
        """Takes the bars away."""
        for bar in self._bars.values():
            self._progress.remove_task(bar)
        self._bars.clear()


def retry_sentence(event: Retrying) -> str:
    """Why and when all is asked again."""
    return f"{event.error.message}; trying again in {event.delay_seconds:.1f} s (attempt {event.attempt})"

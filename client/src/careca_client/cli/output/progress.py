"""How people follow the work on stderr: bars in a terminal, lines elsewhere, nothing if so asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import PurePath
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from careca import types
from careca_client.cli.output import terminal
from careca_client.events import Event, EventCallback, Hashing, RecordingKnown, Retrying, Uploading


class Display(Protocol):
    """Shows how several recordings come on."""

    @property
    def console(self) -> Console:
        """Where lines on what went wrong can be printed without disturbing the rest."""

    def watching(self, name: str) -> AbstractContextManager[EventCallback]:
        """Follows one recording by its events until the end of the ``with`` block."""

    @property
    def quiet(self) -> bool:
        """Whether nothing but errors is shown."""

    def say(self, message: str, name: str) -> None:
        """One line on a recording that is not about something wrong."""

    def warn(self, message: str, name: str) -> None:
        """One line on a recording that a person should not miss, though nothing failed."""

    def aside(self) -> AbstractContextManager[None]:
        """Makes room for results on stdout, which may be the same terminal."""


@contextmanager
def open_display(*, quiet: bool) -> Iterator[Display]:
    """The display that fits the place where stderr goes."""
    console = terminal.stderr()
    if quiet:
        yield Silence(console)
    elif not console.is_terminal:
        yield Lines(console)
    else:
        bars = Bars(console)
        with bars.showing():
            yield bars


class Silence:
    """Shows nothing but errors."""

    quiet = True

    def __init__(self, console: Console) -> None:
        self.console = console

    def watching(self, name: str) -> AbstractContextManager[EventCallback]:
        """Nothing is shown of ``name``."""
        return nullcontext(lambda _: None)

    def say(self, message: str, name: str) -> None:
        """Nothing is said."""

    def warn(self, message: str, name: str) -> None:
        """Nothing is said."""

    def aside(self) -> AbstractContextManager[None]:
        """Nothing is in the way."""
        return nullcontext()


class Lines(Silence):
    """A line where something new begins and at each quarter of a stage: for logs."""

    quiet = False

    def watching(self, name: str) -> AbstractContextManager[EventCallback]:
        """Says what happens to ``name``."""
        return nullcontext(_Narrator(lambda message: self.say(message, name)))

    def say(self, message: str, name: str) -> None:
        """One line."""
        self.console.print(terminal.line(message, name))

    def warn(self, message: str, name: str) -> None:
        """One line."""
        terminal.warn(message, name, self.console)


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
                self._say("the gateway has this recording already")
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

    quiet = False

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # rich would send what is written to stdout, our results, to the console of the bars.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def showing(self) -> AbstractContextManager[object]:
        """Shows the bars until the end of the ``with`` block."""
        return self._progress

    @contextmanager
    def watching(self, name: str) -> Iterator[EventCallback]:
        """Shows the bars of ``name``."""
        group = _BarGroup(self._progress, lambda message: self.say(message, name), name)
        try:
            yield group
        finally:
            group.remove()

    def say(self, message: str, name: str) -> None:
        """One line above the bars."""
        self.console.print(Text(terminal.line(message, name), "dim"))

    def warn(self, message: str, name: str) -> None:
        """One line above the bars."""
        terminal.warn(message, name, self.console)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bars off the screen for a moment."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


class _BarGroup:
    """The bars of one recording, together and in order whenever each appears."""

    def __init__(self, progress: Progress, say: Callable[[str], None], name: str) -> None:
        self._progress = progress
        self._say = say
        self._bars: dict[str, TaskID] = {
            step: progress.add_task(f"{PurePath(name).name}  {step:10}", start=False, visible=False)
            for step in ("hash", "upload", *types.Stage)
        }

    def __call__(self, event: Event) -> None:
        match event:
            case Hashing():
                self._show("hash", event.done_bytes, event.total_bytes)
            case Uploading():
                self._show("upload", event.done_bytes, event.total_bytes)
            case types.Progress():
                self._show(event.stage, event.fraction, 1)
            case RecordingKnown():
                self._say("the gateway has this recording already")
            case Retrying():
                self._say(retry_sentence(event))
            case _:
                pass

    def _show(self, step: str, done: float, total: float) -> None:
        bar = self._bars[step]
        self._progress.start_task(bar)
        self._progress.update(bar, completed=done, total=total, visible=True)

    def remove(self) -> None:
        """Takes the bars away."""
        for bar in self._bars.values():
            self._progress.remove_task(bar)


def retry_sentence(event: Retrying) -> str:
    """Why and when all is asked again."""
    why = " ".join(event.error.message.split())
    return f"{why}; trying again in {event.delay_seconds:.1f} s (attempt {event.attempt})"

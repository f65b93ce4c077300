"""Shows progress and messages on stderr: bars in a terminal, lines elsewhere, only errors with ``--quiet``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import PurePath

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from careca import types
from careca_client.cli.output import terminal
from careca_client.events import Event, EventCallback, Hashing, RecordingKnown, Retrying, Uploading
from careca_client.live import LiveReconnecting


@contextmanager
def open_display(*, quiet: bool) -> Iterator[Display]:
    """Yields the display that fits stderr."""
    console = terminal.stderr()
    if quiet:
        yield Display(console)
    elif not console.is_terminal:
        yield LineDisplay(console)
    else:
        bars = BarDisplay(console)
        with bars.live():
            yield bars


class Display:
    """Shows only errors. The other displays extend it."""

    quiet = True
    """Whether only errors are shown."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def progress(self, name: str) -> AbstractContextManager[EventCallback]:
        """Shows the progress of one recording by its events, until the end of the ``with`` block."""
        return nullcontext(lambda _: None)

    def info(self, message: str, name: str) -> None:
        """Shows one line about a recording in which nothing is wrong."""

    def warning(self, message: str, name: str) -> None:
        """Shows one line about a recording that a person should see although nothing failed."""

    def error(self, message: str, name: str, error: BaseException | None = None) -> None:
        """Shows one line about what went wrong with a recording, below the traceback of ``error`` if there is one."""
        terminal.print_error(message, name, error, self._console)

    def paused(self) -> AbstractContextManager[None]:
        """Clears the screen while results are printed to stdout, which may be the same terminal."""
        return nullcontext()


class LineDisplay(Display):
    """Prints a line at the start of each step and at each quarter of a stage, as logs need it."""

    quiet = False

    def progress(self, name: str) -> AbstractContextManager[EventCallback]:
        """Prints the progress of one recording."""
        return nullcontext(_LineProgress(lambda message: self.info(message, name)))

    def info(self, message: str, name: str) -> None:
        """Prints one line."""
        self._console.print(terminal.line(message, name))

    def warning(self, message: str, name: str) -> None:
        """Prints one line in yellow."""
        terminal.print_warning(message, name, self._console)


class BarDisplay(LineDisplay):
    """Shows a bar for each step of a recording that has begun, and removes the bars when the recording is done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # rich would send stdout, which has our results, to the console of the bars.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def live(self) -> AbstractContextManager[object]:
        """Shows the bars until the end of the ``with`` block."""
        return self._progress

    @contextmanager
    def progress(self, name: str) -> Iterator[EventCallback]:
        """Shows the bars of one recording."""
        bars = _RecordingBars(self._progress, lambda message: self.info(message, name), name)
        try:
            yield bars
        finally:
            bars.remove()

    def info(self, message: str, name: str) -> None:
        """Prints one line above the bars."""
        self._console.print(Text(terminal.line(message, name), "dim"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Removes the bars until the end of the ``with`` block."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


class _LineProgress:
    """Turns the events of one recording into a few lines."""

    def __init__(self, info: Callable[[str], None]) -> None:
        self._info = info
        self._quarters: dict[types.Stage, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Uploading(done_bytes=0):
                self._info(f"uploading {decimal(event.total_bytes)}")
            case RecordingKnown() | Retrying():
                self._info(_describe(event))
            case types.Progress():
                self._show(event)
            case _:
                pass

    def _show(self, progress: types.Progress) -> None:
        quarter = int(progress.fraction * 4)
        if quarter > self._quarters.get(progress.stage, 0):
            self._quarters[progress.stage] = quarter
            self._info(f"{progress.stage} {quarter * 25} %")


class _RecordingBars:
    """The bars of one recording, which stay together and in order."""

    def __init__(self, progress: Progress, info: Callable[[str], None], name: str) -> None:
        self._progress = progress
        self._info = info
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
            case RecordingKnown() | Retrying():
                self._info(_describe(event))
            case _:
                pass

    def _show(self, step: str, done: float, total: float) -> None:
        bar = self._bars[step]
        self._progress.start_task(bar)
        self._progress.update(bar, completed=done, total=total, visible=True)

    def remove(self) -> None:
        """Removes the bars."""
        for bar in self._bars.values():
            self._progress.remove_task(bar)


def describe_retry(event: Retrying | LiveReconnecting) -> str:
    """Says in one line why another attempt follows, and when."""
    why = " ".join(event.error.message.split())
    return f"{why}; trying again in {event.delay_seconds:.1f} s (attempt {event.attempt})"


def _describe(event: RecordingKnown | Retrying) -> str:
    match event:
        case RecordingKnown():
            return "the gateway has this recording already"
        case Retrying():
            return describe_retry(event)

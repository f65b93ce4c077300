"""`make demo`: transcribes a phone call with the real stack, twice, and shows where the second answer came from."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from careca.errors import CarecaError
from careca.types import Progress as StageProgress
from careca_client import Client, TranscriptionResult
from local_stack import LocalStack, StackError

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Shows the main job; returns 1 with a sentence that says what is missing if it cannot."""
    try:
        recording = sample()
        with (
            tempfile.TemporaryDirectory(prefix="careca-demo-") as root,
            LocalStack(Path(root), web=True, announce=lambda text: console.print(f"  {text}", style="dim")) as stack,
            Client(stack.gateway_target) as client,
        ):
            console.print(f"\nIn a browser, until the demo ends: {stack.web_url} (`make up` keeps it running)")
            console.print(f"\n[bold]First request[/]: {recording.name}, a phone call between two people")
            first, first_seconds = timed(lambda: transcribe_with_progress(client, recording))
            show(first)
            console.print("\n[bold]Second request[/]: the same recording")
            second, second_seconds = timed(lambda: client.transcribe(recording))
            show_comparison(first, first_seconds, second, second_seconds)
            console.print("\nStopping everything that was started.")
    except (StackError, CarecaError, FileNotFoundError) as error:
        console.print(f"[red]The demo failed:[/] {error}")
        return 1
    return 0


def sample() -> Path:
    """The recording that pyannote.audio's wheel carries, found without importing the library."""
    spec = find_spec("pyannote")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "audio" / "sample" / "sample.wav"
        if path.exists():
            return path
    raise FileNotFoundError("pyannote.audio's sample recording is not installed; run `make setup`")


def transcribe_with_progress(client: Client, recording: Path) -> TranscriptionResult:
    """Transcribes while a bar for each stage moves."""
    columns = (TextColumn("  {task.description:<11}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {name: bars.add_task(name, total=1.0) for name in ("decode", "transcribe", "diarize", "merge")}

        def on_event(event: object) -> None:
            if isinstance(event, StageProgress):
                bars.update(tasks[event.stage.value], completed=event.fraction)

        result = client.transcribe(recording, on_event=on_event)
        for task in tasks.values():
            bars.update(task, completed=1.0)
        return result


def timed(call: Callable[[], TranscriptionResult]) -> tuple[TranscriptionResult, float]:
    """What ``call`` returns, and the seconds that it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def show(result: TranscriptionResult) -> None:
    """Prints who said what, and when."""
    console.print()
    for utterance in result.utterances:
        speaker = utterance.speaker or "nobody"
        console.print(f"  {utterance.start:6.2f} - {utterance.end:6.2f}  [bold]{speaker}[/]  {utterance.text}")


def show_comparison(
    first: TranscriptionResult, first_seconds: float, second: TranscriptionResult, second_seconds: float
) -> None:
    """Prints both times and where each stage of the second answer came from."""
    sources = ", ".join(
        f"{report.stage.value} {'from cache' if report.cached else 'computed'}" for report in second.stages
    )
    console.print(f"  first   {first_seconds:8.3f} s, {first.uploaded_bytes:,} bytes sent")
    console.print(f"  second  {second_seconds:8.3f} s, {second.uploaded_bytes:,} bytes sent; {sources}")
    same = first.utterances == second.utterances
    console.print(
        f"  {'the same' if same else 'NOT the same'} answer, {first_seconds / second_seconds:,.0f} times as fast"
    )


if __name__ == "__main__":
    sys.exit(main())

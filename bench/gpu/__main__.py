"""Measures the engines on one GPU: seconds for an hour of audio, GPU memory, and equality with the CPU.

    measure     the measurement; it prints tables, and with --out updates a document
    prepare     writes a WAV file of conversations, to take to a machine that cannot decode recordings

`bench/gpu.sh` runs `measure` on a machine that has only torch and a folder of wheels. Without --data, the recordings
of the other benchmarks are decoded (CARECA_DATA), which needs PyAV. With --data, the WAV files of a folder are read,
16 kHz mono of 16 bits, which needs nothing. Speech that is shorter than what is measured is repeated.

A task whose packages or models are missing is left out, and a line says why. CARECA_WHISPER_MODEL names another model.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.common.dataset import DatasetError
from bench.common.tables import NOTHING, mebibytes, seconds, splice, table
from bench.gpu import speech as speeches
from bench.gpu import speed
from bench.gpu.engines import DIARIZATION, TRANSCRIPTION, Task, installed
from bench.gpu.equality import TOLERANCES, comparisons
from bench.gpu.memory import DriverError, ReadMemory, driver, no_memory
from bench.gpu.speech import STREAMS, Samples, SpeechError
from bench.gpu.speed import Memory, Speed
from careca.errors import CarecaError
from careca.resources.processors import disable_openmp_spinning, usable_processors
from careca.settings import ModelStoreSettings
from careca.types import SAMPLE_RATE
from careca_transcriber.settings import TranscriberSettings

DEFAULT_SECONDS = {"cuda": 3600.0, "cpu": 120.0}
COMPARED_SECONDS = 300.0
AFTER_TASK, AFTER_RELEASE = "40 to 70 %", "70 to 95 %"
"""By how much the GPU's memory should be lower than the peak."""
_PACKAGES = ("torch", "ctranslate2", "faster-whisper", "pyannote.audio", "openvino")


def main() -> int:
    """Runs the command. Returns 0 for success, 1 where there is nothing to measure with."""
    arguments = _parse()
    try:
        if arguments.command == "prepare":
            return _prepare(arguments.out, arguments.seconds)
        return _measure(arguments)
    except (SpeechError, DatasetError) as error:
        announce(f"cannot measure: {error}")
        return 1


def announce(text: str) -> None:
    """Tells the person who waits."""
    print(text, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="write a WAV file of conversations")
    prepare.add_argument("--out", type=Path, required=True, help="the file")
    prepare.add_argument("--seconds", type=float, default=300.0, help="its length (300)")
    measure = commands.add_parser("measure", help="measure")
    measure.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the program (cuda)")
    measure.add_argument("--models", type=Path, default=ModelStoreSettings().models_dir, help="folder of the models")
    measure.add_argument("--data", type=Path, help="folder of WAV files")
    measure.add_argument("--seconds", type=float, help="length of the long recording (3600 on cuda, 120 on cpu)")
    measure.add_argument("--out", type=Path, help="document to update between its markers gpu:begin and gpu:end")
    return parser.parse_args()


def _prepare(out: Path, length: float) -> int:
    samples = speeches.from_recordings(length)
    from bench.common.audio import write_wav

    out.parent.mkdir(parents=True, exist_ok=True)
    write_wav(samples, out)
    announce(f"{out} has {len(samples) / SAMPLE_RATE:.0f} s of conversations")
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    disable_openmp_spinning()  # as the services do
    device, models = arguments.device, arguments.models.expanduser()
    length = arguments.seconds or DEFAULT_SECONDS[device]
    speech = speeches.read(arguments.data) if arguments.data else speeches.from_recordings()
    name, read = (_processor(), no_memory) if device == "cpu" else _gpu()
    tasks, parts = _measured(speech, length, device, models, read)
    if not tasks:
        return 1
    parts.append(_compared(tasks, speech[: round(min(length, COMPARED_SECONDS) * SAMPLE_RATE)], device, models))
    spent = (time.monotonic() - began) / 60
    text = "\n\n".join([f"Measured {datetime.now(UTC):%Y-%m-%d}, in {spent:.1f} minutes. {_machine(name)}", *parts])
    print(text)
    if arguments.out:
        document = arguments.out.read_text(encoding="utf-8")
        arguments.out.write_text(splice(document, text, mark="gpu"), encoding="utf-8")
    return 0


def _measured(
    speech: Samples, length: float, device: str, models: Path, read: ReadMemory
) -> tuple[list[Task], list[str]]:
    """Measures each task alone, then both at the same time.

    Returns the tasks that work, and tables of speed and of memory with a line for each task that does not.
    """
    speeds, memories, left_out = [], [], []
    working: list[Task] = []
    for together in ([TRANSCRIPTION], [DIARIZATION], [TRANSCRIPTION, DIARIZATION]):
        what = " and ".join(task.name for task in together)
        if len(together) > 1 and working != together:
            continue
        try:
            found, memory = speed.measure(together, speech, length, device, models, read)
        except CarecaError as error:
            left_out.append(f"Not measured: {what}: {error.message}")
            announce(left_out[-1])
            continue
        announce(f"{what}: {found}, {memory}")
        speeds.append(_speed_row(what, found))
        memories.append(_memory_row(what, memory))
        if len(together) == 1:
            working += together
    head = [
        "seconds for an hour of audio",
        f"one recording of {length:.0f} s",
        f"{STREAMS} at once",
        f"{STREAMS} one after the other",
        "throughput at once, over one after the other",
    ]
    memory_head = [
        "GPU memory",
        "models loaded",
        "peak",
        "after the tasks",
        f"lower than the peak by ({AFTER_TASK})",
        "after unloading",
        f"lower than the peak by ({AFTER_RELEASE})",
    ]
    return working, [table(head, speeds), table(memory_head, memories), *left_out]


def _speed_row(what: str, found: Speed) -> list[str]:
    return [what, *map(seconds, (found.one, found.at_once, found.in_turn)), f"{found.gain:.2f}"]


def _memory_row(what: str, memory: Memory) -> list[str]:
    loaded, peak, after, unloaded = (
        NOTHING if (size := memory.of_engines(used)) is None else mebibytes(size)
        for used in (memory.loaded, memory.peak, memory.after, memory.unloaded)
    )
    lower_after, lower_unloaded = (
        NOTHING if (share := memory.lower(used)) is None else f"{100 * share:.0f} %"
        for used in (memory.after, memory.unloaded)
    )
    return [what, loaded, peak, after, lower_after, unloaded, lower_unloaded]


def _compared(tasks: list[Task], speech: Samples, device: str, models: Path) -> str:
    """The table of differences. A comparison that cannot be made is a row that says why."""
    rows = []
    for comparison in (each for each in comparisons(device) if each.task in tasks):
        tolerance = TOLERANCES[comparison.task.name]
        limit = f"{100 * tolerance:g} %"
        try:
            rate = comparison.measure(speech, models)
        except CarecaError as error:
            announce(f"not compared: {comparison.what}: {error.message}")
            rows.append([f"{comparison.what} (not compared: {error.message})", NOTHING, limit, NOTHING])
            continue
        announce(f"{comparison.what}: {rate:.4f}")
        rows.append([comparison.what, f"{100 * rate:.2f} %", limit, "yes" if rate <= tolerance else "NO"])
    return table([f"difference in {len(speech) / SAMPLE_RATE:.0f} s", "measured", "tolerance", "met"], rows)


def _gpu() -> tuple[str, ReadMemory]:
    """The name of the GPU and what reads its memory. Speed is measured even if the driver's library is missing."""
    try:
        return driver()
    except DriverError as error:
        announce(f"GPU memory is not measured: {error}")
        return "a GPU of unknown name", no_memory


def _machine(name: str) -> str:
    packages = [f"{package} {found}" for package in _PACKAGES if (found := installed(package))]
    model, python = TranscriberSettings().whisper_model, f"Python {sys.version.split()[0]}"
    return f"{', '.join([name, f'{usable_processors()} processors', model, python, *packages])}."


def _processor() -> str:
    models = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(models, "an unknown processor")


if __name__ == "__main__":
    sys.exit(main())

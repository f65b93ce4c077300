"""Measures live transcripts with the real stack. Takes as long as the recordings, because they are played in real time.

    speech     conversations, one after the other: delays, changes, words and speakers beside the recording's own
    sessions   several sessions at once: how far they fall behind
    long       who speaks in a conversation of two hours with six people, as fast as the diarizer is
    crowd      64 sessions at once, with model services that only take time: delays and memory beside those of one
    kills      a hundred sessions while every process is killed, with model services that only take time

Without a part, all run, and docs/benchmarks.md is updated.
"""

from __future__ import annotations

import asyncio
import sys

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.harness import announce, cleanly, running_stack
from bench.common.report import Report, measure
from bench.common.scoring import DiarizationErrors, WordErrors, score_text, score_turns, score_utterances
from bench.common.tables import rate, seconds, table
from bench.live import scores
from bench.live.crowd import measure_crowd
from bench.live.kills import measure_kills
from bench.live.long import measure_long
from bench.live.playing import Playing, play
from careca.types import SAMPLE_RATE
from careca_client import AsyncClient

INTERIM_SECONDS, FINAL_SECONDS = 1.2, 2.5
WORD_ERROR_RATIO = 1.1
CHANGED_SHARE = 0.15
CORRECTED_SHARE = 0.05
SPEAKER_RATES = 0.05
RESULT_SECONDS = 3.0
LONGEST_SECONDS = 240.0
"""Longer recordings are left out: they are played in real time."""
SESSIONS = (1, 2, 4)
SESSION_SECONDS = 60.0


def main() -> int:
    """Runs the parts asked for."""
    return measure(PARTS, __doc__ or "", REPOSITORY / "docs" / "benchmarks.md", "live")


async def measure_speech(report: Report) -> None:
    """Plays each conversation of at most four minutes whose words are known, one after the other."""
    recordings = [each for each in dataset.conversations(dataset.find()) if each.utterances is not None]
    totals = _Totals()
    rows = []
    with running_stack() as stack:
        async with AsyncClient(stack.target) as client:
            for recording in recordings:
                samples = audio.decode(recording.path)
                if len(samples) > LONGEST_SECONDS * SAMPLE_RATE:
                    continue
                playing = await play(client, samples)
                row = _Totals()
                row.add(recording, playing, len(samples) / SAMPLE_RATE)
                totals += row
                rows.append([recording.name, *row.cells()])
                announce(" | ".join(rows[-1]))
    rows.append(["**all**", *totals.cells()])
    report.tables.append(table(["", *_Totals.HEAD], rows))
    totals.limits(report)


async def measure_sessions(report: Report) -> None:
    """Plays parts of conversations to more and more sessions at once."""
    recordings = dataset.speech()
    rows = []
    with running_stack() as stack:
        async with AsyncClient(stack.target) as client:
            for count in SESSIONS:
                parts = audio.pieces(recordings, [SESSION_SECONDS] * count)
                async with asyncio.TaskGroup() as tasks:
                    playing = [
                        tasks.create_task(play(client, samples, delay=0.1 * index))
                        for index, samples in enumerate(parts)
                    ]
                found = [each.result() for each in playing]
                all_delays = scores.delays_of_all(found)
                behind = scores.furthest_behind(found, SESSION_SECONDS)
                means = scores.mean(all_delays.interim), scores.mean(all_delays.final)
                rows.append([str(count), *map(seconds, (*means, behind))])
                announce(" | ".join(rows[-1]))
    report.tables.append(table(["sessions", "interim, mean", "final, mean", "furthest behind"], rows))


class _Totals:
    """What one or several sessions are worth."""

    HEAD = (
        "interim s", "final s", "changed", "corrected", "WER", "of result", "cpWER", "of result", "DER", "of result",
        "result after s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.interim: list[float] = []
        self.final: list[float] = []
        self.changed = self.shown = self.corrected = self.words = 0
        self.live_words = self.result_words = WordErrors()
        self.live_speakers = self.result_speakers = WordErrors()
        self.live_turns = self.result_turns = DiarizationErrors()
        self.result_after: list[float] = []

    def add(self, recording: dataset.Recording, playing: Playing, duration: float) -> None:
        """Adds one session."""
        own = scores.delays(playing)
        self.interim += own.interim
        self.final += own.final
        changed, shown = scores.changed_interim(playing)
        self.changed += changed
        self.shown += shown
        self.corrected += playing.corrected_words
        self.words += len(playing.words)
        said = sorted(recording.utterances or (), key=lambda each: each.start)
        reference = " ".join(each.text for each in said)
        result = scores.result_words(playing)
        language = recording.language
        self.live_words += score_text(reference, scores.text_of(playing.words), language)
        self.result_words += score_text(reference, scores.text_of(result), language)
        self.live_speakers += score_utterances(said, scores.utterances_of(playing.words), language)
        self.result_speakers += score_utterances(said, scores.utterances_of(result), language)
        if recording.turns is not None:
            self.live_turns += score_turns(recording.turns, scores.turns_of(playing.words), duration)
            self.result_turns += score_turns(recording.turns, scores.turns_of(result), duration)
        self.result_after.append(playing.result_at - playing.ended)

    def __iadd__(self, other: _Totals) -> _Totals:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def cells(self) -> list[str]:
        """Returns the cells of a row."""
        return [
            *map(seconds, (scores.mean(self.interim), scores.mean(self.final))),
            rate(self.changed / max(1, self.shown)),
            rate(self.corrected / max(1, self.words)),
            *(
                rate(each.error_rate)
                for each in (self.live_words, self.result_words, self.live_speakers, self.result_speakers)
            ),
            *(rate(each.der) for each in (self.live_turns, self.result_turns)),
            seconds(max(self.result_after)),
        ]

    def limits(self, report: Report) -> None:
        """Reports what is asked for."""
        report.at_most("interim words after they were spoken, mean", INTERIM_SECONDS, scores.mean(self.interim))
        report.at_most("final words after they were spoken, mean", FINAL_SECONDS, scores.mean(self.final))
        live, result = self.live_words.error_rate or 0.0, self.result_words.error_rate or 0.0
        ratio = live / result if result else 1.0
        report.limit(
            "word error rate over that of the result", f"{WORD_ERROR_RATIO}", f"{ratio:.3f}",
            met=ratio <= WORD_ERROR_RATIO,
        )  # fmt: skip
        speakers = (self.live_speakers.error_rate or 0.0) - (self.result_speakers.error_rate or 0.0)
        turns = (self.live_turns.der or 0.0) - (self.result_turns.der or 0.0)
        for what, limit, value in (
            ("interim words that change", CHANGED_SHARE, self.changed / max(1, self.shown)),
            ("final words whose speaker is corrected", CORRECTED_SHARE, self.corrected / max(1, self.words)),
            ("cpWER above that of the result", SPEAKER_RATES, speakers),
            ("DER of the words' speakers above that of the result", SPEAKER_RATES, turns),
        ):
            report.limit(what, rate(limit), rate(value), met=value <= limit)
        report.at_most("result after the end of the audio, longest", RESULT_SECONDS, max(self.result_after))


PARTS = {
    "speech": measure_speech,
    "sessions": measure_sessions,
    "long": measure_long,
    "crowd": measure_crowd,
    "kills": measure_kills,
}

if __name__ == "__main__":
    sys.exit(cleanly(main))

"""Draws how one recording was diarized: candidates' scores, voices in two dimensions, turns against the truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from sklearn.decomposition import PCA

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.diarization.__main__ import load_engine
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import Diarization, Speaker, SpeakerCountCandidate, Turn
from careca_diarizer.clustering import Clustering, SpeakerBounds, Voices

PICTURE = REPOSITORY / "docs" / "diarization.png"
COLOURS = mpl.colormaps["tab10"]


def main() -> int:
    """Diarizes the recording and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path, help="with an .rttm of the same name beside it")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG to write")
    arguments = parser.parse_args()
    truth = dataset.parse_rttm(arguments.recording.with_suffix(".rttm").read_text(encoding="utf-8"))
    engine, sound = load_engine(), Audio(audio.decode(arguments.recording))
    speech = complete(engine.analyse(sound))
    clustering = engine.cluster(speech, SpeakerBounds(1, 10))
    found = engine.assemble(sound, speech, clustering)

    figure, axes = pyplot.subplot_mosaic([["scores", "voices"], ["turns", "turns"]], figsize=(11, 8))
    figure.suptitle(f"{arguments.recording.stem}: {sound.duration:.0f} s")
    draw_scores(axes["scores"], found.candidates, clustering.speakers)
    draw_voices(axes["voices"], speech.voices, clustering, found.speakers)
    draw_turns(axes["turns"], truth, found)
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=90)
    return 0


def draw_scores(axes: Axes, candidates: Iterable[SpeakerCountCandidate], chosen: int) -> None:
    """The silhouette of each number of speakers."""
    scored = [(each.speaker_count, each.silhouette_score) for each in candidates if each.silhouette_score is not None]
    axes.bar([count for count, _ in scored], [score for _, score in scored], color="lightgrey")
    axes.bar([count for count, _ in scored if count == chosen], [score for count, score in scored if count == chosen])
    axes.set(title="Candidates", xlabel="speakers", ylabel="silhouette")


def draw_voices(axes: Axes, voices: Voices, clustering: Clustering, speakers: Sequence[Speaker]) -> None:
    """The embeddings of the pieces along their two main directions; pieces in overlapped speech are hollow."""
    places = PCA(n_components=2).fit_transform(voices.embeddings)
    for number, speaker in enumerate(speakers):
        own = clustering.labels == np.argmax(clustering.voices @ np.array(speaker.embedding))
        colour = COLOURS(number)
        for clean in (True, False):
            shown = places[own & (voices.clean == clean)]
            axes.scatter(shown[:, 0], shown[:, 1], s=18, facecolors=colour if clean else "none", edgecolors=colour)
    axes.set(title="Pieces of speech", xlabel="first direction", ylabel="second direction")


def draw_turns(axes: Axes, truth: Sequence[Turn], found: Diarization) -> None:
    """One line for each speaker, the truth's below."""
    colours = {speaker.label: COLOURS(number) for number, speaker in enumerate(found.speakers)}
    lines = [*sorted({f"truth: {turn.speaker}" for turn in truth}), *colours]
    named = [(f"truth: {turn.speaker}", turn) for turn in truth] + [(turn.speaker, turn) for turn in found.turns]
    for line, turn in named:
        place = lines.index(line)
        colour = colours.get(line, "grey")
        axes.broken_barh([(turn.start, turn.end - turn.start)], (place - 0.4, 0.8), facecolors=colour)
    axes.set(title="Turns", xlabel="seconds", yticks=range(len(lines)), yticklabels=lines)


if __name__ == "__main__":
    sys.exit(main())

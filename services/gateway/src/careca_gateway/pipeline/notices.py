"""Notices: what a person should know about a recording in addition to its result. Pure functions.

Notices about the recording itself, such as damage, come from the decoder. The notices here follow from the request and
from what the models found. If a model stage failed, the notices that need it are omitted. Sequences have one entry for
each audio: one, or one for each separate channel or audio track in the recording's order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

from careca.formatting import format_time
from careca.languages import name_of
from careca.types import AudioTracks, Diarization, DiarizationOptions, Notice, NoticeCode, Segment, Transcript
from careca_gateway.pipeline.intervals import Span, union
from careca_gateway.pipeline.words import spans
from careca_gateway.request import Request

LEAST_SPEECH_SECONDS = 2.0
"""Speech of this length contains words. A cough, a laugh or a long "mm" is usually shorter."""

BRIDGED_PAUSE_SECONDS = 1.0
"""Speech before and after a pause of at most this length is one place. Pauses between sentences are so long."""

MAX_PLACES = 10
"""The number of places of speech without words that have their own notice, the longest first. One notice has the
rest."""


class _Place(NamedTuple):
    """A period with ``seconds`` of speech and no words."""

    start: float
    end: float
    seconds: float
    channel: int
    """The index of the channel or audio track."""


def collect_notices(
    request: Request,
    transcripts: Sequence[Transcript] | None,
    diarizations: Sequence[Diarization] | None,
    of_audio: Iterable[Notice] = (),
    *,
    skipped_voices: Collection[str] = (),
) -> tuple[Notice, ...]:
    """Returns all notices in the order to show them: those about the whole recording first, then by time.

    ``transcripts`` and ``diarizations`` are ``None`` if their stage failed. ``of_audio`` are the decoder's notices.
    ``skipped_voices`` are the names of the known speakers who could not be compared with those in the recording.
    """
    found = list(of_audio)
    if transcripts is not None:
        found += _several_languages(transcripts)
    if diarizations is not None:  # a request with separate channels has no speaker bounds
        found += _fewer_speakers(request.diarization, diarizations[0])
    if transcripts is not None and diarizations is not None:
        of_speaker = "audio track" if request.audio_track is AudioTracks.EACH else "channel"
        found += _speech_without_words(transcripts, diarizations, of_speaker)
    if skipped_voices:
        names = ", ".join(sorted(skipped_voices))
        message = f"these saved voices could not be compared with those in the recording: {names}"
        found.append(Notice(NoticeCode.VOICES_SKIPPED, message))
    return tuple(sorted(found, key=_sort_key))


def _sort_key(notice: Notice) -> tuple[float, float]:
    """Sorts by start, then longest first. Other notices keep their order."""
    if notice.start is None:
        return (-inf, 0.0)
    return (notice.start, -(notice.end or notice.start))


def _several_languages(transcripts: Sequence[Transcript]) -> Iterator[Notice]:
    first_heard: dict[str, float] = {}
    for segment in (segment for transcript in transcripts for segment in transcript.segments):
        if segment.language and segment.text.strip():
            heard = first_heard.get(segment.language, inf)
            first_heard[segment.language] = min(heard, segment.start)
    if len(first_heard) > 1:
        in_order = sorted(first_heard, key=lambda language: (first_heard[language], language))
        each = ", ".join(
            f"{name_of(language)} ({language}) from {format_time(first_heard[language])}" for language in in_order
        )
        yield Notice(NoticeCode.SEVERAL_LANGUAGES, f"{len(in_order)} languages are spoken: {each}")


def _fewer_speakers(options: DiarizationOptions, diarization: Diarization) -> Iterator[Notice]:
    least = options.speaker_count or options.min_speaker_count or 1
    found = len({turn.speaker for turn in diarization.turns})
    if found >= least or least == 1:  # the result itself shows that nobody speaks
        return
    asked_for = (
        f"{least} speakers were asked for" if options.speaker_count else f"at least {least} speakers were asked for"
    )
    why = "there is too little speech to tell more voices apart" if found else "no speech was heard"
    yield Notice(NoticeCode.FEWER_SPEAKERS_THAN_ASKED, f"{asked_for}, but {found or 'none'} could be found: {why}")


def _speech_without_words(
    transcripts: Sequence[Transcript], diarizations: Sequence[Diarization], of_speaker: str
) -> Iterator[Notice]:
    """``of_speaker`` is the word for what each audio is if there are several: a channel or an audio track."""
    places = [
        place
        for channel, (transcript, diarization) in enumerate(zip(transcripts, diarizations, strict=True))
        for place in _places(diarization, transcript, channel)
    ]
    longest = sorted(places, key=lambda place: -place.seconds)
    for place in longest[:MAX_PLACES]:
        where = f" on {of_speaker} {place.channel + 1}" if len(transcripts) > 1 else ""
        message = f"speech of {place.seconds:.1f} s is heard{where}, but no words were found in it"
        yield Notice(NoticeCode.SPEECH_WITHOUT_WORDS, message, place.start, place.end)
    if rest := longest[MAX_PLACES:]:
        seconds = sum(place.seconds for place in rest)
        message = f"speech is heard in {len(rest)} more places, {seconds:.1f} s in all, but no words were found in it"
        start, end = min(place.start for place in rest), max(place.end for place in rest)
        yield Notice(NoticeCode.SPEECH_WITHOUT_WORDS, message, start, end)


def _places(diarization: Diarization, transcript: Transcript, channel: int) -> Iterator[_Place]:
    """Yields the periods in which somebody speaks for long enough and there is no word, by start."""
    speech = union(Span(turn.start, turn.end) for turn in diarization.turns)
    spoken = (segment for segment in transcript.segments if segment.text.strip())
    words = union(span for segment in spoken for span in _word_spans(segment))
    for pieces in _speech_between(speech, words):
        seconds = round(sum(piece.end - piece.start for piece in pieces), 3)
        if seconds >= LEAST_SPEECH_SECONDS:
            yield _Place(pieces[0].start, pieces[-1].end, seconds, channel)


def _word_spans(segment: Segment) -> Iterable[Span]:
    """Returns the times of the words of ``segment``; its whole time if its words have no times."""
    end = max(segment.start, segment.end)
    if not segment.words:
        return (Span(segment.start, end),)
    return (Span(*span) for span in spans(segment.words, segment.start, end))


def _speech_between(speech: Sequence[Span], words: Sequence[Span]) -> Iterator[list[Span]]:
    """Yields the parts of ``speech`` between each two ``words``, split at pauses that are too long to bridge."""
    first = 0
    for before, after in pairwise((Span(-inf, -inf), *words, Span(inf, inf))):
        while first < len(speech) and speech[first].end <= before.end:
            first += 1
        pieces: list[Span] = []
        index = first
        while index < len(speech) and speech[index].start < after.start:
            piece = Span(max(speech[index].start, before.end), min(speech[index].end, after.start))
            if pieces and piece.start - pieces[-1].end > BRIDGED_PAUSE_SECONDS:
                yield pieces
                pieces = []
            pieces.append(piece)
            index += 1
        if pieces:
            yield pieces

"""One transcription with faster-whisper: language detection and decoding of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from faster_whisper import WhisperModel

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Event, Work
from careca.inference.parallel import Threads
from careca.types import TranscriptionOptions
from careca_transcriber.clip_reader import ClipAudio, ClipReader, ReadingOptions, window_for
from careca_transcriber.clips import CLIP_SAMPLES, GRID_SAMPLES, cut_clips, is_settled, spread
from careca_transcriber.context import fit_context
from careca_transcriber.passages import (
    LONGEST_PIECE_SAMPLES,
    SHORTEST_PIECE_SAMPLES,
    Passage,
    Piece,
    cut_pieces,
    find_passages,
    language_at,
    main_language,
    other_pieces,
    outweighs,
    unsure_pieces,
)
from careca_transcriber.reading import Reading
from careca_transcriber.speech import Activity, Span, find_speech

_LANGUAGE_CLIPS = 4
_LANGUAGE_BATCH_SIZE = 16


class WhisperRequest:
    """The transcription of one audio with one set of options.

    Args:
        whisper: the model.
        threads: the threads that compute the parts of a batch.
        audio: the audio.
        options: the options of the request.
        short_windows: whether the encoder sees a window of the length of a clip and not always 30 s.
    """

    def __init__(
        self,
        whisper: WhisperModel,
        threads: Threads,
        audio: Audio,
        options: TranscriptionOptions,
        *,
        short_windows: bool = False,
    ) -> None:
        self._whisper = whisper
        self._threads = threads
        self._reader = ClipReader(whisper)
        self._audio = audio
        self._options = options
        self._short_windows = short_windows
        self._language = options.language or ("" if whisper.model.is_multilingual else "en")
        self._context = fit_context(options.hotwords, options.initial_prompt, self._count_tokens)

    def find_passages(self, activity: Activity, progress: Callable[[float], Event]) -> Work[list[Passage]]:
        """Finds the passages of the recording by start, each with its language; together they cover all of it.

        Yields ``progress`` of the fraction done after each batch. Without a change of language there is one passage.
        Its language is the one in the options, else the most probable one for the whole recording.
        """
        whole = Span(0, len(self._audio.samples))
        if self._language:
            return [Passage(whole, self._language, 1.0)]
        pieces = yield from self._detect_languages(cut_pieces(activity), lambda fraction: progress(fraction / 2))
        main = main_language(pieces)
        others = other_pieces(pieces, main, activity)
        pieces += yield from self._detect_languages(others, lambda fraction: progress((1 + fraction) / 2))
        while unsure := unsure_pieces(pieces, main):
            checked = {}
            for piece in unsure:
                checked[piece.span] = yield from self._add_views(piece)
            pieces = [checked.get(piece.span, piece) for piece in pieces]
        passages = find_passages(pieces, main, len(whole))
        other_languages = {code for piece in pieces for code in piece.views[0]} - {main}
        if len(passages) > 1 or outweighs(pieces, main, other_languages):
            return passages  # the slower method could not change this
        language, probability = yield from self._find_language(activity)
        if passages and language != main and outweighs(pieces, main, [language]):
            return passages
        return [Passage(whole, language, probability)]

    def _detect_languages(self, spans: Sequence[Span], progress: Callable[[float], Event]) -> Work[list[Piece]]:
        """Finds the language probabilities in each of ``spans``, which are at most as long as the longest piece.

        The encoder's input has only that length, because its time grows faster than the length: from 0.03 s for 5 s of
        audio to 0.6 s for Whisper's usual 30 s.
        """
        pieces: list[Piece] = []
        for first in range(0, len(spans), _LANGUAGE_BATCH_SIZE):
            batch = spans[first : first + _LANGUAGE_BATCH_SIZE]
            views = yield self._language_batch(batch, LONGEST_PIECE_SAMPLES)
            pieces += (Piece(span, (view,)) for span, view in zip(batch, views, strict=True))
            yield progress(len(pieces) / len(spans))
        return pieces

    def _add_views(self, piece: Piece) -> Work[Piece]:
        """Finds three more views of ``piece``: its first two thirds, its last, and all of it padded to 30 s."""
        part = max(len(piece.span) * 2 // 3, SHORTEST_PIECE_SAMPLES)
        start, end = piece.span.start, piece.span.end
        parts = yield self._language_batch([Span(start, start + part), Span(end - part, end)], LONGEST_PIECE_SAMPLES)
        whole = yield self._language_batch([piece.span], CLIP_SAMPLES)
        return Piece(piece.span, (*piece.views, *parts, *whole))

    def _language_batch(self, spans: Sequence[Span], samples: int) -> Batch:
        """Returns the batch that finds the probability of each language in each of ``spans``."""
        return Batch(
            key=("languages", samples),
            items=[(self._audio, span) for span in spans],
            compute=partial(self._threads.compute, partial(self._language_probabilities, samples)),
            most=_LANGUAGE_BATCH_SIZE,
            identity=_identity,
        )

    def _language_probabilities(self, samples: int, items: Sequence[tuple[Audio, Span]]) -> list[dict[str, float]]:
        """Returns the probability of each language in each of ``items``, padded with silence to ``samples``."""
        features = []
        for audio, span in items:
            speech = audio.float32(span.start, span.end)
            padded = np.pad(speech, (0, samples - len(speech)))
            features.append(self._whisper.feature_extractor(padded)[:, : samples // GRID_SAMPLES])
        likely = self._whisper.model.detect_language(self._whisper.encode(np.stack(features)))
        return [{token[2:-2]: probability for token, probability in each} for each in likely]

    def _find_language(self, activity: Activity) -> Work[tuple[str, float]]:
        """Finds the most probable language of the whole recording and its probability; empty without speech."""
        clips = cut_clips(find_speech(activity), activity, Span(0, len(self._audio.samples)))
        probabilities: Counter[str] = Counter()
        chosen = spread(clips, activity, _LANGUAGE_CLIPS)
        for clip in chosen:
            samples = self._audio.float32(clip.start, clip.end)
            ((_, _, likely),) = yield Batch.alone(partial(self._whisper.detect_language, audio=samples))
            probabilities.update({code: probability / len(chosen) for code, probability in likely})
        return probabilities.most_common(1)[0] if chosen else ("", 0.0)

    def options_for(self, clip: Span, passages: Sequence[Passage]) -> ReadingOptions:
        """Returns how ``clip`` is read: in the language of its passage."""
        return ReadingOptions(
            language=language_at(clip.start, passages),
            translate=self._options.translate,
            beam_size=self._options.beam_size,
            context=self._context,
            window_samples=window_for(clip) if self._short_windows else CLIP_SAMPLES,
        )

    def read(self, clips: Sequence[Span], options: ReadingOptions, most: int) -> Work[list[Reading]]:
        """Finds what Whisper reads in each of ``clips``.

        ``most`` is the largest number of clips to read together with those of other requests.
        """

        def compute(items: Sequence[tuple[Audio, Span]]) -> list[Reading]:
            clips = [ClipAudio(clip, audio.float32(clip.start, clip.end)) for audio, clip in items]
            return self._reader.read(clips, options)

        items = [(self._audio, clip) for clip in clips]
        readings: list[Reading] = yield Batch(
            key=("read", options),
            items=items,
            compute=partial(self._threads.compute, compute),
            most=most,
            identity=_identity_in_place,
            together=self._whisper.model.device != "cpu",
            settled=lambda item: is_settled(item[1], len(item[0].samples)),
        )
        return readings

    def _count_tokens(self, text: str) -> int:
        return len(self._whisper.hf_tokenizer.encode(f" {text}", add_special_tokens=False).ids)


def _identity(item: tuple[Audio, Span]) -> bytes:
    audio, span = item
    return audio.identity(span.start, span.end)


def _identity_in_place(item: tuple[Audio, Span]) -> bytes:
    """As ``_identity``, of a result with times of the recording."""
    return item[1].start.to_bytes(8) + _identity(item)

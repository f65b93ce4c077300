"""The context for Whisper's decoder: hotwords and the initial prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_CONTEXT_TOKENS = 216
"""Largest number of context tokens: of Whisper's 448, 224 are for the text of a clip and a few for the task."""


@dataclass(frozen=True, slots=True)
class Context:
    """The hotwords and the prompt, as far as they fit; ``None`` if empty."""

    hotwords: str | None
    prompt: str | None


def fit_context(hotwords: Sequence[str], prompt: str, tokens_of: Callable[[str], int]) -> Context:
    """Returns as many ``hotwords`` as fit, then as many words from the end of ``prompt`` as still fit.

    ``tokens_of`` counts the tokens of a text. Hotwords come first, because they are few and chosen deliberately.
    """
    kept = _longest(
        [", ".join(hotwords[:count]) for count in range(len(hotwords), 0, -1)], MAX_CONTEXT_TOKENS, tokens_of
    )
    left = MAX_CONTEXT_TOKENS - (tokens_of(kept) if kept else 0)
    words = prompt.split()
    return Context(kept, _longest([" ".join(words[first:]) for first in range(len(words))], left, tokens_of))


def _longest(texts: Sequence[str], most_tokens: int, tokens_of: Callable[[str], int]) -> str | None:
    """Returns the first text with at most ``most_tokens`` tokens. ``texts`` are in order of decreasing length."""
    return next((text for text in texts if text and tokens_of(text) <= most_tokens), None)

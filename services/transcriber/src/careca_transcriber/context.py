"""The text that Whisper is given as having come before: hotwords and the initial prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_CONTEXT_TOKENS = 216
"""Most tokens of context: of Whisper's 448, 224 are for what it writes for a clip, and a few say what it is to do."""


@dataclass(frozen=True, slots=True)
class Context:
    """What fits of the hotwords and of the prompt; ``None`` where there is nothing."""

    hotwords: str | None
    prompt: str | None


def fit_context(hotwords: Sequence[str], prompt: str, tokens_of: Callable[[str], int]) -> Context:
    """As many of ``hotwords`` as fit, then as much of the end of ``prompt`` as still fits, by whole words.

    ``tokens_of`` counts the tokens of a text. Hotwords go first: they are few, and each was chosen.
    """
    kept = _longest(
        [", ".join(hotwords[:count]) for count in range(len(hotwords), 0, -1)], MAX_CONTEXT_TOKENS, tokens_of
    )
    left = MAX_CONTEXT_TOKENS - (tokens_of(kept) if kept else 0)
    words = prompt.split()
    return Context(kept, _longest([" ".join(words[first:]) for first in range(len(words))], left, tokens_of))


def _longest(texts: Sequence[str], most_tokens: int, tokens_of: Callable[[str], int]) -> str | None:
    """The first of ``texts``, which are ever shorter, that has at most ``most_tokens`` tokens."""
    return next((text for text in texts if text and tokens_of(text) <= most_tokens), None)

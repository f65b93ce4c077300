"""What a caller may send in corrections. transcripts.proto documents these limits."""

from __future__ import annotations

MAX_EDITS = 100
"""Largest number of edits in one save. Each one may change the whole transcript."""

MAX_TEXT_CHARACTERS = 20_000
"""Largest length of the text of an utterance. A person speaks for about twenty minutes in it."""

MAX_SPEAKERS = 200
"""Largest number of speakers in a transcript."""

MAX_TRANSCRIPT_BYTES = 16 * 1024 * 1024
"""Largest size of a stored revision before compression. Forty hours of speech have it."""

MAX_REVISIONS = 200
"""Largest number of revisions that are kept of a transcript. The oldest ones are removed first."""

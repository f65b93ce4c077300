"""Tables of saved voices."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from careca.formatting import printable
from careca.types import SavedVoice
from careca_client.cli.output.tables import NONE, create_table, format_unix


def voice_table(voices: Iterable[SavedVoice]) -> Table:
    """Returns one row for each voice."""
    table = create_table("name", "saved", "from job", "embedding model")
    for voice in voices:
        table.add_row(
            Text(printable(voice.name)), format_unix(voice.create_unix), voice.job_id or NONE, voice.embedding_model
        )
    return table

"""Scheduling: the order in which a model service works on the requests in hand."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SchedulingClass(enum.IntEnum):
    """How urgent a request is. Lower classes go first."""

    LIVE = 0
    """People are talking."""
    INTERACTIVE = 1
    """A person waits for the result."""
    BATCH = 2
    """Nobody waits."""

    @property
    def label(self) -> str:
        """The name in metrics and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What the order of a request depends on."""

    scheduling_class: SchedulingClass = SchedulingClass.INTERACTIVE
    submitter: str = ""
    """Whose request it is: submitters get equal shares of the device. All requests without a name are one submitter."""

"""Logs: one event per line with named values, as JSON in a cluster and in colour in a terminal.

Libraries that log through ``logging`` get the same format. Each line that belongs to a request has the request's id,
also in the worker's threads.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

from careca.formatting import printable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_GRPC = "grpc._cython.cygrpc"

_IRRELEVANT = (
    # gRPC, with a traceback: metadata of a caller that is not text, and a caller that disconnected before the response.
    "Invalid encoding on",
    "ExecuteBatchError raised in core",
    # asyncio (Python 3.11, and newer): a child process was killed just when it had ended.
    "Unknown child process pid",
    "child process pid %d exit status already read",
)
"""How lines of libraries begin that are not logged."""

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Returns a logger that takes an event and named values: ``log.info("task finished", seconds=1.5)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(level: Level, log_format: Format) -> None:
    """Sends all logs of this process to stderr. ``auto`` is ``console`` in a terminal and ``json`` elsewhere."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(console=console))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for library in (_GRPC, "asyncio"):
        logging.getLogger(library).addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drops lines of libraries about what is no fault."""
    return not str(record.msg).startswith(_IRRELEVANT)


def _escape(_: object, __: str, entry: EventDict) -> EventDict:
    """Escapes what a terminal would interpret, such as escape sequences and line breaks. JSON does this by itself."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in entry.items()}


def _formatter(*, console: bool) -> logging.Formatter:
    """Tracebacks do not show local variables: these can hold whole recordings and secrets."""
    rendering: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )

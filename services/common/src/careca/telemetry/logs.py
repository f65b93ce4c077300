"""Logs: one event per line with its values by name, JSON in a cluster and coloured in a terminal.

Lines of other libraries that log through ``logging`` take the same form. The id of the request that is being served
is in every line of it, also from the worker's threads.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog
from structlog.typing import EventDict, Processor

if TYPE_CHECKING:
    from careca.settings import ServiceSettings

_GRPC = "grpc._cython.cygrpc"

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; takes an event and its values by name: ``log.info("task finished", seconds=1.5)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(settings: ServiceSettings) -> None:
    """Sends all logs to stderr, as the settings say. Called once, by ``__main__``."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
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
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.getLogger(_GRPC).addFilter(_is_no_strangers_noise)


def _is_no_strangers_noise(record: logging.LogRecord) -> bool:
    """Whether a line of gRPC's says more than what callers do to themselves, with a traceback each time.

    Such are metadata that are no text, and to be gone when the answer comes.
    """
    return not str(record.msg).startswith(("Invalid encoding on", "ExecuteBatchError raised in core"))


def _escape(_: object, __: str, entry: EventDict) -> EventDict:
    """Values without what a terminal would act upon, such as escape sequences and line breaks; JSON has its own way."""
    return {name: _printable(value) if isinstance(value, str) else value for name, value in entry.items()}


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _formatter(*, console: bool) -> logging.Formatter:
    """Tracebacks come without the values of local variables: those hold whole recordings, and perhaps secrets."""
    rendering: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )

"""The parts of help texts that several commands have."""

from __future__ import annotations

EXIT_CODES = """\
Exit codes:

\b
  0    success
  1    a recording failed, its job failed or was cancelled, or an unexpected error occurred
  2    the command line is wrong
  3    a stage failed; the rest of the result was delivered
  4    the gateway cannot be reached or accepts no calls now
  5    the input was refused: no such file or job, not a recording, an option out of range, a token without the right
  6    overloaded, out of time, or a job has not ended: it may work later or with more time
  130  interrupted

With several recordings all are tried. The exit code is the first of 130, 1, 4, 6, 5, 3, 0 that applies."""


def epilog(*examples: str, exit_codes: str = EXIT_CODES) -> str:
    """Returns the end of a command's help: the examples, one command line each, then the exit codes."""
    return "\n".join(["Examples:", "", "\b", *(f"  {example}" for example in examples), "", exit_codes])

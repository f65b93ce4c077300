"""Bearer tokens, stored as hashes in a file that may be replaced at any time.

A token is 256 random bits, so a plain SHA-256 does not reveal it. The file is TOML:

    [[token]]
    name = "ana"             # for logs and lists of jobs; two tokens may share a name while one replaces the other
    role = "user"            # or "admin"
    sha256 = "9f86d081884c..."
    requests_per_second = 5  # optional, as are all limits: see docs/security.md
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from careca.auth.caller import Caller, CallerLimits, Role
from careca.auth.submitter import RULE, is_name
from careca.auth.watched_files import WatchedFiles
from careca.errors import InvalidRequest, PreconditionFailed, Unauthenticated

METADATA_KEY = "authorization"
"""The metadata key of the token, which follows ``SCHEME``."""

SCHEME = "Bearer "

_PREFIX = "careca_"  # so that scanners for leaked secrets can recognise a token
_BYTES = 32


def new_token() -> str:
    """Returns a new random token."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def hash_token(token: str) -> str:
    """Returns the hash of ``token`` for the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"a name has {RULE}")
    return name


class TokenEntry(BaseModel):
    """One token in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_checked_name)]
    role: Role
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    requests_per_second: float | None = Field(default=None, gt=0)
    recording_bytes: int | None = Field(default=None, gt=0)
    recording_seconds: float | None = Field(default=None, gt=0)
    jobs: int | None = Field(default=None, gt=0)
    live_sessions: int | None = Field(default=None, gt=0)

    @property
    def caller(self) -> Caller:
        """The caller that the token stands for."""
        limits = CallerLimits(
            self.requests_per_second, self.recording_bytes, self.recording_seconds, self.jobs, self.live_sessions
        )
        return Caller(self.name, self.role, limits)


class _TokenTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: list[TokenEntry]


def entry_text(name: str, role: Role, sha256: str, limits: Mapping[str, float | None]) -> str:
    """Returns the text of an entry for the file. Raises ``InvalidRequest`` if a value is not valid."""
    values = {"name": name, "role": role.value, "sha256": sha256}
    set_limits = {limit: value for limit, value in limits.items() if value is not None}
    try:
        TokenEntry.model_validate(values | set_limits)
    except ValidationError as error:
        raise InvalidRequest(_problems(error)) from error
    lines = [f'{key} = "{value}"' for key, value in values.items()]
    return "\n".join(["[[token]]", *lines, *(f"{limit} = {value}" for limit, value in set_limits.items())]) + "\n"


class TokenFile:
    """The tokens of a file, which is read again when it changes.

    Raises ``PreconditionFailed`` (TOKENS_FILE) if it cannot be used at the start. If a changed file cannot be used,
    that is logged and the old tokens stay valid.
    """

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFiles([path], lambda: _read(path), what="tokens")

    def caller(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Returns the caller whose token is in ``metadata``. Raises ``Unauthenticated`` (NO_TOKEN, UNKNOWN_TOKEN)."""
        value = metadata.get(METADATA_KEY, "")
        if not isinstance(value, str) or not value.startswith(SCHEME):
            raise Unauthenticated(
                f"this service needs a token: send it as the metadata {METADATA_KEY}: {SCHEME}TOKEN",
                reason="NO_TOKEN",
            )
        digest = hash_token(value.removeprefix(SCHEME))
        # All hashes are compared, each in constant time, so that the duration reveals nothing about them.
        found = [entry for entry in self._watched.current() if hmac.compare_digest(entry.sha256, digest)]
        if not found:
            raise Unauthenticated("this service does not know the token", reason="UNKNOWN_TOKEN")
        return found[0].caller

    def caller_named(self, name: str) -> Caller:
        """Returns the caller with that name, to work on its behalf; without limits if it has no token any more."""
        return next((entry.caller for entry in self._watched.current() if entry.name == name), Caller(name, Role.USER))


def _read(path: Path) -> tuple[TokenEntry, ...]:
    try:
        entries = _TokenTable.model_validate(tomllib.loads(path.read_text())).token
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unusable(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise _unusable(f"{path} is not a valid file of tokens: {_problems(error)}") from error
    if len({entry.sha256 for entry in entries}) < len(entries):
        raise _unusable(f"{path} contains one token twice")
    return tuple(entries)


def _problems(error: ValidationError) -> str:
    # Without the values: somebody may have written a token in place of its hash.
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)


def _unusable(message: str) -> PreconditionFailed:
    return PreconditionFailed(message, reason="TOKENS_FILE")

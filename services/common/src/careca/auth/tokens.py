"""Bearer tokens, kept as hashes in a file that may be replaced at any time.

A token is 256 random bits, so that a plain SHA-256 tells nothing of it. The file is TOML:

    [[token]]
    name = "ana"             # in logs and lists of jobs; several may have one, as while one replaces the other
    role = "user"            # or "admin"
    sha256 = "9f86d081884c..."
    requests_per_second = 5  # optional, as are recording_bytes, recording_seconds and jobs
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
"""Where a call carries its token, after ``SCHEME``."""

SCHEME = "Bearer "

_PREFIX = "careca_"  # so that scanners for leaked secrets can know one
_BYTES = 32


def new_token() -> str:
    """A token that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> str:
    """What a file of tokens says of ``token``."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"a name has {RULE}")
    return name


class TokenEntry(BaseModel):
    """What the file says of one token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_checked_name)]
    role: Role
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    requests_per_second: float | None = Field(default=None, gt=0)
    recording_bytes: int | None = Field(default=None, gt=0)
    recording_seconds: float | None = Field(default=None, gt=0)
    jobs: int | None = Field(default=None, gt=0)

    @property
    def caller(self) -> Caller:
        """Who shows the token."""
        limits = CallerLimits(self.requests_per_second, self.recording_bytes, self.recording_seconds, self.jobs)
        return Caller(self.name, self.role, limits)


class _TokenTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: list[TokenEntry]


def entry_text(name: str, role: Role, sha256: str, limits: Mapping[str, float | None]) -> str:
    """What to add to a file of tokens. Raises ``InvalidRequest`` where it could not be used."""
    values = {"name": name, "role": role.value, "sha256": sha256}
    set_limits = {limit: value for limit, value in limits.items() if value is not None}
    try:
        TokenEntry.model_validate(values | set_limits)
    except ValidationError as error:
        raise InvalidRequest(_problems(error)) from error
    lines = [f'{key} = "{value}"' for key, value in values.items()]
    return "\n".join(["[[token]]", *lines, *(f"{limit} = {value}" for limit, value in set_limits.items())]) + "\n"


class TokenFile:
    """The tokens of a file, as it is now; what cannot be used is logged and changes nothing.

    Raises ``PreconditionFailed`` (TOKENS_FILE) where it cannot be used at the start.
    """

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFiles([path], lambda: _read(path), what="tokens")

    def caller(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Who shows a token. Raises ``Unauthenticated`` (NO_TOKEN, UNKNOWN_TOKEN)."""
        shown = metadata.get(METADATA_KEY, "")
        if not isinstance(shown, str) or not shown.startswith(SCHEME):
            raise Unauthenticated(
                f"this service wants to know who calls: send a token as the metadata {METADATA_KEY}: {SCHEME}TOKEN",
                reason="NO_TOKEN",
            )
        digest = hash_of(shown.removeprefix(SCHEME))
        # All are compared, each in the same time, so that how long it takes tells nothing of the hashes.
        found = [entry for entry in self._watched.current() if hmac.compare_digest(entry.sha256, digest)]
        if not found:
            raise Unauthenticated("this service does not know the token", reason="UNKNOWN_TOKEN")
        return found[0].caller

    def caller_of(self, name: str) -> Caller:
        """Who has that name, to work on its behalf; without limits where nobody has it any more."""
        return next((entry.caller for entry in self._watched.current() if entry.name == name), Caller(name, Role.USER))


def _read(path: Path) -> tuple[TokenEntry, ...]:
    try:
        entries = _TokenTable.model_validate(tomllib.loads(path.read_text())).token
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unusable(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        raise _unusable(f"{path} holds no tokens that can be used: {_problems(error)}") from error
    if len({entry.sha256 for entry in entries}) < len(entries):
        raise _unusable(f"{path} names one token twice")
    return tuple(entries)


def _problems(error: ValidationError) -> str:
    # The values stay out of it: one of them may be a token that somebody wrote where its hash belongs.
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)


def _unusable(message: str) -> PreconditionFailed:
    return PreconditionFailed(message, reason="TOKENS_FILE")

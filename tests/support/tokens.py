"""A file of tokens, as a gateway reads it, and the tokens themselves."""

from __future__ import annotations

from pathlib import Path

from careca.auth.caller import Role
from careca.auth.tokens import entry_text, hash_token, new_token


class Tokens:
    """A file of tokens, and the tokens of their owners."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.of: dict[str, str] = {}

    def add(self, name: str, role: Role = Role.USER, **limits: float) -> None:
        self.of[name] = new_token()
        entry = entry_text(name, role, hash_token(self.of[name]), limits)
        self.path.write_text(self.path.read_text() + entry)

"""Certificates and tokens that are replaced while services use them, as Kubernetes replaces mounted Secrets."""

from __future__ import annotations

import shutil
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import trustme

from careca.auth.caller import Role
from careca.auth.tokens import entry_text, hash_token, new_token
from support.certificates import issue

_VALID = timedelta(days=1)


class Certificates:
    """One authority, and a folder for each process with ``tls.pem``, ``tls.key`` and ``tls-ca.pem``.

    Each folder is a symbolic link that is replaced at once, as the kubelet does: nobody sees a certificate beside the
    key of another.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.issued = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._authority.cert_pem.write_to_path(str(self.authority))
        for name in names:
            self.issue(name)

    @property
    def authority(self) -> Path:
        """The file with the authority, for callers."""
        return self._folder / "ca.pem"

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the authority."""
        return ssl.create_default_context(cafile=str(self.authority))

    def folder(self, name: str) -> Path:
        """The folder of a process."""
        return self._folder / name

    def current(self, name: str) -> bytes:
        """The certificate of a process, as DER."""
        first, end, _ = (self.folder(name) / "tls.pem").read_text().partition(ssl.PEM_FOOTER)
        return ssl.PEM_cert_to_DER_cert(first + end)

    def issue(self, name: str) -> None:
        """Replaces the certificate and the key of a process."""
        self.issued += 1
        version = self._folder / f"..{name}-{self.issued}"
        issue(version, self._authority, "tls", ends_in=_VALID)
        link, new = self.folder(name), self._folder / f"..{name}-new"
        old = link.resolve() if link.is_symlink() else None
        new.symlink_to(version.name)
        new.replace(link)
        if old:
            shutil.rmtree(old)


class Tokens:
    """The file of tokens of all gateways, with one token for each caller, or two while one replaces the other."""

    def __init__(self, path: Path, callers: dict[str, Role]) -> None:
        self.path = path
        self._roles = callers
        self._valid: dict[str, str] = {}
        """The caller of each token in the file."""
        self._current = {name: new_token() for name in callers}
        self._used: Counter[str] = Counter()
        """How much work in progress uses each token."""
        self.add()

    @contextmanager
    def use(self, name: str) -> Iterator[str]:
        """The token of a caller, which stays valid until the context ends."""
        token = self._current[name]
        self._used[token] += 1
        try:
            yield token
        finally:
            self._used[token] -= 1

    def add(self) -> None:
        """Writes the current tokens to the file, beside those that are there."""
        self._valid |= {token: name for name, token in self._current.items()}
        self._write()

    def replace(self, name: str) -> None:
        """Gives the caller another token."""
        self._current[name] = new_token()
        self.add()

    def remove_unused(self) -> list[str]:
        """Removes old tokens that no work in progress uses. Returns them."""
        old = [token for token in self._valid if token not in self._current.values() and not self._used[token]]
        for token in old:
            del self._valid[token], self._used[token]
        self._write()
        return old

    def _write(self) -> None:
        entries = (entry_text(name, self._roles[name], hash_token(token), {}) for token, name in self._valid.items())
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(entries))
        new.replace(self.path)

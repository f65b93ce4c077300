"""Whether ``make soak`` notices what must not be."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from bench.soak.callers import Clip, WrongAnswerError
from bench.soak.disturbances import ALWAYS, DISK, GRACE_SECONDS, RESTART, Disturbances
from bench.soak.levels import Growth, growth_of
from bench.soak.logs import Logs
from bench.soak.secrets import Certificates, Tokens
from bench.soak.work import SHARES
from careca.auth.caller import Role
from careca.auth.tls import TlsFiles
from careca.auth.tokens import TokenFile
from careca.errors import Unauthenticated

HOUR = np.arange(0.0, 3600.0, 2.0)
CHANCE = np.random.default_rng(1)


def growth(what: str, values: np.ndarray) -> Growth:
    return growth_of("gateway-1", what, list(HOUR), list(values))


def noisy(level: float, spread: float) -> np.ndarray:
    """Work in progress comes and goes above a level."""
    return level + np.abs(CHANCE.normal(0.0, spread, len(HOUR)))


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("descriptors", noisy(60, 10) + HOUR / 100),
        ("RSS, MiB", noisy(90, 5) + HOUR / 150),
        ("keys", noisy(300, 50) + HOUR / 10),
        ("files", noisy(50, 10) + HOUR / 60),
        ("threads", noisy(30, 2) + HOUR / 400),
        ("children", np.floor(HOUR / 600)),
    ],
)
def test_what_grows_with_the_work_is_noticed(what: str, values: np.ndarray) -> None:
    assert not growth(what, values).flat


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("descriptors", noisy(60, 20)),
        ("RSS, MiB", noisy(90, 20)),
        ("RSS, MiB", noisy(90, 5) + 20 * (1 - np.exp(-HOUR / 300))),  # pools that fill
        ("keys", 300 + HOUR % 300),  # swept every five minutes
        ("files", np.full(len(HOUR), 12.0)),
        ("children", np.zeros(len(HOUR))),
    ],
)
def test_what_comes_and_goes_is_flat(what: str, values: np.ndarray) -> None:
    assert growth(what, values).flat


def disturbed(cause: str, begin: float, end: float) -> Disturbances:
    """Disturbances of which one happened between two moments."""
    made = Disturbances(None, random.Random(1), [])  # type: ignore[arg-type]
    made._spans[cause].append([begin, end])
    return made


def test_only_what_happened_meanwhile_explains_an_error() -> None:
    made = disturbed(RESTART, 100.0, 110.0)

    assert made.explain({RESTART}, 90.0, 101.0)
    assert made.explain({RESTART, DISK}, 109.0 + GRACE_SECONDS, 200.0)
    assert made.explain({ALWAYS}, 0.0, 1.0)
    assert not made.explain({RESTART}, 111.0 + GRACE_SECONDS, 200.0)
    assert not made.explain({RESTART}, 90.0, 99.0)
    assert not made.explain({DISK}, 100.0, 110.0)
    assert not made.explain(set(), 100.0, 110.0)


def line(**entry: object) -> str:
    return json.dumps(entry) + "\n"


def test_only_expected_events_may_be_logged(tmp_path: Path) -> None:
    now = time.monotonic()
    logs = Logs(tmp_path, disturbed(DISK, now - 1.0, now + 600.0))
    log = tmp_path / "gateway-1.log"
    log.write_text(
        line(event="call served", level="info")
        + line(event="the disk is full", level="error")
        + "I0000 00:00:1763872693.977088   16355 chttp2_transport.cc:1403] ipv4:127.0.0.1:43105: Got goaway\n"
        + '{"event": "a line that is not'
    )

    logs.read()

    assert logs.faults == []
    assert logs.expected == {("gateway-1", "the disk is full"): 1}
    with log.open("a") as file:
        file.write(' whole", "level": "error"}\n')
        file.write(line(event="Redis does not answer", level="warning"))  # no Redis was restarted
        file.write(line(event="call served", level="info", exception="Traceback"))
        file.write("Traceback (most recent call last):\n")
    logs.read()
    assert len(logs.faults) == 4


def test_other_words_are_noticed() -> None:
    Clip(b"", 2).check("word0\nword1")
    for text in ("", "word0", "word1 word0", "word0 word1 word2"):
        with pytest.raises(WrongAnswerError):
            Clip(b"", 2).check(text)


def test_certificates_are_replaced_at_once(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, ["gateway-1"])
    folder = certificates.folder("gateway-1")
    files = TlsFiles(certificate=folder / "tls.pem", key=folder / "tls.key", authority=folder / "tls-ca.pem")
    first = files.current()

    certificates.issue("gateway-1")

    assert files.current().certificate != first.certificate
    assert files.current().authority == first.authority
    assert len(list(tmp_path.glob("..gateway-1-*"))) == 1


def test_a_token_is_removed_when_nobody_uses_it_any_more(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.toml", {"ana": Role.USER})
    file = TokenFile(tokens.path)

    def known(token: str) -> bool:
        try:
            return file.caller({"authorization": f"Bearer {token}"}).name == "ana"
        except Unauthenticated:
            return False

    with tokens.use("ana") as old:
        tokens.replace("ana")
        assert tokens.remove_unused() == []
        assert known(old)
    with tokens.use("ana") as new:
        assert new != old
        assert tokens.remove_unused() == [old]
        assert known(new)
    assert not known(old)


def test_the_shares_of_all_kinds_of_work_are_a_hundred() -> None:
    assert sum(SHARES.values()) == 100

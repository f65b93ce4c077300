"""What the audit of packages makes of what it finds."""

from __future__ import annotations

import pytest

from bench import audit


def test_constraints_are_read_by_name_and_version() -> None:
    text = "# a comment\nPyYAML==6.0.3\ntorch==2.13.0 ; python_version > '3'\n\nno version\n"

    assert audit.read_constraints(text)["pyyaml"] == "6.0.3"
    assert "no-version" not in audit.read_constraints(text)


def test_what_is_installed_must_be_the_version_that_is_written_down() -> None:
    pinned = {"torch": "2.13.0", "grpcio": "1.0"}

    assert list(audit.unpinned({"torch": "2.13.0+cpu"}, pinned)) == []
    assert list(audit.unpinned({"grpcio": "1.1"}, pinned)) == ["grpcio 1.1 is installed, but 1.0 is written down"]
    assert list(audit.unpinned({"left-pad": "1"}, pinned)) == [
        "left-pad 1 is installed and has no version in constraints.txt"
    ]


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("LGPL-2.1-or-later", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0", False),
        ("AGPL-3.0-only", False),
        ("CC-BY-NC-4.0", False),
        ("", False),
    ],
)
def test_a_licence_must_be_known_and_bind_nobody(licence: str, fine: bool) -> None:
    assert audit.is_fine(licence) is fine


def test_an_index_without_advisories_is_not_taken_for_a_clean_one(capsys: pytest.CaptureFixture[str]) -> None:
    said = "No known vulnerabilities found\n" + "Dependency not found on PyPI and could not be audited\n" * 3

    assert audit.judged(said, 0, 3) is False
    assert "NOT looked for" in capsys.readouterr().out
    assert audit.judged(said, 0, 100) is False
    assert "3 packages" in capsys.readouterr().out
    assert audit.judged("ConnectionError: Max retries exceeded", 1, 3) is False
    assert "NOT looked for" in capsys.readouterr().out
    assert audit.judged("Found 1 known vulnerability in 1 package", 1, 3) is True

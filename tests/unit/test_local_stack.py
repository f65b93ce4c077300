"""Choosing ports for the parts of a local stack."""

import pytest

import local_stack
from local_stack import free_ports


def test_a_port_is_not_given_again_before_its_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_stack, "FREE_PORTS", local_stack.FREE_PORTS[:60])

    given = [port for _ in range(15) for port in free_ports(2)]

    assert len(set(given)) == 30

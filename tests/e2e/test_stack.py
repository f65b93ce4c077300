"""The one-machine stack says what is missing. That it starts whole and ends cleanly is checked by its fixture."""

import socket
from pathlib import Path

import pytest

from local_stack import LocalStack, Ports, StackError

pytestmark = pytest.mark.models


def test_missing_weights_are_named_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match=r"careca models pull") as failed,
        LocalStack(tmp_path / "root", environment={"CARECA_MODELS_DIR": str(tmp_path / "empty")}),
    ):
        pass

    assert "Traceback" not in str(failed.value)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    ports = Ports.free()

    with socket.create_server(("127.0.0.1", ports.gateway)):  # noqa: SIM117
        with pytest.raises(StackError, match=f"port {ports.gateway} is in use"), LocalStack(tmp_path, ports=ports):
            pass

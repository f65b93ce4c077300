"""Choosing ports for the parts of a local stack, and ending the parts."""

import subprocess
import sys
from pathlib import Path

import local_stack
from local_stack import LocalStack, Part, free_ports

FOLDER = Path(local_stack.__file__).parent


def test_a_port_is_not_given_again_before_its_server_listens() -> None:
    given = [port for _ in range(15) for port in free_ports(2)]

    assert len(set(given)) == 30


def test_no_two_processes_choose_from_the_same_ports() -> None:
    program = "from local_stack import FREE_PORTS, free_ports; print(*(p - FREE_PORTS[0] for p in free_ports(20)))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{program}; input()"],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    shares = []
    for process in processes:
        assert process.stdout
        shares.append({int(port) % local_stack._SHARES for port in process.stdout.readline().split()})
    shares.append({(port - local_stack.FREE_PORTS[0]) % local_stack._SHARES for port in free_ports(20)})
    for process in processes:
        process.communicate("\n")

    assert [len(share) for share in shares] == [1] * 4
    assert len(set.union(*shares)) == 4


class Sleepers(LocalStack):
    """Three parts that do nothing."""

    def parts(self) -> list[Part]:
        return [Part(name, 0, ["sleep", "600"], {}, is_service=False) for name in ("redis", "gateway", "web")]


def test_parts_end_in_reverse_order_also_after_one_was_started_again(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    stack = Sleepers(tmp_path)
    for part in stack.parts():
        stack.start_part(part)
    stack.end_part("redis")
    stack.start_part(stack.parts()[0])
    stack.exit_codes.clear()

    stack.stop()

    assert list(stack.exit_codes) == ["web", "gateway", "redis"]

"""Choosing ports for the parts of a local stack."""

import subprocess
import sys
from pathlib import Path

import local_stack
from local_stack import free_ports

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

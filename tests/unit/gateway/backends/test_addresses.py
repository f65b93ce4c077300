"""Parsing and resolving the targets of services."""

import pytest

from careca_gateway.backends.addresses import parse_target, resolve


@pytest.mark.parametrize("target", ["transcriber:50052", "dns:///transcriber:50052"])
def test_a_name_is_resolved_and_is_the_authority(target: str) -> None:
    parsed = parse_target(target)

    assert (parsed.name, parsed.port, parsed.authority) == ("transcriber", 50052, "transcriber:50052")
    assert parsed.fixed == {target}, "until the name was looked up, gRPC does"


def test_a_list_of_addresses_is_several_replicas() -> None:
    parsed = parse_target("ipv4:10.0.0.1:50052,10.0.0.2:50052")

    assert parsed.fixed == {"ipv4:10.0.0.1:50052", "ipv4:10.0.0.2:50052"}
    assert not parsed.name


@pytest.mark.parametrize(
    "target", ["127.0.0.1:50052", "[::1]:50052", "unix:///run/careca.sock", "dns://10.0.0.10/transcriber:50052", "odd"]
)
def test_any_other_target_is_passed_to_grpc(target: str) -> None:
    parsed = parse_target(target)

    assert parsed.fixed == {target}
    assert not parsed.name


async def test_localhost_can_be_resolved() -> None:
    assert "ipv4:127.0.0.1:50052" in await resolve("localhost", 50052)

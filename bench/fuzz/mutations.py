"""Bytes that were valid, damaged at random in the ways that find faults in parsers. The same chance gives the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]
"""Damages bytes in place; the last argument has others to take from."""

# Numbers at which counting goes wrong, as they stand in files, in both orders.
_EDGES = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 0x7F, 1 << (8 * size - 1), (1 << (8 * size)) - 1, (1 << (8 * size - 1)) - 1)
    for order in ("big", "little")
]

_HEAD_BYTES = 1024
"""Where the headers of most containers are: as much is damaged there as everywhere else together."""


def mutated(valid: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """``valid`` with one to eight kinds of damage done to it."""
    data = bytearray(valid)
    for mutation in chance.choices(_MUTATIONS, k=chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        if data:
            mutation(data, chance, others)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(min(len(data), _HEAD_BYTES) if chance.random() < 0.5 else len(data))


def _span(data: bytearray, chance: random.Random) -> slice:
    start = _place(data, chance)
    return slice(start, start + chance.choice((1, 2, 4, 8, 16, 64, 256, 1024, 8192)))


def _flip_bits(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _number in range(chance.choice((1, 1, 4, 16, 64))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    span = _span(data, chance)
    data[span] = chance.randbytes(len(data[span]))


def _write_edge(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    edge, start = chance.choice(_EDGES), _place(data, chance)
    data[start : start + len(edge)] = edge


def _cut(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[_span(data, chance)]


def _end_early(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[_place(data, chance) :]


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    span = _span(data, chance)
    data[span.start : span.start] = data[span] * chance.choice((1, 1, 2, 8, 64))


def _insert(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start = _place(data, chance)
    data[start:start] = chance.randbytes(chance.choice((1, 2, 4, 16, 256)))


def _blank(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    span = _span(data, chance)
    data[span] = bytes([chance.choice((0, 0xFF))]) * len(data[span])


def _swap(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    first, second = _span(data, chance), _span(data, chance)
    data[first], data[second] = data[second], data[first]


def _splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A part of another one, over a part or from there to the end."""
    other = bytearray(chance.choice(others))
    if not other:
        return
    span, part = _span(data, chance), _span(other, chance)
    if chance.random() < 0.5:
        data[span] = other[part]
    else:
        data[span.start :] = other[part.start :]


_MUTATIONS: Sequence[Mutation] = (
    _flip_bits,
    _flip_bits,
    _overwrite,
    _write_edge,
    _write_edge,
    _cut,
    _end_early,
    _repeat,
    _insert,
    _blank,
    _swap,
    _splice,
)

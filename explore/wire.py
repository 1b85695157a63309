"""Reads protobuf's wire format: the fields of a message by number, without its description.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | float | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The number and the value of each field, in order; a fixed64 as a float. ValueError for torn bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _value(message, at, tag & 7)
        yield tag >> 3, value


def part(message: bytes, number: int) -> bytes | None:
    """The last part with this number, a message or text; None if there is none."""
    found = [value for key, value in fields(message) if key == number and isinstance(value, bytes)]
    return found[-1] if found else None


def _value(message: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == _VARINT:
        return _varint(message, at)
    if kind == _BYTES:
        length, at = _varint(message, at)
    elif kind in (_FIXED64, _FIXED32):
        length = 8 if kind == _FIXED64 else 4
    else:
        raise ValueError(f"no wire type {kind}")
    if length > len(message) - at:
        raise ValueError("a field is longer than its message")
    taken = message[at : at + length]
    if kind == _FIXED64:
        return struct.unpack("<d", taken)[0], at + length
    return taken, at + length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number has no end")

"""Quantised coefficients to Huffman symbols and these to bytes: the scans of `jpeg_writer`.

T.81 (https://www.w3.org/Graphics/JPEG/itu-t81.pdf), annexes F.1, G.1 and K.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__: list[str] = []

_MAX_RUN: Final = 0x7FFF  # blocks in one end-of-band symbol
_MAX_CORRECTIONS: Final = 937  # bits that libjpeg's encoder collects for one end-of-band run

Table = tuple[str, int]  # ("dc" or "ac", number)
Codes = dict[int, str]


class Scan(NamedTuple):
    """One scan of a progressive file: components, first and last coefficient, bit positions Ah and Al."""

    components: tuple[int, ...]
    first: int
    last: int
    high: int
    low: int


class Symbol(NamedTuple):
    """A Huffman symbol of a table (None: bits alone), then plain bits."""

    table: Table | None
    value: int
    bits: str


def _signed(value: int) -> tuple[int, str]:
    """The size of a value and its bits: T.81, table F.1."""
    size = abs(value).bit_length()
    if not size:
        return 0, ""
    return size, format(value if value > 0 else value + (1 << size) - 1, f"0{size}b")


def dc_symbol(table: int, value: int, predicted: int) -> Symbol:
    """The difference of a DC value to its prediction."""
    return Symbol(("dc", table), *_signed(value - predicted))


def ac_symbols(table: int, block: Sequence[int]) -> list[Symbol]:
    """Coefficients 1 to 63 of a baseline block."""
    found, at, key = [], 0, ("ac", table)
    for k in range(1, 64):
        if not block[k]:
            continue
        while k - at > 16:
            found.append(Symbol(key, 0xF0, ""))
            at += 16
        size, bits = _signed(block[k])
        found.append(Symbol(key, (k - at - 1) << 4 | size, bits))
        at = k
    if at < 63:
        found.append(Symbol(key, 0, ""))
    return found


class Band:
    """The AC scan of one component; a run of ended bands reaches over blocks until `flush`."""

    def __init__(self, scan: Scan, table: int) -> None:
        self.scan, self.table = scan, ("ac", table)
        self.run, self.corrections = 0, ""

    def flush(self) -> list[Symbol]:
        """The end-of-band symbol of the blocks so far, with their correction bits."""
        if not self.run:
            return []
        symbol = (self.run.bit_length() - 1) << 4
        found = [Symbol(self.table, symbol, format(self.run, "b")[1:] + self.corrections)]
        self.run, self.corrections = 0, ""
        return found

    def block(self, block: Sequence[int]) -> list[Symbol]:
        """The symbols that this block completes."""
        levels = [abs(value) >> self.scan.low for value in block]
        return self._refine(block, levels) if self.scan.high else self._first(block, levels)

    def _end(self, corrections: str = "") -> list[Symbol]:
        self.run += 1
        self.corrections += corrections
        full = self.run == _MAX_RUN or len(self.corrections) > _MAX_CORRECTIONS
        return self.flush() if full else []

    def _first(self, block: Sequence[int], levels: Sequence[int]) -> list[Symbol]:
        found: list[Symbol] = []
        at = self.scan.first - 1
        for k in range(self.scan.first, self.scan.last + 1):
            if not levels[k]:
                continue
            found += self.flush()
            while k - at > 16:
                found.append(Symbol(self.table, 0xF0, ""))
                at += 16
            size, bits = _signed(levels[k] if block[k] > 0 else -levels[k])
            found.append(Symbol(self.table, (k - at - 1) << 4 | size, bits))
            at = k
        return found if at == self.scan.last else found + self._end()

    def _refine(self, block: Sequence[int], levels: Sequence[int]) -> list[Symbol]:
        found: list[Symbol] = []
        band = range(self.scan.first, self.scan.last + 1)
        last_new = max((k for k in band if levels[k] == 1), default=-1)
        zeros, corrections = 0, ""
        for k in band:
            if not levels[k]:
                zeros += 1
                continue
            while zeros > 15 and k <= last_new:
                found += [*self.flush(), Symbol(self.table, 0xF0, corrections)]
                zeros, corrections = zeros - 16, ""
            if levels[k] > 1:  # nonzero before this scan: one more bit of it
                corrections += str(levels[k] & 1)
                continue
            sign = "1" if block[k] > 0 else "0"
            found += [*self.flush(), Symbol(self.table, zeros << 4 | 1, sign + corrections)]
            zeros, corrections = 0, ""
        return found + self._end(corrections) if zeros or corrections else found


def code_lengths(symbols: Iterable[int]) -> dict[int, int]:
    """Optimal lengths of at most 16 bits: T.81, annex K.2, whose symbol 256 keeps the code of ones free."""
    rarity = Counter(symbols)
    rarity[256] = 0
    groups = [(count, [value]) for value, count in rarity.items()]
    depth = dict.fromkeys(rarity, 0)
    while len(groups) > 1:
        # The rarest two; the largest symbol first, so that 256 has one of the longest codes.
        groups.sort(key=lambda group: (group[0], -max(group[1])))
        (one, left), (two, right) = groups[:2]
        groups[:2] = [(one + two, left + right)]
        for value in left + right:
            depth[value] += 1
    counts = Counter(depth.values())
    for length in range(max(counts), 16, -1):
        while counts[length]:
            shorter = max(other for other in range(1, length - 1) if counts[other])
            for other, more in ((length, -2), (length - 1, 1), (shorter + 1, 2), (shorter, -1)):
                counts[other] += more
    order = sorted(depth, key=lambda value: (depth[value], value))
    lengths = sorted(Counter({length: count for length, count in counts.items() if count > 0}).elements())
    return {value: length for value, length in zip(order, lengths, strict=True) if value != 256}


def canonical(lengths: dict[int, int]) -> Codes:
    """The code of every symbol, as bits: shorter ones first."""
    codes: Codes = {}
    code = previous = 0
    for value, length in sorted(lengths.items(), key=lambda item: item[1]):
        code <<= length - previous
        codes[value] = format(code, f"0{length}b")
        code, previous = code + 1, length
    return codes


def packed(symbols: Iterable[Symbol], codes: dict[Table, Codes]) -> bytes:
    """The bits of symbols, filled up with ones, with a zero byte behind each 0xFF."""
    bits = "".join((codes[table][value] if table else "") + extra for table, value, extra in symbols)
    bits += "1" * (-len(bits) % 8)
    return int("0" + bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")

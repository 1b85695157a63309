"""The byte layout of FFCV's `.beton` file, version 2, and of our own section in it. All little-endian.

    header 24 | field descriptors F x 1041 | rows N | zeros | pages of samples | [own section] | allocations

Our section is in a place that FFCV ignores: between the last page and the allocation table, which FFCV finds
by its address and reads to the end of the file. Its address is stored in the 1,024 argument bytes of the
image field, which FFCV leaves zero and never reads. Source of the layout: ffcv 1.0.2, types.py, fields/*.py,
memory_allocator.py.
"""

from __future__ import annotations

from typing import Final

import numpy as np

VERSION: Final = 2
MIN_PAGE: Final = 1 << 21
DEFAULT_PAGE: Final = 1 << 23
MAX_PAGE: Final = 1 << 31  # the largest power of two that page_size (u32) holds
MAX_SIDE: Final = 65535  # width and height are u16
JPEG: Final = 0
RAW: Final = 1

HEADER: Final = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ]
)
DESCRIPTOR: Final = np.dtype([("type_id", "u1"), ("name", "u1", (16,)), ("arguments", "u1", (1024,))])
ALLOCATION: Final = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
IMAGE: Final = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
_POINTER_AND_SIZE = np.dtype([("ptr", "<u8"), ("size", "<u8")])

INT_KIND: Final = 1
RGB_KIND: Final = 2
# type id: (name, contents of a row). 255 is a user's own field, whose layout only its class knows.
FIELD_KINDS: Final = {
    0: ("Float", np.dtype("<f8")),
    INT_KIND: ("Int", np.dtype("<i8")),
    RGB_KIND: ("RGBImage", IMAGE),
    3: ("Bytes", _POINTER_AND_SIZE),
    4: ("NDArray", np.dtype("<u8")),
    5: ("JSON", _POINTER_AND_SIZE),
    6: ("TorchTensor", np.dtype("<u8")),
}

SIDE_MAGIC: Final = b"FASTPIPE"
# In the image field's arguments: the place of our section and its CRC-32.
SIDE: Final = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("crc", "<u4"),
        ("ptr", "<u8"),
        ("size", "<u8"),
        ("num_json", "<u8"),
        ("num_names", "<u8"),
    ]
)


def row_dtype(kinds: list[int]) -> np.dtype[np.void]:
    """The row of these field kinds with fields f0, f1, ...: C alignment, with packed structs aligned to 1."""
    fields = [(f"f{place}", FIELD_KINDS[kind][1]) for place, kind in enumerate(kinds)]
    return np.dtype(fields, align=True)

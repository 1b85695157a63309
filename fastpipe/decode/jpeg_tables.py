"""The tables that nearly every JPEG has: T.81, annex K, as bytes of a file."""

from __future__ import annotations

from typing import Final

__all__: list[str] = []


def _diagonal(sum_: int) -> list[int]:
    """Places of a block whose row and column have this sum, in the direction of the zigzag."""
    places = [8 * row + sum_ - row for row in range(max(0, sum_ - 7), min(sum_, 7) + 1)]
    return places if sum_ % 2 else places[::-1]


# By position in a file, the place in a block of eight rows.
ZIGZAG: Final = tuple(place for sum_ in range(15) for place in _diagonal(sum_))

_LUMINANCE: Final = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740485c4e404457453738506d5157"
    "5f626768673e4d71797064785c656763"
)
_CHROMINANCE: Final = bytes.fromhex(
    "1112121815182f1a1a2f6342384263636363636363636363636363636363636363636363636363636363636363636363"
    "63636363636363636363636363636363"
)

# Numbers of codes of 1 to 16 bits, then their symbols, by table and number.
STANDARD: Final = {
    ("dc", 0): bytes.fromhex("00010501010101010100000000000000000102030405060708090a0b"),
    ("ac", 0): bytes.fromhex(
        "0002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c1"
        "1552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a53545556575859"
        "5a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2"
        "b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8"
        "f9fa"
    ),
    ("dc", 1): bytes.fromhex("00030101010101010101010000000000000102030405060708090a0b"),
    ("ac", 1): bytes.fromhex(
        "00020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109"
        "233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758"
        "595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9"
        "aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8"
        "f9fa"
    ),
}


def quantisation(quality: int) -> tuple[bytes, bytes]:
    """The tables of luminance and chrominance at a quality from 1 to 100, as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luminance, chrominance = (
        bytes(min(255, max(1, (level * scale + 50) // 100)) for level in table)
        for table in (_LUMINANCE, _CHROMINANCE)
    )
    return luminance, chrominance

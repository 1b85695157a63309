"""Writes the files that fuzzing starts from, and the words that it may insert: `corpus.py FOLDER`."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fastpipe.decode.jpeg_entropy import Scan
from fastpipe.decode.jpeg_writer import ADOBE_RGB, JFIF, Layout, Pixels, simple_scans, write

FACTORS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2))
SPECTRAL = (
    *(Scan((c,), 0, 0, 0, 0) for c in range(3)),
    *(Scan((c,), first, last, 0, 0) for c in range(3) for first, last in ((1, 9), (10, 63))),
)
WORDS = [bytes([0xFF, code]) for code in (*range(0xC0, 0xE3), 0xEE, 0xFE, 0x00, 0x01)]
WORDS += [b"JFIF\0", b"Adobe\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0", b"8BIM"]


def picture(rng: np.random.Generator) -> Pixels:
    height, width = rng.integers(1, 41, 2)
    levels = rng.integers(0, 256, (-(-height // 6), -(-width // 6), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC))


def files(rng: np.random.Generator) -> Iterator[bytes]:
    """Every sampling with every process, with and without restarts; then the odd ones."""
    for factors, scans, restart in itertools.product(FACTORS, (None, simple_scans(3)), (0, 2)):
        layout = Layout(sampling=(factors, (1, 1), (1, 1)), quality=60, restart=restart, scans=scans or ())
        yield write(picture(rng), layout)
    for scans, restart in itertools.product(((), simple_scans(1)), (0, 3)):
        yield write(picture(rng), Layout(sampling=((2, 2),), restart=restart, scans=scans))
    yield write(picture(rng), Layout(scans=SPECTRAL))
    yield write(picture(rng), Layout(scans=simple_scans(3)[:7]))
    yield write(picture(rng), Layout(head=ADOBE_RGB, ycc=False))
    yield write(picture(rng), Layout(head=b"", ids=(82, 71, 66), ycc=False))
    yield write(
        picture(rng), Layout(head=JFIF + b"\xff\xfe\x00\x05abc\xff\xff\xff\xe2\x00\x04ab", optimised=True)
    )
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            stream = io.BytesIO()
            image = Image.fromarray(picture(rng)).convert(mode)
            image.save(stream, "JPEG", progressive=progressive, exif=b"Exif\0\0MM", comment=b"comment")
            yield stream.getvalue()


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(files(rng)):
        for mode in range(12):
            choice = bytes([mode, *rng.integers(0, 256, 7).tolist()])
            (corpus / f"{number}-{mode}").write_bytes(choice + data)
    words = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS)
    (folder / "words").write_text("".join(words), encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

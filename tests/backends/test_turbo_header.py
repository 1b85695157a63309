"""Segments of a JPEG that Pillow parses and libjpeg does not: equal pixels, or its error or warning."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fastpipe import DataLoader, FolderDataset

pytestmark = pytest.mark.turbo_built
turbo = pytest.importorskip("fastpipe._turbo", reason="turbo_built: fastpipe._turbo was not built")

TRAIN = transforms.Compose([transforms.RandomResizedCrop(24), transforms.ToTensor()])


def photo() -> Image.Image:
    y, x = np.mgrid[0:48, 0:64]
    waves = np.stack([np.sin(x / (5 + c) + y / 7) * 90 + 128 for c in range(3)], axis=-1)
    return Image.fromarray(waves.astype(np.uint8))


def encoded(**options: Any) -> bytes:
    stream = io.BytesIO()
    photo().save(stream, "JPEG", quality=85, **options)
    return stream.getvalue()


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """The JPEG with these segments (marker, payload) behind its first marker, and without a JFIF segment."""
    data = encoded()
    assert data[2:4] == b"\xff\xe0"
    rest = data[4 + int.from_bytes(data[4:6], "big") :]
    new = [bytes((0xFF, marker)) + (len(part) + 2).to_bytes(2, "big") + part for marker, part in segments]
    return data[:2] + b"".join(new) + rest


def exif() -> bytes:
    """A sound EXIF segment with a rotation and a density, as cameras write it."""
    made = Image.Exif()
    made[0x0112], made[0x011A], made[0x0128] = 6, 300.0, 2
    return made.tobytes()


def photoshop(code: int, data: bytes, size: int | None = None, name: bytes = b"\0") -> bytes:
    head = b"8BIM" + code.to_bytes(2, "big") + name
    head += b"\0" * (len(head) % 2)
    return b"Photoshop 3.0\0" + head + (len(data) if size is None else size).to_bytes(4, "big") + data


JFIF = b"JFIF\0\1\1\1\0\x48\0\x48\0\0"
# Segments, and whether the native parser says by itself that Pillow opens the file without a warning.
HEADERS: dict[str, tuple[tuple[tuple[int, bytes], ...], bool]] = {
    "none": ((), True),
    "jfif": (((0xE0, JFIF),), True),
    "short jfif": (((0xE0, b"JFIF\0\1"),), False),
    "jfif without a density": (((0xE0, JFIF[:8]),), True),
    "an unknown app0": (((0xE0, b"JFXX\0\1"),), True),
    "exif": (((0xE1, exif()),), False),
    "exif and density": (((0xE0, JFIF), (0xE1, exif())), True),
    "exif without a header": (((0xE1, b"Exif\0\0"),), False),
    "exif of garbage": (((0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 40),), False),
    "exif cut off": (((0xE1, exif()[:-9]),), False),
    "two exif": (((0xE1, exif()), (0xE1, exif())), False),
    "xmp": (((0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),), True),
    "icc": (((0xE2, b"ICC_PROFILE\0\1\1" + bytes(200)),), True),
    "short icc": (((0xE2, b"ICC_PROFILE\0\1"),), False),
    "icc of a wrong count": (((0xE2, b"ICC_PROFILE\0\1\7" + bytes(20)),), True),
    "mpf": (((0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0"),), False),
    "mpf of garbage": (((0xE2, b"MPF\0" + bytes(9)),), False),
    "photoshop": (((0xED, photoshop(0x0404, b"caption")),), True),
    "photoshop density": (((0xED, photoshop(0x03ED, bytes(16))),), True),
    "photoshop short density": (((0xED, photoshop(0x03ED, b"\0")),), True),
    "photoshop cut off before a name": (((0xED, b"Photoshop 3.0\x008BIM\4\4"),), False),
    "photoshop cut off before a size": (((0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0"),), True),
    "photoshop of a huge size": (((0xED, photoshop(0x0404, b"x", size=0xFFFFFFFF)),), True),
    "photoshop of a long name": (((0xED, photoshop(0x0404, b"x", name=b"\xff")),), True),
    "adobe": (((0xEE, b"Adobe\0\x64\0\0\0\0\1"),), True),
    "short adobe": (((0xEE, b"Adobe\0"),), False),
    "comment": (((0xFE, b"of no meaning"),), True),
    "empty segments": (((0xE5, b""), (0xFE, b""), (0xEC, b"Ducky")), True),
}


def said_by_pillow(data: bytes) -> str:
    """What `Image.open` says in an error or a warning; "" for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            Image.open(io.BytesIO(data))
        except Exception as error:
            return repr(error)
    return ""


@pytest.mark.parametrize("name", HEADERS)
def test_the_native_parser_knows_what_pillow_opens(name: str) -> None:
    segments, plain = HEADERS[name]
    data = with_segments(*segments)
    assert turbo.pillow_opens(data) is plain
    if plain:
        assert said_by_pillow(data) == ""


def test_the_cases_contain_errors_and_warnings_of_pillow() -> None:
    said = {name: said_by_pillow(with_segments(*segments)) for name, (segments, _) in HEADERS.items()}
    for name in ("short jfif", "short icc", "short adobe", "photoshop cut off before a name"):
        assert "UnidentifiedImageError" in said[name], name
    assert any("Warning" in text for text in said.values()), said


def damaged() -> Iterator[bytes]:
    """Thousands of headers with bytes changed, cut out or doubled."""
    random_ = random.Random(5)
    for number in range(4000):
        names = random_.sample(list(HEADERS), 2)
        data = bytearray(with_segments(*HEADERS[names[0]][0], *HEADERS[names[1]][0]))
        scan = data.index(b"\xff\xda")
        for _ in range(number % 4):
            at = random_.randrange(2, scan)
            kind = random_.randrange(4)
            if kind < 2:
                data[at] = random_.randrange(256)
            elif kind == 2:
                del data[at : at + random_.randrange(1, 5)]
            else:
                data[at:at] = data[at : at + random_.randrange(1, 5)]
        yield bytes(data)


def test_whatever_the_damage_a_plain_header_is_opened_by_pillow_without_a_word() -> None:
    num_plain = num_refused = 0
    for data in damaged():
        plain, said = turbo.pillow_opens(data), said_by_pillow(data)
        frame_fault = "layer" in said or "identify" in said  # of the frame: the decoder's to check
        status, _ = turbo.decode(data)
        if plain and turbo.STATUSES[status] == "done":
            num_plain += 1
            assert said == "", data[:300]
        num_refused += bool(said) or frame_fault
    assert num_plain > 500 and num_refused > 500


@pytest.mark.parametrize("action", ["default", "error"])
def test_batches_errors_and_warnings_are_those_of_torchvision(
    tmp_path: Path, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every warning an error, a file that Pillow warns about raises it here too."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data/a").mkdir(parents=True)
    for number, (segments, _) in enumerate(HEADERS.values()):
        (tmp_path / f"data/a/{number:02}.jpg").write_bytes(with_segments(*segments))
    dataset = FolderDataset(tmp_path / "data", TRAIN)
    found: dict[str, list[Any]] = {}
    num_handed = 0
    for backend in ("torchvision", "turbo"):
        loader: Any = DataLoader(dataset, 1, seed=3, backend=backend, device="cpu")
        with warnings.catch_warnings(record=action == "default"):
            warnings.simplefilter("always" if action == "default" else "error")
            iterator = iter(loader)
            outcomes = []
            for _ in range(len(dataset)):
                try:
                    outcomes.append(next(iterator)[0])
                except Exception as error:
                    outcomes.append(f"{type(error).__name__}: {error}")
        found[backend] = outcomes
        num_handed = sum(loader.stats().to_pillow.values())
    for name, ours, theirs in zip(HEADERS, found["turbo"], found["torchvision"], strict=True):
        assert type(ours) is type(theirs), name
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, name
    errors = sum(isinstance(one, str) for one in found["turbo"])
    assert 4 <= errors < 12
    assert num_handed == 0, "sound metadata costs a look at the header, not Pillow's decoder"

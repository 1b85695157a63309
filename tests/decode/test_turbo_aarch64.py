"""The NEON code under qemu-user: the bytes of the scalar code, of x86-64's vectors, and of Pillow."""

from __future__ import annotations

import io
import itertools
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastpipe.decode.jpeg_writer import Layout, Pixels, simple_scans, write

ROOT = Path(__file__).parents[2]
KERNELS = ("idct", "lines", "pairs", "colours", "horizontal", "vertical", "pack")
FACTORS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1))


def picture(seed: int, height: int, width: int) -> Pixels:
    """Noise, soft colours, or levels at both ends of the range, which every clamp must meet."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grid = rng.integers(0, 256, (height // 7 + 2, width // 7 + 2, 3), dtype=np.uint8)
    if seed % 3 == 1:
        grid = np.where(grid < 128, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def files() -> dict[str, bytes]:
    """Every sampling, baseline and progressive, with sides that end within blocks; grey; one cut off."""
    made = {}
    sides = ((1, 1), (9, 17), (31, 33), (64, 48), (101, 131))
    for n, (factors, (height, width)) in enumerate(itertools.product(FACTORS, sides)):
        layout = Layout(sampling=(factors, (1, 1), (1, 1)), quality=(100, 90, 30)[n % 3], restart=n % 4)
        made[f"{n:02}.jpg"] = write(picture(n, height, width), layout)
    for n, factors in enumerate(FACTORS):
        layout = Layout(sampling=(factors, (1, 1), (1, 1)), scans=simple_scans(3), optimised=True)
        made[f"progressive{n}.jpg"] = write(picture(n, 59, 74), layout)
    stream = io.BytesIO()
    Image.fromarray(picture(1, 45, 61)).convert("L").save(stream, "JPEG", quality=95)
    made["grey.jpg"] = stream.getvalue()
    made["cut.jpg"] = made["24.jpg"][:-300]
    return made


def checksum(image: Image.Image) -> str:
    return f"{zlib.crc32(image.tobytes()):08x}"


@pytest.mark.slow
@pytest.mark.debian
@pytest.mark.timeout(1800)
def test_neon(tmp_path: Path) -> None:
    """scripts/neon fails where NEON, scalar code, or the code of this machine differ."""
    made = files()
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [ROOT / "scripts" / "neon", *(tmp_path / name for name in made)], capture_output=True, text=True
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert "simd neon" in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [*KERNELS, *made]
    for name, status, whole, half, *_ in lines[len(KERNELS) :]:
        if name == "cut.jpg":
            assert status != "done"
            continue
        assert status == "done", name
        with Image.open(io.BytesIO(made[name])) as image:
            rgb = image.convert("RGB")
        assert whole == checksum(rgb), name
        assert half == checksum(
            rgb.resize((-(-rgb.width // 2), -(-rgb.height // 2)), Image.Resampling.BILINEAR)
        ), name

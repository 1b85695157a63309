"""The door to FFCV's library: what it finds, what it refuses, and that it stays inside its buffers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastpipe.backends.ffcv import native as ffcv_native
from fastpipe.backends.ffcv.native import Scratch, availability, jpeg_frame, open_native
from fastpipe.decode import Box
from fastpipe.errors import BackendError, MissingExtraError


def encoded(height: int, width: int, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(9000)}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_frame_header_is_found(mode: str, options: dict[str, Any]) -> None:
    data = encoded(33, 70, mode, **options)
    assert jpeg_frame(data) == (33, 70) == jpeg_frame(memoryview(data))


def test_what_has_no_frame_header_gives_none() -> None:
    data = encoded(33, 70)
    place = data.index(b"\xff\xc0")
    assert jpeg_frame(data[: place + 8]) is None
    for other in (b"", b"\xff", b"\xff\xd8", b"\x89PNG" + data, bytes(100), b"\xff\xd8" + bytes(100)):
        assert jpeg_frame(other) is None


def test_no_mutation_of_a_header_breaks_the_parser() -> None:
    rng = np.random.default_rng(1)
    header = np.frombuffer(encoded(33, 70)[:700], np.uint8)
    for _ in range(3000):
        mutated = header[: rng.integers(2, 700)].copy()
        mutated[rng.integers(0, len(mutated), 5)] = rng.choice([0, 1, 2, 0xC0, 0xD9, 0xDA, 0xFF], 5)
        found = jpeg_frame(mutated.data)
        assert found is None or max(found) <= 65535


@pytest.mark.ffcv
def test_decode_never_writes_past_the_size_it_was_given() -> None:
    """A JPEG whose header differs from the table: FFCV's own reader has no check at all."""
    rng = np.random.default_rng(2)
    native = open_native()
    for data in (encoded(64, 48), encoded(65, 47, progressive=True), encoded(64, 48, "L"), encoded(1, 1)):
        source = np.frombuffer(data, np.uint8)
        sizes = [(64, 48), (63, 48), (64, 47), (1, 1), (7, 6), (128, 96), (200, 10), (10, 200)]
        for height, width in [*sizes, *rng.integers(1, 140, (40, 2)).tolist()]:
            room = np.full(height * width * 3 + 4096, 0xA5, np.uint8)
            native.decode(source.ctypes.data, len(source), room.ctypes.data, (height, width))
            assert (room[height * width * 3 :] == 0xA5).all(), (len(data), height, width)


@pytest.mark.ffcv
@pytest.mark.parametrize(
    ("damage", "decodes"),
    [
        (lambda data: data, True),
        (lambda data: data[: len(data) // 2], False),
        (lambda data: data[:-2], False),
        (lambda data: data[:200] + bytes(len(data) - 200), False),
        (lambda data: b"no image at all", False),
        (lambda data: encoded(40, 30, "CMYK"), False),
    ],
    ids=["sound", "half", "no end marker", "zeros", "garbage", "CMYK"],
)
def test_the_return_code_tells_a_damaged_file(damage: Any, decodes: bool) -> None:
    source = np.frombuffer(damage(encoded(40, 30)), np.uint8)
    room = np.empty((40, 30, 3), np.uint8)
    assert open_native().decode(source.ctypes.data, len(source), room.ctypes.data, (40, 30)) is decodes


@pytest.mark.ffcv
@pytest.mark.parametrize(
    "box", [Box(0, 0, 0, 5), Box(-1, 0, 5, 5), Box(0, 0, 11, 5), Box(0, 6, 5, 5), Box(3, 3, 5, 0)]
)
def test_a_box_outside_the_image_is_refused(box: Box) -> None:
    """In C it would be a cv::Exception through ctypes: the end of the process."""
    image, target = np.zeros((10, 10, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="cannot be resized"):
        open_native().resize(image.ctypes.data, (10, 10), box, target.ctypes.data, (4, 4))


def test_scratch_grows_and_is_not_made_anew() -> None:
    scratch = Scratch()
    large = scratch.image((20, 30))
    assert large.shape == (20, 30, 3) and large.flags.c_contiguous
    assert scratch.image((5, 5)).ctypes.data == large.ctypes.data
    assert scratch.image((40, 30)).shape == (40, 30, 3)


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The door as in a process that has not gone through it."""
    open_native.cache_clear()
    yield monkeypatch
    open_native.cache_clear()


def test_without_ffcv_the_commands_are_named(unopened: pytest.MonkeyPatch) -> None:
    unopened.setattr(ffcv_native.importlib.util, "find_spec", lambda name: None)
    found = availability()
    assert not found.ok and "'ffcv' is not installed" in found.reason
    for part in ("apt-get install libopencv-dev", "pip install", "opencv-python"):
        assert part in found.remedy
    with pytest.raises(MissingExtraError, match="pip install --no-build-isolation ffcv"):
        open_native()


def test_a_library_that_does_not_load_is_a_reason_not_an_error(
    unopened: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)], origin="ffcv/__init__.py")
    unopened.setattr(ffcv_native.importlib.util, "find_spec", lambda name: spec)
    assert "no compiled library" in availability().reason
    suffix = ffcv_native.importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"_libffcv{suffix}").write_bytes(b"\x7fELF, but not really")
    found = availability()
    assert not found.ok and "cannot be loaded" in found.reason
    assert "libopencv-dev" in found.reason + found.remedy
    with pytest.raises(BackendError, match="built against"):
        open_native()


def test_the_probe_survives_anything(unopened: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ValueError("ffcv.__spec__ is None")

    unopened.setattr(ffcv_native.importlib.util, "find_spec", broken)
    assert availability().reason == "ffcv.__spec__ is None"


@pytest.mark.ffcv
def test_nothing_global_changes(mixed: Path) -> None:
    """FFCV's loader sets the threads of torch and numba; its package imports cv2. Ours does neither."""
    script = f"""
import os, sys, torch, numba
from torchvision import transforms
import fastpipe
before = torch.get_num_threads(), numba.get_num_threads(), dict(os.environ)
pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
loader = fastpipe.DataLoader({str(mixed)!r}, 6, transform=pipeline, num_workers=1, backend="ffcv")
assert sum(len(images) for images, _ in loader) == 20
assert before == (torch.get_num_threads(), numba.get_num_threads(), dict(os.environ))
assert not {{"ffcv", "cv2"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

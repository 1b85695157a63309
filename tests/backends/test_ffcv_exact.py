"""numerics="exact" of the ffcv backend: Pillow's pixels to the bit, for every kind of JPEG there is."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from torchvision import transforms

from fastpipe import BackendError, DataLoader
from fastpipe.backends.ffcv import backend as ffcv
from fastpipe.backends.ffcv import turbojpeg as ffcv_turbo
from fastpipe.backends.ffcv.backend import FfcvBackend
from fastpipe.backends.ffcv.exact import has_pillows_pixels
from fastpipe.backends.ffcv.native import open_native
from fastpipe.backends.ffcv.sample import Sample
from fastpipe.backends.ffcv.turbojpeg import TurboDecoder, exact_fault, open_turbo
from fastpipe.storage import BetonDataset, Leaf
from fastpipe.storage.beton.writer import write_beton
from fastpipe.transforms import RandomResizedCrop
from fastpipe.types import Plan

pytestmark = pytest.mark.ffcv

Pixels = npt.NDArray[np.uint8]
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "grey": 3, "4:4:0": 4, "4:1:1": 5}  # TJSAMP of turbojpeg.h
BICUBIC = transforms.InterpolationMode.BICUBIC
PIPELINES: dict[str, Sequence[Any]] = {
    "crop": (transforms.RandomResizedCrop(32),),
    "bicubic crop": (transforms.RandomResizedCrop((24, 40), interpolation=BICUBIC),),
    "inside": (transforms.Resize(48), transforms.CenterCrop(40)),
    "outside": (transforms.Resize(36), transforms.CenterCrop(40)),
    "pair": (transforms.Resize((30, 50)),),
    "padded": (transforms.Resize((40, 50)), transforms.RandomCrop(44, padding=4)),
}


def noisy(seed: int, height: int, width: int) -> Pixels:
    """Edges and noise, so that every rounding of IDCT and upsampling shows."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 5 + 1, width // 7 + 1, 3)).repeat(5, 0).repeat(7, 1)
    values = blocks[:height, :width] + rng.normal(0, 12, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def compress(pixels: Pixels, sampling: str, quality: int, *, progressive: bool = False) -> bytes:
    """By libjpeg-turbo itself: Pillow's writer knows three samplings, not 4:4:0 and 4:1:1."""
    library = open_native().library
    create, work = library.tjInitCompress, library.tjCompress2
    create.restype = ctypes.c_void_p
    work.argtypes = [*[ctypes.c_void_p] * 2, *[ctypes.c_int] * 4, *[ctypes.c_void_p] * 2, *[ctypes.c_int] * 3]
    handle, height, width = create(), *pixels.shape[:2]
    room, size = np.empty(height * width * 12 + 4096, np.uint8), ctypes.c_ulong(height * width * 12 + 4096)
    at, flags = ctypes.c_void_p(room.ctypes.data), 1024 | (16384 if progressive else 0)  # NOREALLOC
    sizes = (width, width * 3, height, 0)
    code = work(
        handle,
        pixels.ctypes.data,
        *sizes,
        ctypes.byref(at),
        ctypes.byref(size),
        SAMPLINGS[sampling],
        quality,
        flags,
    )
    library.tjDestroy(ctypes.c_void_p(handle))
    assert code == 0
    return room[: size.value].tobytes()


def decoded(data: bytes, size: tuple[int, int]) -> tuple[str | None, Pixels]:
    """By libjpeg-turbo; bytes that it did not write are 0xA5."""
    found = np.full((*size, 3), 0xA5, np.uint8)
    return TurboDecoder(open_turbo()).decode(np.frombuffer(data, np.uint8), found), found


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def loaded(path: Path, *steps: Any, **options: Any) -> tuple[Pixels, list[int]]:
    """All images of an epoch, uint8 [N,H,W,3], and their labels."""
    pipeline = transforms.Compose([*steps, transforms.ToTensor()])
    given = {"batch_size": 8, "seed": 5, "engine": "none", "backend": "ffcv", "numerics": "exact", **options}
    batches = list(DataLoader(BetonDataset(path, pipeline), **given))
    labels = [label for batch in batches for label in batch[1].tolist()]
    return np.concatenate([batch[0].numpy() for batch in batches]), labels


def same(path: Path, steps: Sequence[Any], **options: Any) -> bool:
    found, labels = loaded(path, *steps, **options)
    expected, numbers = loaded(path, *steps, **{**options, "backend": "torchvision", "num_workers": 0})
    return labels == numbers and np.array_equal(found, expected)


# ---- the decoder


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_has_pillows_pixels(sampling: str, progressive: bool) -> None:
    """Odd sizes, all qualities; complete progressive files too, though the backend leaves them to Pillow."""
    rng = np.random.default_rng(1)
    for seed in range(40):
        size = (int(rng.integers(1, 80)), int(rng.integers(1, 80)))
        quality = int(rng.integers(1, 101))
        data = compress(noisy(seed, *size), sampling, quality, progressive=progressive)
        fault, found = decoded(data, size)
        assert fault is None and np.array_equal(found, by_pillow(data)), (size, quality)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_rgb": True},
        {"restart_marker_blocks": 3},
        {"optimize": True},
        {"exif": b"Exif\0\0" + bytes(9000)},
    ],
    ids=["RGB components", "restart markers", "optimised", "EXIF"],
)
def test_other_kinds_have_pillows_pixels(kit: Any, options: dict[str, Any]) -> None:
    for seed in range(10):
        data = kit.jpeg(noisy(seed, 30 + seed, 61 - seed), **options)
        fault, found = decoded(data, (30 + seed, 61 - seed))
        assert fault is None and np.array_equal(found, by_pillow(data))


def test_what_decodes_without_a_fault_is_whole_and_pillows(kit: Any) -> None:
    """Bytes of the pixels changed and cut out: a fault, or the very pixels of Pillow, never stale ones."""
    rng = np.random.default_rng(2)
    clean = 0
    for number in range(600):
        data = bytearray(kit.jpeg(noisy(number % 7, 48, 40), quality=80))
        first = data.index(b"\xff\xda") + 12
        for _ in range(int(rng.integers(1, 3))):
            data[int(rng.integers(first, len(data) - 2))] = int(rng.integers(0, 256))
        if number % 5 == 0:
            start = int(rng.integers(first, len(data) - 20))
            del data[start : start + int(rng.integers(1, 9))]
        fault, found = decoded(bytes(data), (48, 40))
        if fault is None:
            clean += 1
            assert np.array_equal(found, by_pillow(bytes(data))), number
    assert 50 < clean < 600


def test_nothing_is_written_past_the_target() -> None:
    """Also where header and target differ, which `has_pillows_pixels` would see."""
    decoder, rng = TurboDecoder(open_turbo()), np.random.default_rng(3)
    files = [compress(noisy(0, 64, 48), sampling, 90) for sampling in ("4:4:4", "4:2:0", "grey")]
    for data in files:
        source = np.frombuffer(data, np.uint8)
        for height, width in [(64, 48), (63, 48), (64, 47), (1, 1), *rng.integers(1, 140, (40, 2)).tolist()]:
            room = np.full(height * width * 3 + 4096, 0xA5, np.uint8)
            decoder.decode(source, room[: height * width * 3].reshape(height, width, 3))
            assert (room[height * width * 3 :] == 0xA5).all(), (height, width)


def test_a_changed_header_never_shows_stale_pixels(kit: Any) -> None:
    """Of mutated headers, those that pass the look at the header and decode give all of Pillow's pixels."""
    rng = np.random.default_rng(4)
    good = compress(noisy(1, 33, 47), "4:2:0", 90)
    first, passed = good.index(b"\xff\xda"), 0
    for _ in range(1500):
        data = bytearray(good)
        data[int(rng.integers(2, first + 12))] = int(rng.choice([0, 1, 2, 3, 0x11, 0x22, 0xC0, 0xC2, 0xFF]))
        leaf = OneJpeg(bytes(data), (33, 47))
        if not has_pillows_pixels(Sample(leaf=leaf, index=0, spec=None, draws=())):
            continue
        fault, found = decoded(bytes(data), (33, 47))
        if fault is None:
            passed += 1
            assert np.array_equal(found, by_pillow(bytes(data)))
    assert passed > 100


class OneJpeg(Leaf):
    """One JPEG of the size that a table would give it."""

    def __init__(self, data: bytes, size: tuple[int, int]) -> None:
        super().__init__([data])
        self.told = size

    def key(self, i: int) -> str:
        return f"memory#{i}"

    def label(self, i: int) -> int:
        return 0

    def size(self, i: int) -> tuple[int, int]:
        return self.told

    def encoded(self, i: int) -> bytes:
        return bytes(self.dataset[i])


# ---- the backend


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_is_torchvisions(mixed: Path, name: str, workers: int) -> None:
    order = [0, 5, 5, 9, 19, 5, 1, 2, 3, 7, 12, 18]  # raw, grey, progressive and 4:4:4 among them
    assert same(mixed, PIPELINES[name], sampler=order, num_workers=workers)


def test_whole_images_are_torchvisions(kit: Any) -> None:
    path = kit.write([kit.as_jpeg(noisy(i, 40, 56), i, subsampling=i % 3) for i in range(6)])
    assert same(path, ())


def of_every_kind(kit: Any) -> Path:
    """JPEGs of every sampling, an incomplete progressive one, CMYK, one with stray bytes, a raw image."""
    pixels = noisy(1, 50, 70)
    payloads = [compress(pixels, sampling, 85) for sampling in SAMPLINGS]
    payloads += [*incomplete(pixels), kit.jpeg(pixels, "CMYK"), *stray(kit.jpeg(pixels))]
    entries = [kit.entry(payload=payload, size=(50, 70), label=i) for i, payload in enumerate(payloads)]
    path: Path = kit.write([*entries, kit.as_raw(pixels, len(entries))])
    return path


def incomplete(pixels: Pixels) -> Iterator[bytes]:
    """Progressive files whose last scans are missing, with an end marker: whole files to every decoder."""
    data = compress(pixels, "4:2:0", 85, progressive=True)
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    for scan in scans[1:]:
        yield data[: data.rfind(b"\xff\xc4", 0, scan)] + b"\xff\xd9"


def stray(data: bytes) -> Iterator[bytes]:
    """Bytes between segments, over which Pillow passes."""
    place = data.index(b"\xff\xda")
    yield data[:place] + b"\x00\x11\x22" + data[place:]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_has_other_pixels_goes_to_pillow(kit: Any, workers: int) -> None:
    assert same(of_every_kind(kit), (transforms.RandomResizedCrop(32),), num_workers=workers)


def test_incomplete_progressive_files_differ_between_versions() -> None:
    """The reason why progressive files are Pillow's: block smoothing. Fails once both libraries agree."""
    pixels = noisy(1, 50, 70)
    pairs = [(decoded(data, (50, 70)), by_pillow(data)) for data in incomplete(pixels)]
    assert any(fault is None and not np.array_equal(found, pillow) for (fault, found), pillow in pairs)


def test_only_files_with_a_fault_are_incidents(kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What goes to Pillow by its header is no broken file; what libjpeg-turbo warns of is named."""
    pixels = noisy(1, 50, 70)
    cut = bytearray(kit.jpeg(pixels))
    del cut[-40:-20]
    options = {"on_error": "skip", "max_bad": 1.0, "quarantine": False}
    with caplog.at_level(logging.WARNING, logger="fastpipe"):
        loaded(of_every_kind(kit), transforms.CenterCrop(32), **options)
        assert not [record for record in caplog.records if "sample" in record.message]
        path = kit.write([kit.as_jpeg(pixels), kit.entry(payload=bytes(cut), size=(50, 70))])
        assert same(path, (transforms.CenterCrop(32),), **options)
    assert any("FFCV's decoder rejects" in record.message for record in caplog.records)


def test_other_numerics_are_another_source(mixed: Path) -> None:
    """Threads that stay must not go on with what the loader was asked for before."""
    pipeline = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor()])
    options = {"batch_size": 20, "num_workers": 1, "persistent_workers": True, "engine": "none", "seed": 5}
    loader = DataLoader(BetonDataset(mixed, pipeline), backend="ffcv", numerics="fast", **options)
    next(iter(loader))
    loader.numerics = "exact"
    expected, _ = loaded(mixed, transforms.CenterCrop(32), backend="torchvision")
    assert np.array_equal(next(iter(loader))[0].numpy(), expected)


def test_a_table_that_lies_about_the_size_is_an_error(kit: Any) -> None:
    path = kit.write([kit.entry(payload=kit.jpeg(noisy(0, 40, 56)), size=(40, 48))])
    with pytest.raises(Exception, match=r"40 x 56 pixels .*the table says 40 x 48"):
        loaded(path, transforms.CenterCrop(32))


def test_explain_says_what_exact_does(mixed: Path) -> None:
    pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    loader = DataLoader(BetonDataset(mixed, pipeline), 4, backend="ffcv", numerics="exact")
    said = str(loader.explain())
    assert "accurate IDCT" in said and "progressive" in said and "INTER_AREA" not in said
    plan = Plan(decode=RandomResizedCrop(size=(8, 8), interpolation="bicubic"))
    assert FfcvBackend().supports(plan, "exact").answer == "yes"
    assert FfcvBackend().supports(plan, "fast").answer == "no"


@pytest.mark.parametrize(
    ("backend", "workers", "said"),
    [
        ("ffcv", 2, "2 threads of the script's own process"),
        ("torchvision", 2, "2 worker processes"),
        ("ffcv", 0, "workers: the script's own process"),
    ],
)
def test_explain_says_what_the_workers_are(mixed: Path, backend: str, workers: int, said: str) -> None:
    pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    loader = DataLoader(BetonDataset(mixed, pipeline), 4, backend=backend, num_workers=workers)
    assert said in str(loader.explain())


def test_a_library_with_other_pixels_is_refused(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Pillow was built with IJG's libjpeg."""
    assert exact_fault() is None
    kept = TurboDecoder.decode

    def other(self: TurboDecoder, source: Pixels, target: Pixels) -> str | None:
        fault = kept(self, source, target)
        target[0, 0, 0] ^= 1
        return fault

    monkeypatch.setattr(TurboDecoder, "decode", other)
    monkeypatch.setattr(ffcv, "exact_fault", ffcv_turbo.exact_fault.__wrapped__)
    with pytest.raises(BackendError, match="decode to different pixels on this machine"):
        loaded(mixed, transforms.RandomResizedCrop(32))


def test_photos(tmp_path: Path) -> None:
    """400 photos as they were found on the web, CMYK and PNG among them, written without loss."""
    root = os.environ.get("FASTPIPE_TEST_DATA")
    if not root:
        pytest.skip("FASTPIPE_TEST_DATA names no folder with photos400")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF of some photos
        report = write_beton(Path(root, "photos400"), tmp_path / "photos.beton")
    assert report is not None
    assert same(tmp_path / "photos.beton", PIPELINES["crop"], num_workers=1, batch_size=32)

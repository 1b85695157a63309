"""Files that DALI rejects, decodes otherwise, or dies of: the torchvision backend's pixels and policy."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.backends.dali.samples import jpeg_size
from fastpipe.errors import BackendError, SampleError

pytest.importorskip("nvidia.dali", reason="the dali extra is not installed")
pytestmark = [
    pytest.mark.dali,
    pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning"),
]

TRAIN = transforms.Compose([transforms.RandomResizedCrop(24), transforms.ToTensor()])
NUM = 12


def photo(seed: int, height: int = 50, width: int = 70) -> Image.Image:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9))[..., None] * 60 + 120
    return Image.fromarray((waves + rng.normal(0, 9, (height, width, 3))).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def segments(data: bytes) -> dict[int, int]:
    """Where each marker segment up to the scan begins (the last of its kind)."""
    at, found = 2, {}
    while data[at + 1] != 0xDA:
        found[data[at + 1]] = at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found | {0xDA: at}


def without_tables(data: bytes) -> bytes:
    """A JPEG whose header looks sound, without quantisation tables: nobody can decode it."""
    while (at := segments(data).get(0xDB)) is not None:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    return data


def with_junk(data: bytes) -> bytes:
    """A byte between two segments: libjpeg, and so Pillow, skips it; nvImageCodec does not."""
    at = segments(data)[0xDA]
    return data[:at] + b"\x31" + data[at:]


def exif_turned(image: Image.Image) -> bytes:
    exif = image.getexif()
    exif[0x112] = 6
    return encoded(image, exif=exif)


def deep_grey(image: Image.Image) -> bytes:
    return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


def with_alpha(image: Image.Image) -> bytes:
    image.putalpha(image.convert("L"))
    return encoded(image, "PNG")


FORMATS: dict[str, Callable[[Image.Image], bytes]] = {
    "progressive": lambda image: encoded(image, progressive=True, quality=60),
    "progressive 4:4:4": lambda image: encoded(image, progressive=True, subsampling=0),
    "4:1:1": lambda image: encoded(image, subsampling="4:1:1"),
    "4:2:2": lambda image: encoded(image, subsampling=1),
    "restart markers": lambda image: encoded(image, restart_marker_rows=1),
    "RGB, not YCbCr": lambda image: encoded(image, keep_rgb=True),
    "grey": lambda image: encoded(image.convert("L")),
    "CMYK": lambda image: encoded(image.convert("CMYK")),
    "exif": exif_turned,
    "trailing bytes": lambda image: encoded(image) + bytes(40),
    "many trailing bytes": lambda image: encoded(image) + bytes(400),
    "PNG": lambda image: encoded(image, "PNG"),
    "PNG with alpha": with_alpha,
    "PNG with a palette": lambda image: encoded(image.convert("P"), "PNG"),
    "PNG of 16 bits": deep_grey,
    "GIF": lambda image: encoded(image, "GIF"),
    "BMP": lambda image: encoded(image, "BMP"),
    "WEBP": lambda image: encoded(image, "WEBP"),
    "TIFF": lambda image: encoded(image, "TIFF"),
    "JPEG 2000": lambda image: encoded(image, "JPEG2000"),
    "1 x 1": lambda image: encoded(image.resize((1, 1))),
    "1 x 9": lambda image: encoded(image.resize((1, 9))),
    "junk between segments": lambda image: with_junk(encoded(image)),
}


def scans_of(data: bytes) -> list[bytes]:
    """A progressive JPEG cut before each scan's tables: what stands before the first, and each scan."""
    at, cuts = 2, [0]
    while data[at + 1] != 0xD9:
        start = at
        while data[at + 1] == 0xC4:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            cuts.append(start)
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
                at += 1
        elif at == start:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return [data[a:b] for a, b in zip(cuts, [*cuts[1:], at], strict=True)]


def lacking_scans(image: Image.Image, missing: int) -> bytes:
    head, *scans = scans_of(encoded(image, progressive=True))
    assert len(scans) > missing
    return head + b"".join(scans[: len(scans) - missing]) + b"\xff\xd9"


def of_single_scans(image: Image.Image, missing: int = 0) -> bytes:
    """Baseline with a scan for each component, out of three grey files; the last scans may be missing."""
    planes = [encoded(plane, quality=80) for plane in image.convert("YCbCr").split()]
    first = planes[0]
    frame, scan = segments(first)[0xC0], segments(first)[0xDA]
    sizes = first[frame + 5 : frame + 9]
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    made = first[:frame] + b"\xff\xc0\x00\x11\x08" + sizes + b"\x03" + components
    made += first[frame + 2 + int.from_bytes(first[frame + 2 : frame + 4], "big") : scan]
    for number, plane in list(enumerate(planes, 1))[: 3 - missing]:
        made += bytes([0xFF, 0xDA, 0, 8, 1, number, 0, 0, 63, 0]) + plane[segments(plane)[0xDA] + 10 : -2]
    return made + b"\xff\xd9"


def with_marker_in_pixels(data: bytes) -> bytes:
    """Pillow reads it to the end and refuses the marker; decoders that stop at the last line do not."""
    return data[:-2] + b"\xff\xb3" + data[-2:]


FORMATS |= {f"progressive without {n} scans": partial(lacking_scans, missing=n) for n in (1, 3, 6, 9)}
FORMATS |= {
    "baseline of single scans": of_single_scans,
    "baseline without a scan": partial(of_single_scans, missing=1),
    "baseline without two scans": partial(of_single_scans, missing=2),
}
REFUSED = {"a marker in the pixels": with_marker_in_pixels}


def folder_of(root: Path, bad: dict[int, bytes], num: int = NUM) -> ImageFolder:
    """Two classes of `num` / 2 photos, all named .jpg; sample i is bad[i] where there is one."""
    for i in range(num):
        target = root / "ab"[i >= num // 2] / f"{i:02}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(bad[i] if i in bad else encoded(photo(i), quality=90))
    return ImageFolder(str(root), TRAIN)


def epoch(dataset: Any, backend: str, **options: Any) -> tuple[list[torch.Tensor], list[int]]:
    options = {"batch_size": 4, "seed": 2, "engine": "none", "quarantine": False, "max_bad": 1.0} | options
    images, labels = [], []
    for batch in fastpipe.DataLoader(dataset, backend=backend, **options):
        images.append(batch[0])
        labels.extend(batch[1].tolist())
    return images, labels


def check_equal(dataset: Any, **options: Any) -> None:
    mine, my_labels = epoch(dataset, "dali", **options)
    theirs, their_labels = epoch(dataset, "torchvision", **(options | {"num_workers": 0}))
    assert my_labels == their_labels
    assert [len(batch) for batch in mine] == [len(batch) for batch in theirs]
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_pillows_pixels(tmp_path: Path, name: str) -> None:
    make = FORMATS[name]
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.jpg").write_bytes(make(photo(i, 50 + 3 * i, 80 - 5 * i)))
    check_equal(ImageFolder(str(tmp_path), TRAIN), num_workers=1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_pillow_refuses_dali_does_not_serve(tmp_path: Path, name: str) -> None:
    data = REFUSED[name](encoded(photo(99)))
    with pytest.raises(OSError):
        Image.open(io.BytesIO(data)).load()
    dataset = folder_of(tmp_path, {5: data})
    check_equal(dataset, on_error="skip")
    with pytest.raises(SampleError, match=r"05\.jpg"):
        epoch(dataset, "dali")


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_narrowest_boxes_have_pillows_pixels(tmp_path: Path, subsampling: int) -> None:
    (tmp_path / "a").mkdir()
    for i in range(100):
        data = encoded(photo(i, 40 + i % 30, 5 + i % 13), subsampling=subsampling)
        (tmp_path / "a" / f"{i:03}.jpg").write_bytes(data)
    narrow = transforms.RandomResizedCrop(24, scale=(0.02, 0.06), ratio=(0.03, 0.2))
    check_equal(
        ImageFolder(str(tmp_path), transforms.Compose([narrow, transforms.ToTensor()])), batch_size=50
    )


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, moved, put in or taken out, in the header as often as elsewhere, or cut and ended."""
    made, pixels = bytearray(data), data.rfind(b"\xff\xda")
    kind = rng.integers(6)
    at = int(rng.integers(2, len(made) - 40))
    if kind == 0:
        for one in rng.integers(2, pixels + 10, rng.integers(1, 4)):
            made[one] = rng.integers(256)
    elif kind == 1:
        for one in rng.integers(pixels + 14, len(made) - 2, rng.integers(1, 6)):
            made[one] = rng.integers(256)
    elif kind == 2:
        made = made[: rng.integers(pixels + 14, len(made))] + b"\xff\xd9"
    elif kind == 3:
        made[at : at + 20], made[-30:-10] = made[-30:-10], made[at : at + 20]
    elif kind == 4:
        made[at:at] = rng.bytes(int(rng.integers(1, 9)))
    else:
        del made[at : at + int(rng.integers(1, 30))]
    return bytes(made)


def check_damage(root: Path, seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = ("progressive", "4:1:1", "4:2:2", "restart markers", "RGB, not YCbCr", "grey", "exif")
    makers = [FORMATS[kind] for kind in kinds]
    (root / "a").mkdir()
    for i in range(num):
        data = makers[i % len(makers)](photo(i, 40 + i % 17, 30 + i % 41))
        (root / "a" / f"{i:04}.jpg").write_bytes(damaged(data, rng))
    (root / "a" / "sound.jpg").write_bytes(encoded(photo(0)))
    dataset = ImageFolder(str(root), TRAIN)
    check_equal(dataset, on_error="skip", num_workers=1, batch_size=num + 1)


def test_damaged_files_have_pillows_pixels_or_fate(tmp_path: Path) -> None:
    check_damage(tmp_path, seed=1, num=100)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_damaged_files_have_pillows_pixels_or_fate_for_long(tmp_path: Path, seed: int) -> None:
    check_damage(tmp_path, seed=seed, num=400)


def test_a_batch_of_every_format_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for i, make in enumerate(FORMATS.values()):
        (folder / f"{i:02}.jpg").write_bytes(make(photo(i)))
    dataset = ImageFolder(str(tmp_path), TRAIN)
    check_equal(dataset, batch_size=len(dataset), num_workers=2)
    check_equal(dataset, batch_size=3)


KILLERS = {
    "truncated": lambda data: data[: len(data) // 2],
    "truncated, but ended": lambda data: without_tables(data[: len(data) // 2] + b"\xff\xd9"),
    "no tables": without_tables,
    "empty": lambda data: b"",
    "garbage": lambda data: b"\xff\xd8\xff" + bytes(range(256)) * 3 + b"\xff\xd9",
    "text": lambda data: b"this is no image",
}


@pytest.mark.parametrize("place", [0, 5, NUM - 1])
@pytest.mark.parametrize("policy", ["skip", "replace"])
@pytest.mark.parametrize("kind", KILLERS)
def test_bad_files_meet_the_same_policy(tmp_path: Path, kind: str, policy: Any, place: int) -> None:
    dataset = folder_of(tmp_path, {place: KILLERS[kind](encoded(photo(99)))})
    for workers in (0, 2):
        check_equal(dataset, on_error=policy, num_workers=workers)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("place", [0, 5, NUM - 1])
def test_raise_names_the_file_after_the_batches_before_it(tmp_path: Path, place: int, numerics: Any) -> None:
    dataset = folder_of(tmp_path, {place: without_tables(encoded(photo(99)))})
    loader = fastpipe.DataLoader(
        dataset, batch_size=2, seed=2, backend="dali", num_workers=2, numerics=numerics, engine="none"
    )
    delivered = 0
    with pytest.raises(SampleError, match=f"{place:02}.jpg") as caught:
        for _ in loader:
            delivered += 1
    assert delivered == place // 2
    assert caught.value.path == dataset.samples[place][0] and caught.value.sample_id == place


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the header finds nothing, as it would for a fault that it does not know."""
    from fastpipe.backends.dali import samples as dali_samples

    monkeypatch.setattr(dali_samples, "jpeg_size", lambda data: (50, 70))


@pytest.mark.usefixtures("trusting")
def test_what_only_pillow_reads_is_served_and_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    junk = {i: with_junk(encoded(photo(i))) for i in (3, 4, 9)}
    dataset = folder_of(tmp_path, junk)
    check_equal(dataset, num_workers=2)
    assert sum("rescued" in record.getMessage() for record in caplog.records) == 3
    assert all(f"{i:02}.jpg" in caplog.text for i in junk)


def test_fast_pixels_do_not_depend_on_a_bad_neighbour(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir(), (tmp_path / "bad").mkdir()
    good, _ = epoch(folder_of(tmp_path / "good", {}), "dali", numerics="fast", num_workers=2)
    dataset = folder_of(tmp_path / "bad", {5: without_tables(encoded(photo(5)))})
    bad, _ = epoch(dataset, "dali", numerics="fast", num_workers=2, on_error="skip")
    assert torch.equal(torch.cat(bad), torch.cat(good)[[i for i in range(NUM) if i != 5]])


@pytest.mark.usefixtures("trusting")
def test_a_file_that_kills_is_tried_once_a_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastpipe.backends.dali import source as dali_source

    made = []

    class Counted(dali_source.Runner):
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(options["batch_size"])
            super().__init__(*args, **options)

    monkeypatch.setattr(dali_source, "Runner", Counted)
    dataset = folder_of(tmp_path, {5: with_junk(encoded(photo(5)))})
    loader = fastpipe.DataLoader(
        dataset, batch_size=4, seed=2, backend="dali", num_workers=1, persistent_workers=True, engine="none"
    )
    list(loader)
    first = len(made)
    assert 4 in made and 1 in made
    list(loader)
    assert len(made) == first


def test_a_dali_that_never_works_ends_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastpipe.backends.dali import source as dali_source

    def broken(self: Any) -> Any:
        raise RuntimeError("no decoder today")

    monkeypatch.setattr(dali_source.Runner, "result", broken)
    with pytest.raises(BackendError, match="no decoder today"):
        epoch(folder_of(tmp_path, {}), "dali")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so that nothing is missing")
def test_without_a_gpu_the_cpu_decodes_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = folder_of(tmp_path, {})
    expected, _ = epoch(dataset, "dali", numerics="fast")
    monkeypatch.setenv("FASTPIPE_DALI_MIXED", "1")
    monkeypatch.setattr("fastpipe.backends.dali.trial._answers", {})
    found, _ = epoch(dataset, "dali", numerics="fast")
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert "DALI decodes on the CPU: torch finds no CUDA device" in caplog.text
    loader = fastpipe.DataLoader(dataset, 4, backend="dali", numerics="fast", engine="none")
    assert "on the CPU; not the form 'region': torch finds no CUDA device" in str(loader.explain())


def test_a_crop_that_does_not_fit_is_named(tmp_path: Path) -> None:
    dataset = folder_of(tmp_path, {4: encoded(photo(4, 20, 20))})
    dataset.transform = transforms.Compose([transforms.RandomCrop(30), transforms.ToTensor()])
    with pytest.raises(SampleError, match=r"04\.jpg.*larger than the image"):
        epoch(dataset, "dali")
    check_equal(dataset, on_error="skip")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data, (50, 70)),
        (lambda data: memoryview(data), (50, 70)),
        (lambda data: data[:2] + b"\xff\xff" + data[2:], (50, 70)),  # fill bytes before a marker
        (lambda data: data[:-2], None),
        (lambda data: data.replace(b"\xff\xc0", b"\xff\xc9"), None),  # arithmetic coding
        (lambda data: data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), None),  # 12 bits
        (lambda data: data.replace(b"\x08\x00\x32\x00\x46", b"\x08\x00\x00\x00\x46"), None),  # height later
        (lambda data: b"", None),
        (lambda data: b"\x89PNG" + data, None),
    ],
)
def test_header(change: Any, expected: Any) -> None:
    assert jpeg_size(change(encoded(photo(0)))) == expected


def test_a_decompression_bomb_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50 * 70 - 1)
    assert jpeg_size(data) is None


@pytest.mark.parametrize("error", [OSError("Truncated File Read"), NotImplementedError("no such profile")])
def test_what_pillow_does_not_open_is_left_to_it(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    data = encoded(photo(0))

    def refuse(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(Image, "open", refuse)
    assert jpeg_size(data) is None


def test_damaged_headers_never_raise() -> None:
    rng = np.random.default_rng(0)
    data = encoded(photo(0))
    header = segments(data)[0xDA] + 4
    for _ in range(3000):
        damaged = bytearray(data)
        for at in rng.integers(0, header, rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        size = jpeg_size(bytes(damaged[: rng.integers(0, len(data))] + damaged[-2:]))
        assert size is None or min(size) > 0

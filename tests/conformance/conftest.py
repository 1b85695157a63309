"""The laboratory of the conformance suite: every backend on every storage kind it claims, one reference.

A test that takes `lab` runs for each (backend, storage) pair of the registry and for 0, 1 and 3 workers; it
may choose other worker counts with `@pytest.mark.parametrize("workers", ...)`. FASTPIPE_CONFORMANCE names a
file for the results, from which scripts/conformance makes docs/conformance.md.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fastpipe import DataLoader, FolderDataset
from fastpipe.backends import registry
from fastpipe.decode import Box, draw_box, num_uniforms
from fastpipe.rng import Stream, permutation, uniforms
from fastpipe.storage import BetonDataset
from fastpipe.transforms.specs import RandomResizedCrop

NUM = 20
SEED = 7
SIZE = 32
CLASSES = ("birch", "granite", "water")
WORKERS = (0, 1, pytest.param(3, marks=pytest.mark.slow))
MARKS = {"turbo": pytest.mark.turbo_built, "ffcv": pytest.mark.ffcv, "dali": pytest.mark.dali}
# Largest mean and single error in levels of 0..255 that a backend may have against Pillow, by its numerics.
TOLERANCE: dict[tuple[str, str], tuple[float, float]] = {
    ("torchvision", "exact"): (0.0, 0.0),
    ("torchvision", "fast"): (0.0, 0.0),
    ("turbo", "exact"): (0.0, 0.0),
    ("ffcv", "exact"): (0.0, 0.0),
    ("ffcv", "fast"): (3.0, 40.0),
    ("dali", "exact"): (0.0, 0.0),
    ("dali", "fast"): (0.5, 8.0),
}
TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(SIZE), transforms.ToTensor()])
RESULTS: list[dict[str, Any]] = []

Pixels = npt.NDArray[np.uint8]


def _pairs() -> list[Any]:
    """(backend, storage) for each backend of the registry and each kind of storage that it claims.

    "mixed", a ConcatDataset of both, has a test of its own.
    """
    found = []
    for name in registry.BACKENDS:
        for storage in registry.load(name).capabilities.storage:
            if storage == "mixed":
                continue
            marks = [MARKS[name]] if name in MARKS else []
            found.append(pytest.param((name, storage), marks=marks, id=f"{name}-{storage}"))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }
    if "workers" in metafunc.fixturenames and "workers" not in given:
        metafunc.parametrize("workers", WORKERS, ids=lambda count: f"w{count}")
    if "pair" in metafunc.fixturenames and "pair" not in given:
        metafunc.parametrize("pair", _pairs())


def pytest_itemcollected(item: pytest.Item) -> None:
    # 3 workers are what the suite asks for, on machines with fewer cores too.
    item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    arguments = getattr(getattr(item, "callspec", None), "params", {})
    if "pair" in arguments and (report.when == "call" or not report.passed):
        RESULTS.append(
            {
                "check": item.originalname,
                "says": (item.function.__doc__ or "").strip().split("\n")[0],
                "backend": arguments["pair"][0],
                "storage": arguments["pair"][1],
                "workers": arguments.get("workers", 0),
                "outcome": report.outcome,
                **dict(report.user_properties),
            }
        )
    return report


def pytest_sessionfinish() -> None:
    target = os.environ.get("FASTPIPE_CONFORMANCE")
    if target:
        Path(target).write_text(json.dumps(RESULTS, indent=1), encoding="utf-8")


# ---- pictures


def _texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Waves, an edge, a little noise: one pixel of displacement shows, and JPEG keeps it like a photo."""
    y, x = np.mgrid[0:height, 0:width]
    phases = rng.uniform(0, 6, 3)
    waves = np.stack([np.sin(x / rng.uniform(4, 9) + y / rng.uniform(4, 9) + p) for p in phases], axis=-1)
    edge = np.where(x * rng.uniform(0.5, 2) > y, 40, -40)[..., None]
    values = 128 + 50 * waves + edge + rng.normal(0, 4, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def _save(image: Image.Image, folder: Path, number: int) -> Path:
    """One of the kinds of files that image folders hold; most are RGB JPEG."""
    stem = folder / f"{number:02}"
    kinds: dict[int, Callable[[], Path]] = {
        3: lambda: _put(image.convert("L"), stem, ".jpg", quality=92),
        6: lambda: _put(image, stem, ".png"),
        8: lambda: _put(image.convert("P"), stem, ".png"),
        11: lambda: _put(image, stem, ".jpg", quality=92, progressive=True),
        13: lambda: _put(image.convert("CMYK"), stem, ".jpg", quality=92),
        15: lambda: _put(image, stem, ".jpg", quality=92, subsampling=0),
        17: lambda: _put(image, stem, ".webp", lossless=True),
        18: lambda: _put(image, stem, ".jpg", quality=92, exif=_rotated()),
    }
    return kinds.get(number, lambda: _put(image, stem, ".jpg", quality=92))()


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: torchvision does not turn the image, nor may a backend
    return exif


def _put(image: Image.Image, stem: Path, suffix: str, **options: Any) -> Path:
    path = stem.with_suffix(suffix)
    image.save(path, **options)
    return path


@dataclass(frozen=True, kw_only=True)
class Data:
    """The same images in two folders, and as .beton: labels are ids in one, three classes in the other."""

    folders: dict[str, Path]
    betons: dict[str, Path]
    files: dict[str, list[Path]]

    def at(self, storage: str, labels: str) -> Path:
        """Where a loader finds the images."""
        return self.folders[labels] if storage == "folder" else self.betons[labels]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """20 images of 40 to 110 pixels: JPEG of all kinds, PNG and WebP."""
    root = tmp_path_factory.mktemp("conformance")
    rng = np.random.default_rng(3)
    images = [Image.fromarray(_texture(rng, *rng.integers(40, 110, 2).tolist())) for _ in range(NUM)]
    files: dict[str, list[Path]] = {}
    for labels in ("ids", "classes"):
        for number, image in enumerate(images):
            name = f"{number:02}" if labels == "ids" else CLASSES[number * len(CLASSES) // NUM]
            folder = root / labels / name
            folder.mkdir(parents=True, exist_ok=True)
            files.setdefault(labels, []).append(_save(image, folder, number))
    folders = {labels: root / labels for labels in files}
    kinds = {kind for name in registry.BACKENDS for kind in registry.load(name).capabilities.storage}
    betons = {labels: root / f"{labels}.beton" for labels in files if "beton" in kinds}
    for labels, path in betons.items():
        numbers = range(NUM) if labels == "ids" else [i * len(CLASSES) // NUM for i in range(NUM)]
        write_beton(files[labels], list(numbers), path)
    return Data(folders=folders, betons=betons, files=files)


def write_beton(files: Sequence[Path], labels: Sequence[int], path: Path) -> None:
    """The files in FFCV's layout: RGB and grey JPEG bytes as they are, everything else raw."""
    page = 2 << 20
    head = struct.pack("<HHIQQ", 2, 2, page, len(files), 2 * page)
    head += struct.pack("<B16s1024x", 2, b"image") + struct.pack("<B16s1024x", 1, b"label")
    rows, payloads, table, end = b"", b"", b"", page
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        payload, raw = file.read_bytes(), 0
        with Image.open(io.BytesIO(payload)) as image:
            if image.format != "JPEG" or image.mode not in ("RGB", "L"):
                payload, raw = image.convert("RGB").tobytes(), 1
            rows += struct.pack("<BHHQ3xq", raw, image.width, image.height, end, label)
        table += struct.pack("<QQQ", number, end, len(payload))
        payloads, end = payloads + payload, end + len(payload)
    path.write_bytes((head + rows).ljust(page, b"\0") + payloads.ljust(page, b"\0") + table)


# ---- the laboratory


class Lab:
    """Loaders of one backend on one storage kind, and what they must deliver."""

    def __init__(self, pair: tuple[str, str], workers: int, data: Data) -> None:
        self.backend, self.storage = pair
        self.workers = workers
        self.data = data
        self.num = NUM
        self.claims = registry.load(self.backend).capabilities
        self.numerics = self.claims.numerics[0]
        self.train, self.eval = TRAIN, EVAL

    def path(self, labels: str = "ids") -> Path:
        """The folder or the .beton file."""
        return self.data.at(self.storage, labels)

    def dataset(self, transform: Any = TRAIN, *, labels: str = "ids", path: Path | None = None) -> Any:
        """The data set as a user would open it for a Subset or the like."""
        if self.storage == "folder":
            return FolderDataset(path or self.path(labels), transform=transform)
        return BetonDataset(path or self.path(labels), transform=transform)

    def loader(
        self, transform: Any = TRAIN, batch_size: int = 6, *, dataset: Any = None, **options: Any
    ) -> Any:
        """A seeded loader of this backend; options win."""
        labels = options.pop("labels", "ids")
        if dataset is None:
            dataset = self.dataset(transform, labels=labels)
        options = {
            "backend": self.backend,
            "num_workers": self.workers,
            "numerics": self.numerics,
            "seed": SEED,
            "device": "cpu",
            **options,
        }
        if options.get("batch_sampler") is None:
            options["batch_size"] = batch_size
        return DataLoader(dataset, **options)

    def picture(self, sample_id: int) -> Image.Image:
        """The stored image as Pillow decodes it."""
        with Image.open(self.data.files["ids"][sample_id]) as image:
            return image.convert("RGB")

    def box(self, sample_id: int, epoch: int = 0, repeat: int = 0) -> Box:
        """The reference crop of RandomResizedCrop."""
        image = self.picture(sample_id)
        spec = RandomResizedCrop(size=(SIZE, SIZE))
        draws = uniforms(
            SEED, epoch, np.array([sample_id]), np.array([repeat]), Stream.CROP, num_uniforms(spec)
        )
        return draw_box(spec, draws[0].tolist(), image.height, image.width)

    def flipped(self, sample_id: int, epoch: int = 0, repeat: int = 0) -> bool:
        """The reference flip."""
        draw = uniforms(SEED, epoch, np.array([sample_id]), np.array([repeat]), Stream.FLIP, 1)
        return bool(draw[0, 0] < 0.5)

    def expected(
        self, ids: Sequence[int], *, epoch: int = 0, repeats: Sequence[int] | None = None, size: int = SIZE
    ) -> torch.Tensor:
        """uint8 [B,H,W,3]: the training batch by the reference, flips included."""
        rows = []
        for place, sample_id in enumerate(ids):
            repeat = 0 if repeats is None else repeats[place]
            box = self.box(sample_id, epoch, repeat)
            row = cut(self.picture(sample_id), box, size)
            rows.append(row[:, ::-1] if self.flipped(sample_id, epoch, repeat) else row)
        return torch.from_numpy(np.stack(rows))

    def expected_eval(self, ids: Sequence[int]) -> torch.Tensor:
        """uint8 [B,H,W,3]: Resize(40), CenterCrop(32) by torchvision."""
        steps = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(SIZE)])
        return torch.from_numpy(np.stack([np.asarray(steps(self.picture(i))) for i in ids]))

    def order(self, epoch: int = 0) -> list[int]:
        """The reference order of a shuffled epoch."""
        return [int(i) for i in permutation(SEED, epoch, NUM)]

    def errors(self, images: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
        """Mean and largest error, in levels, of a float batch [B,3,H,W] in 0..1."""
        levels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.int16)
        difference = (levels - expected.to(torch.int16)).abs().float()
        return difference.mean().item(), difference.max().item()

    def measured(self, images: torch.Tensor, expected: torch.Tensor, numerics: str) -> list[float]:
        """Mean and largest error and what is allowed of each, for the table."""
        return [*self.errors(images, expected), *TOLERANCE[self.backend, numerics]]

    def check(self, images: torch.Tensor, expected: torch.Tensor, numerics: str | None = None) -> None:
        """Fail when the batch is further from the reference than the backend's tolerance."""
        mean, largest = self.errors(images, expected)
        allowed = TOLERANCE[self.backend, numerics or self.numerics]
        assert mean <= allowed[0] and largest <= allowed[1], (
            f"mean error {mean:.3f}, largest {largest:.0f} levels; allowed {allowed}"
        )

    def run(self, script: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A script with `loader(**options)` in a process of its own."""
        return subprocess.run(
            self.command(script, *arguments), capture_output=True, text=True, timeout=timeout
        )

    def command(self, script: str, *arguments: str, labels: str = "ids") -> list[str]:
        """The command line of such a script."""
        spec = {
            "path": str(self.path(labels)),
            "backend": self.backend,
            "num_workers": self.workers,
            "numerics": self.numerics,
        }
        text = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
        return [sys.executable, "-W", "ignore", "-c", text, json.dumps(spec), *arguments]


PRELUDE = """
    import json, sys
    import torch
    from torchvision import transforms
    from fastpipe import DataLoader
    steps = [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    spec = json.loads(sys.argv[1])
    def loader(batch_size=6, **options):
        given = {**spec, "seed": 7, "device": "cpu", **options}
        return DataLoader(given.pop("path"), batch_size, transform=transforms.Compose(steps), **given)
"""


def cut(image: Image.Image, box: Box, size: int = SIZE) -> Pixels:
    """uint8 [size,size,3]: the box, resized as Pillow (and so torchvision) resizes."""
    piece = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR))


@pytest.fixture
def lab(
    pair: tuple[str, str], workers: int, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Lab:
    """The laboratory of one backend, storage kind and worker count; its indexes and lists go away with it."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    return Lab(pair, workers, data)


@pytest.fixture
def saved() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A state through a file, as a checkpoint goes: plain values only."""

    def _through(state: dict[str, Any]) -> dict[str, Any]:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)  # type: ignore[no-any-return]

    return _through


@pytest.fixture
def children() -> Iterator[Callable[[], set[int]]]:
    """Ids of the living child processes; whatever a test left behind is ended after it."""
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    yield lambda: {child.pid for child in me.children(recursive=True) if child.status() != "zombie"}
    for child in me.children(recursive=True):
        if child.pid not in before and "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()

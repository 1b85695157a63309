"""What the programs share: photos, a small network, a watch over the loaders, and rows for the matrix."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe

torch.set_num_threads(1)
TorchLoader: Any = torch.utils.data.DataLoader
TAIL = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *TAIL])
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
CLASSES, PER_CLASS, BATCH = 3, 12, 8


class Net(nn.Module):
    """Small, and the same at each construction."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 5, 2),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(32, classes),
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.body(images)
        return scores


def photos() -> Path:
    """A folder with train/ and val/, three classes of twelve JPEGs; made once for each process tree."""
    told = os.environ.get("FASTPIPE_CLIENT_PHOTOS")
    root = Path(told or tempfile.mkdtemp(prefix="fastpipe-clients-"))
    os.environ["FASTPIPE_CLIENT_PHOTOS"] = str(root)
    numbers = np.random.default_rng(0)
    for split in () if told else ("train", "val"):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(PER_CLASS):
                grid = numbers.integers(0, 255, (6, 8, 3), dtype=np.uint8)
                Image.fromarray(grid).resize((80, 60), Image.Resampling.BILINEAR).save(
                    folder / f"{number:02}.jpg"
                )
    return root


def folder(split: str = "train", transform: Any = EVAL) -> ImageFolder:
    return ImageFolder(str(photos() / split), transform)


def loader(kind: Any, **more: Any) -> Any:
    """A shuffled loader, whose order a generator of its own fixes."""
    return kind(folder(), BATCH, shuffle=True, generator=torch.Generator().manual_seed(0), **more)


@dataclass
class Row:
    """One line of the matrix. fast: what was seen of the loaders that were iterated."""

    tried: str
    result: str = "yes"
    fast: str = "not applicable"
    note: str = ""
    images: bool = True
    seen: list[tuple[str, bool, str]] = field(default_factory=list)

    def need_fast(self) -> None:
        """Fail unless every fastpipe loader that was iterated was lifted and served by our own iterator."""
        assert self.seen, "no fastpipe loader was iterated"
        assert all(lifted and name == "EpochIterator" for _, lifted, name in self.seen), self.seen


@contextlib.contextmanager
def tried(what: str, note: str = "", *, images: bool = True) -> Iterator[Row]:
    """Print a row for the matrix; an exception is a "no" that fails the run."""
    row, iterate = Row(what, note=note, images=images), fastpipe.DataLoader.__iter__

    def watched(self: Any) -> Any:
        iterator = iterate(self)
        row.seen.append((type(self).__name__, self.explain().lifted, type(iterator).__name__))
        return iterator

    fastpipe.DataLoader.__iter__ = watched  # type: ignore[method-assign]
    try:
        yield row
    except Exception as error:
        traceback.print_exc()
        row.result, row.note = "FAILED", f"{type(error).__name__}: {str(error).splitlines()[:1]}"
    finally:
        fastpipe.DataLoader.__iter__ = iterate  # type: ignore[method-assign]
    if row.seen and row.images:
        fast = [lifted and name == "EpochIterator" for _, lifted, name in row.seen]
        names = ", ".join(sorted({f"{name} of {kind}" for kind, _, name in row.seen}))
        row.fast = f"{'yes' if all(fast) else 'no'} ({names})"
    say(row)


def cannot(what: str, why: str) -> None:
    """A "no" that is known, with its reason."""
    say(Row(what, result="no", note=why))


def say(row: Row) -> None:
    told = {"tried": row.tried, "result": row.result, "fast": row.fast, "note": row.note}
    print("ROW " + json.dumps(told), flush=True)


def same_losses(run: Callable[[Any], list[float]]) -> None:
    """The same training with torch's loader and with ours gives the same losses."""
    theirs, ours = run(TorchLoader), run(fastpipe.DataLoader)
    assert len(theirs) == len(ours) > 0, (len(theirs), len(ours))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def quietly() -> None:
    """Clients warn of much that has nothing to do with loaders."""
    warnings.filterwarnings("ignore")

"""Data sets of torchvision.datasets by name, as image folders in the cache."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage.progress import Progress, reporting
from fastpipe.storage.splits import Splits, find_splits
from fastpipe.system.files import build_once, make_dir, user_cache_dir

__all__ = ["NAMED", "canonical_name", "named_splits"]

# torchvision opens its downloads without a timeout: behind a firewall that drops packets the first
# connection alone hangs for 2 minutes (tcp_syn_retries), once for each mirror.
_TIMEOUT_S = 15.0
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSource:
    """A class of torchvision.datasets and the arguments that select each of its splits.

    `ready`: the folder below the download directory that already has train/ and val/.
    """

    cls: str
    splits: dict[str, dict[str, Any]]
    common: dict[str, Any] = field(default_factory=dict)
    ready: str = ""


def _by_train(cls: str) -> NamedSource:
    return NamedSource(cls=cls, splits={"train": {"train": True}, "validation": {"train": False}})


def _by_split(cls: str, train: str, validation: str, test: str = "") -> NamedSource:
    splits = {"train": {"split": train}, "validation": {"split": validation}}
    return NamedSource(cls=cls, splits=splits | ({"test": {"split": test}} if test else {}))


def _imagenette(size: str, folder: str) -> NamedSource:
    # One archive contains both splits, so requesting the first downloads the second.
    return NamedSource(cls="Imagenette", splits={"train": {"split": "train", "size": size}}, ready=folder)


# If torchvision names no validation split, accuracy is measured on the test split.
NAMED: dict[str, NamedSource] = {
    "cifar10": _by_train("CIFAR10"),
    "cifar100": _by_train("CIFAR100"),
    "country211": _by_split("Country211", "train", "valid", "test"),
    "dtd": _by_split("DTD", "train", "val", "test"),
    "fashionmnist": _by_train("FashionMNIST"),
    "fgvcaircraft": _by_split("FGVCAircraft", "train", "val", "test"),
    "flowers102": _by_split("Flowers102", "train", "val", "test"),
    "food101": _by_split("Food101", "train", "test"),
    "gtsrb": _by_split("GTSRB", "train", "test"),
    "imagenette": _imagenette("full", "imagenette2"),
    "imagenette160": _imagenette("160px", "imagenette2-160"),
    "imagenette320": _imagenette("320px", "imagenette2-320"),
    "kmnist": _by_train("KMNIST"),
    "mnist": _by_train("MNIST"),
    "oxfordiiitpet": _by_split("OxfordIIITPet", "trainval", "test"),
    "stl10": _by_split("STL10", "train", "test"),
    "svhn": _by_split("SVHN", "train", "test"),
    "usps": _by_train("USPS"),
}


def canonical_name(name: str) -> str:
    """Return `name` as NAMED spells it: lower case, without dashes, underscores and spaces."""
    return re.sub(r"[-_ ]", "", name).lower()


def named_splits(
    name: str, cache_dir: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> Splits:
    """Return the splits of a data set of torchvision, downloading and exporting it on first use.

    Arrays become PNGs, image files are linked, both under `named/` in the cache. Class folders are named
    `<label>_<class name>`, so labels are torchvision's. Imagenette is used as unpacked.
    Raises ArgumentError for a name not in NAMED, DataError if the download or its data is broken.
    """
    key = canonical_name(name)
    if key not in NAMED:
        raise ArgumentError(f"name must be one of {', '.join(NAMED)}. Found: {name!r}")
    source = NAMED[key]
    cache = user_cache_dir(cache_dir)
    downloads = cache / "downloads" / key
    if source.ready:
        if not (downloads / source.ready / "val").is_dir():
            _load(key, source, "train", downloads)
        return find_splits(downloads / source.ready)

    def build(folder: Path) -> None:
        for split in source.splits:
            _export(key, _load(key, source, split, downloads), folder / split, f"Exporting {key}", progress)

    target = build_once(cache / "named" / key, {"name": key, "version": _VERSION}, build)
    test = target / "test" if "test" in source.splits else None
    return Splits(train=target / "train", validation=target / "validation", test=test)


def _load(key: str, source: NamedSource, split: str, downloads: Path) -> Any:
    """Return torchvision's data set object. Everything it needs is on disk afterwards."""
    import torchvision

    cls = getattr(torchvision.datasets, source.cls)
    make_dir(downloads)
    try:
        with _socket_timeout():
            return cls(str(downloads), download=True, **source.splits[split], **source.common)
    except ImportError as err:
        package = err.name or "scipy"
        raise DataError(f"{key} needs the package {package!r}: pip install {package}") from err
    # RuntimeError: torchvision's own "not found or corrupted"; OSError: urllib's, and no internet.
    except (OSError, RuntimeError, http.client.HTTPException) as err:
        why = f"{type(err).__name__}: {' '.join(str(err).split())}"
        raise DataError(
            f"{key} could not be downloaded ({why}). This needs internet access once. "
            f"Without it, run torchvision.datasets.{source.cls}({str(downloads)!r}, download=True) with "
            f"{' and '.join(map(str, source.splits.values()))} on a machine with access and copy that folder "
            "here; or pass a folder of your own with train/ and val/."
        ) from err


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _export(key: str, dataset: Any, folder: Path, label: str, progress: Progress | None) -> None:
    """Write `dataset` as folder/<label>_<class>/<number>.<ext>, linking files if it has files."""
    files = _files(dataset)
    count = len(dataset)
    names = _class_folders(dataset, files)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with reporting(label, progress) as report:
        for i in range(count):
            if files is not None:
                path, target = files[i]
                _link(path, folder / names[target] / f"{i:06d}{path.suffix.lower()}", key)
            else:
                image, target = dataset[i]
                # Level 1 halves the time of the export, with 3 % more bytes on CIFAR-like images.
                image.save(folder / names[int(target)] / f"{i:06d}.png", compress_level=1)
            report(i + 1, count)


def _files(dataset: Any) -> list[tuple[Path, int]] | None:
    """Return (path, label) of a data set that reads image files, None for one with arrays."""
    for attribute in ("samples", "_samples"):
        if pairs := getattr(dataset, attribute, None):
            return [(Path(path), int(label)) for path, label in pairs]
    for attribute in ("_image_files", "_images"):
        paths = getattr(dataset, attribute, None)
        if paths and len(paths) == len(getattr(dataset, "_labels", ())):
            return [(Path(path), int(label)) for path, label in zip(paths, dataset._labels, strict=True)]
    return None


def _class_folders(dataset: Any, files: list[tuple[Path, int]] | None) -> list[str]:
    """Return the folder of each label; label order is also the order by name."""
    classes = getattr(dataset, "classes", None)
    if not classes:  # SVHN and USPS have digits, GTSRB numbers.
        labels = [label for _, label in files] if files is not None else getattr(dataset, "labels", None)
        labels = dataset.targets if labels is None else labels
        classes = [str(label) for label in range(max(map(int, labels)) + 1)]
    width = len(str(len(classes) - 1))
    return [f"{label:0{width}d}_{_safe(str(name))}" for label, name in enumerate(classes)]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name.split(" - ", 1)[-1]).strip("_.") or "class"


def _link(path: Path, target: Path, key: str) -> None:
    """Give the file a second name: a hard link, or a copy if the file system has no links."""
    try:
        os.link(path, target)
    except FileNotFoundError as err:
        raise DataError(
            f"{key} was not unpacked completely: {str(path)!r} is missing. Delete its folder in the cache's "
            "downloads/ and start again."
        ) from err
    except OSError:
        shutil.copyfile(path, target)

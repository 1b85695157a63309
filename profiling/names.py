"""Stages, loaders, runs and fixes: ids for finding them, and the words that reports show.

Only `words` maps one to the other, so a row can be renamed without changing any prediction. An id may have a
subject after a colon: `workers:4`, `device+:RandAugment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NewType

Id = NewType("Id", str)

# Stages of the path, in order; then the pipeline of a backend that does all of a worker's work at once.
READ: Final = Id("read")
DECODE: Final = Id("decode")
CROP: Final = Id("crop")
ASSEMBLY: Final = Id("assembly")
HOP: Final = Id("hop")
OVERHEAD: Final = Id("overhead")
PIPELINE: Final = Id("pipeline")
DEVICE: Final = Id("device")
MODEL: Final = Id("model")
# Several stages at once.
HOST_HALF: Final = Id("host-half")
BACKEND_HALF: Final = Id("backend-half")
OURS: Final = Id("ours")
PLAIN: Final = Id("plain")
TOGETHER: Final = Id("together")
# Costs outside the path.
COLD_READ: Final = Id("cold-read")
LISTING: Final = Id("listing")
HEADER: Final = Id("header")
CROP_DECODE: Final = Id("crop-decode")
COLLATE: Final = Id("collate")
PIN: Final = Id("pin")
TO_DEVICE: Final = Id("to-device")
PILLOW_RANDAUGMENT: Final = Id("pillow-randaugment")
DEVICE_PLAIN: Final = Id("device-plain")
DEVICE_WITH: Final = Id("device+")
DEVICE_RANDAUGMENT: Final = Id("device+:RandAugment")
# Runs that differ by one part.
MODEL_ALONE: Final = Id("run-model")
WITH_LOADER: Final = Id("run-loader")
WITH_DECODE: Final = Id("run-decode")
WITH_AUGMENT: Final = Id("run-augment")
WARM: Final = Id("run-warm")
COLD: Final = Id("run-cold")
# Fixes, and the loaders that show their gain.
WORKERS: Final = Id("workers")
TURBO: Final = Id("turbo")
DALI: Final = Id("dali")
BETON: Final = Id("beton")
BETON_FFCV: Final = Id("beton-ffcv")
BETON_SMALL: Final = Id("beton-small")
DEVICE_AUGMENTATION: Final = Id("device-augmentation")
PROGRESSIVE: Final = Id("progressive")
CPUS: Final = Id("cpus")
RAM_CACHE: Final = Id("ram-cache")
FASTER_DISK: Final = Id("faster-disk")
PREFETCH: Final = Id("prefetch")

WORDS: Final[Mapping[str, str]] = {
    READ: "read",
    DECODE: "decode",
    CROP: "crop+resize",
    ASSEMBLY: "batch assembly",
    HOP: "process hop",
    OVERHEAD: "worker overhead",
    PIPELINE: "{} pipeline",
    DEVICE: "device stage",
    MODEL: "model step",
    HOST_HALF: "host half, 1 process",
    BACKEND_HALF: "host half, 1 worker",
    OURS: "fastpipe.DataLoader",
    PLAIN: "torch DataLoader",
    TOGETHER: "loader + model",
    COLD_READ: "read cold",
    LISTING: "list",
    HEADER: "header",
    CROP_DECODE: "decode of the crop",
    COLLATE: "collate",
    PIN: "pin",
    TO_DEVICE: "host to device",
    PILLOW_RANDAUGMENT: "RandAugment, Pillow",
    DEVICE_PLAIN: "device stage, plain",
    DEVICE_WITH: "device stage + {}",
    MODEL_ALONE: "model",
    WITH_LOADER: "+ loader",
    WITH_DECODE: "+ decode",
    WITH_AUGMENT: "+ augment",
    WARM: "warm",
    COLD: "cold",
    WORKERS: "{} worker{s}",
    TURBO: "backend turbo",
    DALI: "backend dali",
    BETON: ".beton, bytes kept",
    BETON_FFCV: ".beton, backend ffcv",
    BETON_SMALL: ".beton, max resolution {}",
    DEVICE_AUGMENTATION: "device augmentation",
    PROGRESSIVE: "progressive resizing",
    CPUS: "{} CPUs",
    RAM_CACHE: "RAM cache",
    FASTER_DISK: "disk twice as fast",
    PREFETCH: "prefetch_factor 4",
}
"""By the kind of an id; {} is its subject."""


def of(kind: Id, subject: object) -> Id:
    """The id of `kind` for one subject: a number of workers, a backend, an augmentation."""
    return Id(f"{kind}:{subject}")


def about(id: Id, kind: Id) -> str | None:
    """The subject of an id of that kind; None for an id of another kind."""
    found, colon, subject = id.partition(":")
    return subject if colon and found == kind else None


def words(id: Id) -> str:
    """Its name in reports."""
    kind, _, subject = id.partition(":")
    return WORDS[kind].format(subject, s="" if subject == "1" else "s")

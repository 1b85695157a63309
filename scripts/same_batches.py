"""The half of scripts/same-bytes that runs in each checkout's own Python: batches and states as hashes.

python same_batches.py batches DATA STATES OUT.json    # states are written into STATES
python same_batches.py continue DATA STATES OUT.json   # the loaders continue from the states in STATES
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from same_cases import BATCHES, Case
from same_data import DATASETS, TRANSFORMS, opened

EPOCHS = 2
BATCH_SIZE = 8
SAVED_AFTER = 5


def digest(value: Any) -> str:
    """A hash of all tensors and values in a batch or a state: type, shape, layout and bytes."""
    found = hashlib.sha256()
    for piece in _pieces(value):
        found.update(piece)
    return found.hexdigest()[:20]


def _pieces(value: Any) -> Iterable[bytes]:
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)} {value.stride()}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return
    if isinstance(value, Mapping):
        value = sorted(value.items(), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield f"{len(value)} of".encode()
        for one in value:
            yield from _pieces(one)
        for name in ("hard_labels", "partner", "weight"):  # of a mixed batch
            if hasattr(value, name):
                yield from _pieces(getattr(value, name))
        return
    yield f"{type(value).__name__} {value!r}".encode()


def loader_of(case: Case, data: Path) -> Any:
    """The loader of a case, with every generator of the script at a fixed state."""
    import fastpipe

    options = dict(case.options)
    for name in ("dtype", "memory_format"):
        if name in options:
            options[name] = getattr(torch, options[name])
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    transform, build = TRANSFORMS[case.transform](), DATASETS.get(case.data)
    dataset = opened(data, transform, case.data) if build is None else build(data, transform)
    if "sampler" in options:
        name, settings = options["sampler"]
        options["sampler"] = getattr(fastpipe, name)(dataset, num_replicas=2, rank=1, seed=3, **settings)
    steps = [step(fastpipe.augment) for step in case.steps] or None
    return fastpipe.DataLoader(dataset, BATCH_SIZE, augment=steps, **options)


def epochs(case: Case, data: Path) -> list[str]:
    """The hash of each batch of the epochs, and the skipped or replaced samples."""
    loader = loader_of(case, data)
    found = []
    for epoch in range(EPOCHS):
        if "sampler" in case.options:
            loader.set_epoch(epoch)
        found += [digest(batch) for batch in loader]
    return [*found, repr(sorted(loader.incident_counts().items()))]


def saved(case: Case, data: Path, path: Path) -> list[str]:
    """Write the state in the middle of an epoch, and return its hash."""
    loader = loader_of(case, data)
    batches = iter(loader)
    for _ in itertools.islice(batches, SAVED_AFTER):
        pass
    state = loader.state_dict()
    torch.save(state, path)
    return [digest(state)]


def continued(case: Case, data: Path, path: Path) -> list[str]:
    """The rest of the epoch from a state on, and the epoch after it."""
    loader = loader_of(case, data)
    loader.load_state_dict(torch.load(path, weights_only=True))
    return [digest(batch) for _ in range(EPOCHS) for batch in loader]


def attempt(work: Callable[..., list[str]], *arguments: Any) -> list[str]:
    """The result of `work`, or its failure, which never counts as equal."""
    try:
        return work(*arguments)
    except Exception as error:
        traceback.print_exc()
        return [f"failed: {type(error).__name__}: {error}"]


def compute(task: str, data: Path, states: Path) -> dict[str, list[str]]:
    """The hashes of all cases by name."""
    found: dict[str, list[str]] = {}
    for case in BATCHES:
        path = states / f"{re.sub('[^a-z0-9]+', '-', case.name.lower())}.pt"
        if task == "batches":
            found[case.name] = attempt(epochs, case, data)
            if case.state:
                found[f"{case.name}: state"] = attempt(saved, case, data, path)
        elif case.state:
            found[f"{case.name}: continued"] = attempt(continued, case, data, path)
    return found


def main(argv: Sequence[str]) -> int:
    """Do one task."""
    torch.set_num_threads(1)
    import fastpipe

    found = compute(argv[0], Path(argv[1]), Path(argv[2]))
    out = {"package": str(Path(fastpipe.__file__).resolve()), "hashes": found}
    Path(argv[3]).write_text(json.dumps(out), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The CPU time of one image on its way to the batch, timed in this process: what Tables 2 and 3 are about.

pillow  torchvision's way, as torch's workers do it: decode, crop, flip, RandAugment, to float, normalise
turbo   fastpipe's loader with the backend `turbo`; its device stage would be the GPU's, and is left out

On a machine without the GPUs of the tables, rates follow from it by the profiler's rule: the lower of what
the GPUs take and what the CPUs give. One published rate says what those CPUs are worth compared with these.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torchvision import transforms as T

from fastpipe import DataLoader
from fastpipe.train.betons import dataset_of
from fastpipe.train.config.schema import MEAN, STD
from fastpipe.train.splits import Images, open_data
from fastpipe.train.studies.design import Experiment, Loading, published

_BATCH, _WARM_UP, _REPEATS = 32, 2, 16
_MAGNITUDE = 9  # torchvision's default


def time_loading(data: str, work: Loading, *, held_out: float, seed: int) -> dict[str, float]:
    """CPU-ms and wall-ms per image on one thread: medians of 16 times 32 training images, after two more.

    The median leaves out what other processes did to the caches for a moment.
    """
    index = open_data(data, held_out=held_out).train
    order = random.Random(seed).choices(range(len(index)), k=(_WARM_UP + _REPEATS) * _BATCH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = (_pillow if work.backend == "pillow" else _turbo)(index, work, order, seed)
        return _timed(images)
    finally:
        torch.set_num_threads(threads)


def _timed(images: Iterator[object]) -> dict[str, float]:
    spent = []
    for _ in range(_WARM_UP + _REPEATS):
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in islice(images, _BATCH):
            pass
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_s, wall_s = (statistics.median(values) for values in zip(*spent[_WARM_UP:], strict=True))
    return {"cpu_ms": 1000.0 * cpu_s / _BATCH, "wall_ms": 1000.0 * wall_s / _BATCH, "repeats": _REPEATS}


def _transform(size: int, depth: int) -> T.Compose:
    policy: list[Any] = [T.RandAugment(num_ops=depth, magnitude=_MAGNITUDE)] if depth else []
    crop = [T.RandomResizedCrop(size), T.RandomHorizontalFlip()]
    return T.Compose([*crop, *policy, T.ToTensor(), T.Normalize(MEAN, STD)])


def _pillow(index: Images, work: Loading, order: Sequence[int], seed: int) -> Iterator[object]:
    dataset = dataset_of(index, _transform(work.size, work.depth))
    torch.manual_seed(seed)
    for position in order:
        yield dataset[position][0]


def _turbo(index: Images, work: Loading, order: Sequence[int], seed: int) -> Iterator[object]:
    loader: DataLoader[Any] = DataLoader(
        dataset_of(index, _transform(work.size, 0)),
        batch_size=_BATCH,
        sampler=order,
        num_workers=0,
        seed=seed,
        backend="turbo",
        engine="none",
    )
    for batch in loader:  # images, labels, and what a device stage would need
        yield from batch[0]


def predicted_rates(experiment: Experiment, cpu_ms: Mapping[str, float]) -> dict[str, float]:
    """images/s of the published machines for each arm, from the CPU-ms per image of all arms of one seed.

    rate = min(GPUs, worth * cores / cpu_ms), where the published rate of one arm is the GPUs', and that of
    another, which its CPUs limit, gives `worth`.
    """
    assert experiment.rates is not None
    by_gpus, by_cpus = (experiment.arm(name) for name in experiment.rates)
    demand, limited = (published(experiment.point(arm), "images_per_s") for arm in (by_gpus, by_cpus))
    assert demand is not None and limited is not None
    worth = limited * cpu_ms[by_cpus.name] / _cores(experiment, by_cpus.name)
    return {name: min(demand, worth * _cores(experiment, name) / spent) for name, spent in cpu_ms.items()}


def _cores(experiment: Experiment, name: str) -> float:
    work = experiment.arm(name).loading
    assert work is not None
    return work.cores

"""The loaders of a run: one for training, one for each split that is only measured."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torchvision import transforms as T

from fastpipe.backends.registry import BACKENDS, load
from fastpipe.batch import DistributedEvalSampler, DistributedSampler, RepeatAugSampler
from fastpipe.batch.locate import storage_kind
from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.loader import DataLoader
from fastpipe.storage import FolderIndex, open_images
from fastpipe.system.machine import MOST_OF_A_COMMAND, this_machine, worker_count
from fastpipe.train.algorithms.channels_last import memory_format
from fastpipe.train.algorithms.progressive_resizing import ProgressiveSize
from fastpipe.train.algorithms.ramp_resizing import RampSize
from fastpipe.train.augment import augment_specs, resizes_on_device, side_after_colout
from fastpipe.train.betons import as_beton, dataset_of
from fastpipe.train.config.checks import round_to_multiple
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.distributed import local_world_size
from fastpipe.train.splits import Images
from fastpipe.train.tables import TablePart
from fastpipe.types import Shard

_ALONE = Shard()


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches in `num_images`, the smaller last one dropped. Raises ArgumentError when none is left."""
    if batch_size > num_images:
        raise ArgumentError(
            f"batch_size must be at most the number of training images ({num_images}), since an incomplete "
            f"last batch is dropped. Found: {batch_size}. Lower it, or give --fit-to-data true"
        )
    return num_images // batch_size


def resolve_workers(num_workers: int | str) -> int:
    """Decoding processes of this process; auto is its share of the usable CPUs, 1 to 8."""
    if num_workers == "auto":
        return worker_count(this_machine().cpus, local_world_size(), most=MOST_OF_A_COMMAND)
    return int(num_workers)


def size_function(config: TrainConfig, steps: int) -> ProgressiveSize | RampSize | None:
    """The image side as a function of (epoch, batch) for `steps` per epoch; None if it is constant."""
    progressive = config.progressive_resizing
    if progressive is None:
        return None
    if progressive.kind == "ffcv":
        return RampSize(
            initial=round_to_multiple(config.train_resolution * progressive.initial_scale, 4),
            full=config.train_resolution,
            start_epoch=progressive.start_epoch,
            end_epoch=progressive.end_epoch,
        )
    return ProgressiveSize(
        steps_per_epoch=steps,
        total_steps=steps * config.epochs,
        full_size=side_after_colout(config) if resizes_on_device(config) else config.train_resolution,
        initial_scale=progressive.initial_scale,
        delay_fraction=progressive.delay_fraction,
        finetune_fraction=progressive.finetune_fraction,
        size_increment=progressive.size_increment,
    )


def resolution_of(config: TrainConfig, steps: int) -> ProgressiveSize | RampSize | None:
    """As `size_function`, with a warning if the size never changes."""
    size_of = size_function(config, steps)
    if isinstance(size_of, RampSize) and size_of.start_epoch >= config.epochs - 1:
        warnings.warn(
            f"progressive_resizing.start_epoch {size_of.start_epoch:g} is not reached in {config.epochs} "
            f"epochs: no size changes",
            NoEffectWarning,
            stacklevel=2,
        )
    if isinstance(size_of, ProgressiveSize) and size_of(0, 0) == size_of.full_size:
        warnings.warn(
            f"progressive_resizing starts at the full {size_of.full_size} pixels: no size changes",
            NoEffectWarning,
            stacklevel=2,
        )
    return size_of


def train_loader(
    config: TrainConfig, index: Images, shard: Shard = _ALONE, device: torch.device | None = None
) -> DataLoader[Any]:
    """Random crops, flips and the recipe's augmentations at the step's resolution; full batches only.

    `shard` gets its share of every batch, so all ranks together see the same images at every world size.
    device: where the run computes; None is the loader's own choice, the current GPU if there is one.
    """
    transform = T.Compose(
        [
            T.RandomResizedCrop(config.train_resolution, interpolation=_filter(config)),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(config.mean, config.std),
        ]
    )
    steps = steps_per_epoch(len(index), config.batch_size)
    return _loader(
        config,
        index,
        transform,
        shard,
        device,
        sampler=_order(config, index, shard),
        drop_last=True,
        resolution=resolution_of(config, steps),
        augment=augment_specs(config),
    )


def eval_loader(
    config: TrainConfig,
    index: Images,
    shard: Shard = _ALONE,
    device: torch.device | None = None,
    *,
    quarantine: bool = True,
) -> DataLoader[Any]:
    """The centre of every image, exactly once over all ranks: sum the counts over the ranks.

    quarantine: whether images that were broken before are left out untried, and new ones are listed.
    """
    transform = T.Compose(
        [
            T.Resize(config.val_resize, interpolation=_filter(config)),
            T.CenterCrop(config.val_resolution),
            T.ToTensor(),
            T.Normalize(config.mean, config.std),
        ]
    )
    sampler = DistributedEvalSampler(index, shard.world_size, shard.rank)
    return _loader(
        config,
        index,
        transform,
        shard,
        device,
        sampler=sampler,
        drop_last=False,
        resolution=None,
        quarantine=None if quarantine else False,
    )


def _order(config: TrainConfig, index: Images, shard: Shard) -> DistributedSampler:
    """The order of this rank. No padding: an epoch has as many steps at every world size."""
    place: dict[str, Any] = {"num_replicas": shard.world_size, "rank": shard.rank, "seed": config.seed}
    if config.repeated_augmentation == 1:
        return DistributedSampler(index, drop_last=True, **place)
    # timm rounds an epoch down to a multiple of 256 images; here it keeps its steps.
    return RepeatAugSampler(
        index, num_repeats=config.repeated_augmentation, selected_round=config.batch_size, **place
    )


def _filter(config: TrainConfig) -> T.InterpolationMode:
    return T.InterpolationMode(config.interpolation)


def _loader(
    config: TrainConfig,
    index: Images,
    transform: Any,
    shard: Shard,
    device: torch.device | None,
    **settings: Any,
) -> DataLoader[Any]:
    workers = resolve_workers(config.num_workers)
    # A GPU was made the current one, which is the loader's choice; only to leave it idle must be said.
    idle_gpu = device is not None and device.type == "cpu" and torch.cuda.is_available()
    return DataLoader(
        _dataset(config, index, transform),
        batch_size=config.batch_size // shard.world_size,
        num_workers=workers,
        # Its own generator, so that a resumed run's new workers take no draws from stochastic depth.
        generator=torch.Generator(),
        persistent_workers=workers > 0,
        seed=config.seed,
        backend=config.backend,
        on_error=config.on_error,
        max_bad=config.max_bad,
        numerics="exact",  # training and validation must resize alike, whichever backend serves
        memory_format=memory_format(config.channels_last),
        strict_resume=True,  # a run that is not continued exactly is refused, not warned about
        device=device if idle_gpu else None,
        **settings,
    )


def _dataset(config: TrainConfig, images: Images, transform: Any) -> Any:
    """The images in a form that the loader takes: a copy in one file if the backend cannot read them."""
    dataset = dataset_of(images, transform)
    if config.backend in BACKENDS and not load(config.backend).capabilities.reads(storage_kind(dataset)):
        if isinstance(images, TablePart):
            reads = [name for name in BACKENDS if load(name).capabilities.reads(storage_kind(dataset))]
            raise ArgumentError(
                f"backend must be auto or one of {', '.join(reads)} for {images.root!r}, no .beton file. "
                f"Found: {config.backend!r}"
            )
        return open_images(as_beton(cast("FolderIndex", images)), transform)
    return dataset

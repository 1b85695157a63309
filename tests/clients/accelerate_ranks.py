"""What accelerate makes of a loader in each mode: `accelerate_ranks.py PHOTOS`, alone or by torchrun.

Every mode is run with torch's loader and with ours, over the same order; an assertion says what differs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.utils.data
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import broadcast_object_list, gather_object
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import augment

TAIL = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *TAIL])
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
BATCH = 4
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "split": {"split_batches": True},
    "dispatch": {"dispatch_batches": True},
    "dispatch, split": {"dispatch_batches": True, "split_batches": True},
    "uneven": {"even_batches": False},
    "seedable": {"use_seedable_sampler": True},
    "non_blocking": {"non_blocking": True},
}
HOT = (augment.RandAugment(depth=1, severity=10),)


def ids_as_labels(root: str, transform: Any) -> ImageFolder:
    """Labels are sample ids, so that batches tell who got what."""
    dataset = ImageFolder(root, transform)
    dataset.samples = [(path, index) for index, (path, _) in enumerate(dataset.samples)][:22]
    return dataset


def made(**config: Any) -> Accelerator:
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))


def same_batches_as_torch(root: str, mode: str, num_workers: int) -> None:
    """Which images in which batch of which rank, and their pixels: torch's loader decides."""
    accelerator = made(**MODES[mode])
    theirs, ours = (
        accelerator.prepare(kind(ids_as_labels(root, EVAL), BATCH, num_workers=num_workers))
        for kind in (torch.utils.data.DataLoader, fastpipe.DataLoader)
    )
    assert isinstance(ours, fastpipe.DataLoader) and ours.explain().lifted
    assert len(ours) == len(theirs)
    expected, found = list(theirs), list(ours)
    assert len(found) == len(expected), (len(found), len(expected))
    for (images, labels), (pixels, ids) in zip(expected, found, strict=True):
        assert torch.equal(labels, ids), (labels, ids)
        assert torch.equal(images, pixels)
    assert ours.end_of_dataloader == theirs.end_of_dataloader and ours.remainder == theirs.remainder
    inner = ours.base_dataloader
    assert (type(inner).__name__, type(iter(inner)).__name__) == ("PreparedLoader", "EpochIterator")


def hot(root: str, **more: Any) -> fastpipe.DataLoader:
    asked = dict(
        seed=5,
        augment=HOT,
        memory_format=torch.channels_last,
        resolution=lambda epoch, batch: 24 + 8 * (batch % 2),
    )
    return fastpipe.DataLoader(ids_as_labels(root, TRAIN), BATCH, shuffle=True, **{**asked, **more})


def everything_asked_for_survives(root: str, mode: str) -> None:
    """Each image has the crop, flip and operations that it has without accelerate, in the same order."""
    resolution = 28  # in dispatch mode batches of two sizes cannot be put together
    alone = hot(root, resolution=resolution)
    order = torch.cat([labels for _, labels in alone]).tolist()
    alone.set_epoch(0)
    pixels = {int(one): image for images, labels in alone for image, one in zip(images, labels, strict=True)}
    accelerator = made(**MODES[mode])
    prepared = accelerator.prepare(hot(root, resolution=resolution))
    seen: list[list[int]] = []
    for images, labels in prepared:
        assert images.shape[2:] == (resolution, resolution)
        assert images.is_contiguous(memory_format=torch.channels_last)
        before = {one for batch in seen for one in batch}
        seen.append(labels.tolist())
        for image, one in zip(images, labels.tolist(), strict=True):
            # An image that fills up the last batch comes a second time, with draws of its own.
            assert one in before or torch.equal(image, pixels[one]), one
    steps: list[list[list[int]]] = gather_object([seen])
    ranks = accelerator.num_processes
    dealt = (
        [one for step in zip(*steps, strict=True) for part in step for one in part]
        if mode != "uneven"
        else None
    )
    if dealt is not None:
        assert dealt[: len(order)] == order, (ranks, dealt, order)
    else:
        assert sorted(one for rank in steps for batch in rank for one in batch) == sorted(order)


def an_epoch_left_early_is_over(root: str) -> None:
    """Behind a `break` the next order comes; what set_epoch says holds."""
    alone = hot(root)
    orders = [torch.cat([labels for _, labels in alone]).tolist() for _ in range(4)]
    prepared = made().prepare(hot(root))

    def first() -> list[int]:
        labels: list[int] = next(iter(prepared))[1].tolist()
        return labels

    rank, size = made().process_index, BATCH
    place = slice(rank * size, (rank + 1) * size)
    assert [first(), first(), first()] == [order[place] for order in orders[:3]]
    prepared.set_epoch(1)
    assert first() == orders[1][place]
    list(prepared)
    assert first() == orders[3][place]


def skipped_batches_are_the_rest(root: str, mode: str) -> None:
    """skip_first_batches leaves the others as they are: ids, pixels, sizes, and MixUp's weights."""
    accelerator = made(**MODES[mode])
    mixed = dict(augment=(augment.MixUp(alpha=0.4),), num_classes=64)
    if "dispatch" in mode:
        mixed |= {"augment": HOT, "resolution": 24}
    prepared = accelerator.prepare(hot(root, **mixed))
    list(prepared)
    whole = list(prepared)
    prepared.set_epoch(1)
    rest = accelerator.skip_first_batches(prepared, 2)
    assert isinstance(rest, fastpipe.DataLoader) and rest.explain().lifted
    found = list(rest)
    # Of batches that one rank loads for all, accelerate skips as many as it loads, not as it hands out.
    skipped = 2 // accelerator.num_processes if mode == "dispatch" else 2
    assert len(found) == len(whole) - skipped == len(rest), (len(found), len(whole), len(rest))
    for (images, labels), (pixels, ids) in zip(whole[skipped:], found, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, ids)
    # The next epoch is the next one, of whichever of the two.
    assert torch.equal(list(prepared)[-1][1], _epoch(root, accelerator, mixed, 2)[-1][1])


def _epoch(root: str, accelerator: Accelerator, asked: dict[str, Any], epoch: int) -> list[Any]:
    prepared = accelerator.prepare(hot(root, **asked))
    prepared.set_epoch(epoch)
    return list(prepared)


def a_saved_state_goes_on(root: str, folder: str) -> None:
    """save_state and load_state with use_stateful_dataloader: the next batch is the next one."""
    accelerator = made(use_stateful_dataloader=True)
    prepared = accelerator.prepare(hot(root))
    list(prepared)
    rest = []
    for number, batch in enumerate(prepared):
        if number == 1:
            accelerator.save_state(folder)
        if number > 1:
            rest.append(batch)
    again = made(use_stateful_dataloader=True)
    resumed = again.prepare(hot(root))
    again.load_state(folder)
    found = list(resumed)
    assert len(found) == len(rest) > 0, (len(found), len(rest))
    for (images, labels), (pixels, ids) in zip(rest, found, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, ids)
    assert resumed.state_dict()["finished"]


def main(root: str) -> None:
    accelerator = made()

    def passed(what: str) -> None:
        if accelerator.is_main_process:
            print(f"{what}, {accelerator.num_processes} ranks", flush=True)

    for mode in MODES:
        num_workers = 2 * (mode in ("plain", "dispatch"))
        same_batches_as_torch(root, mode, num_workers)
        passed(f"the batches of torch's loader: {mode}, {num_workers} workers")
    for mode in MODES:
        everything_asked_for_survives(root, mode)
        passed(f"augment, channels_last, resolution, order of seed= survive: {mode}")
    an_epoch_left_early_is_over(root)
    passed("an epoch left early is followed by the next order: plain")
    for mode in ("plain", "split", "dispatch", "uneven"):
        skipped_batches_are_the_rest(root, mode)
        passed(f"skip_first_batches, with MixUp unless dispatched: {mode}")
    try:
        import torchdata.stateful_dataloader  # noqa: F401
    except ImportError:
        passed("use_stateful_dataloader not tried, since accelerate asks for torchdata: plain")
    else:
        folders = [tempfile.mkdtemp() if accelerator.is_main_process else ""]
        a_saved_state_goes_on(root, broadcast_object_list(folders)[0])
        passed("save_state and load_state in mid-epoch: use_stateful_dataloader")
    accelerator.end_training()


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))

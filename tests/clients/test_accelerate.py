"""accelerate's `prepare()`: what was asked of the loader is still there, or a warning says that it is not."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate.data_loader
import pytest
import torch
import torch.utils.data
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.utils.data import BatchSampler, TensorDataset, WeightedRandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import augment
from fastpipe.integrations import source_of

TAIL = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
EVAL = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), *TAIL])
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
RANKS = Path(__file__).with_name("accelerate_ranks.py")


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def made(**config: Any) -> Accelerator:
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))


def hot(photos: Path, **more: Any) -> fastpipe.DataLoader:
    asked: dict[str, Any] = dict(
        augment=[augment.RandAugment(depth=1, severity=10), augment.MixUp(alpha=0.25)],
        seed=1,
        memory_format=torch.channels_last,
        resolution=48,
        on_error="replace",
        quarantine=False,
    )
    return fastpipe.DataLoader(photos, 8, shuffle=True, transform=TRAIN, **{**asked, **more})


@pytest.mark.parametrize("dispatch_batches", [None, True])
def test_batches_after_prepare_are_those_before(photos: Path, dispatch_batches: bool | None) -> None:
    expected = list(hot(photos))
    kept = dict(augment=[augment.RandAugment(depth=1, severity=10)]) if dispatch_batches else {}
    expected = list(hot(photos, **kept))
    prepared = made(dispatch_batches=dispatch_batches).prepare(hot(photos, **kept))
    assert isinstance(prepared, fastpipe.DataLoader) and prepared.explain().lifted
    for (images, labels), (pixels, soft) in zip(expected, prepared, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, soft)
        assert pixels.shape[2:] == (48, 48) and pixels.is_contiguous(memory_format=torch.channels_last)
    assert prepared.end_of_dataloader


def test_what_mixup_made_is_still_with_the_batch(photos: Path) -> None:
    (alone, *_), (batch, *_) = list(hot(photos)), list(made().prepare(hot(photos)))
    assert torch.equal(batch.hard_labels, alone.hard_labels) and torch.equal(batch.partner, alone.partner)
    assert batch.weight == alone.weight


def test_a_seeded_loader_left_early_goes_on_to_the_next_order(photos: Path) -> None:
    alone = hot(photos, augment=None)
    orders = [[labels.tolist() for _, labels in alone] for _ in range(3)]
    prepared = made().prepare(hot(photos, augment=None))
    for order in orders:
        assert next(iter(prepared))[1].tolist() == order[0]
    prepared.set_epoch(0)
    assert [labels.tolist() for _, labels in prepared] == orders[0]


def test_the_doors_are_found_in_every_order_of_imports(photos: Path) -> None:
    """A loader from before `import accelerate`, a copy, one out of a pickle; accelerate's own function."""
    program = (
        "import sys, fastpipe, pickle\n"
        "from torchvision import transforms as T\n"
        "pipeline = T.Compose([T.RandomResizedCrop(32), T.ToTensor()])\n"
        f"loader = fastpipe.DataLoader({str(photos)!r}, 8, transform=pipeline, seed=3, resolution=40)\n"
        "assert 'accelerate' not in sys.modules\n"
        "from accelerate import Accelerator\n"
        "for one in (loader, pickle.loads(pickle.dumps(loader))):\n"
        "    prepared = Accelerator(cpu=True).prepare(one)\n"
        "    assert prepared.seed == 3 and next(iter(prepared))[0].shape[-1] == 40\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for loader in (hot(photos), copy.copy(hot(photos)), pickle.loads(pickle.dumps(hot(photos)))):
        assert made().prepare(loader).resolution == 48
    assert prepare_data_loader(hot(photos), put_on_device=True, device=torch.device("cpu")).resolution == 48


def test_an_unprepared_loader_keeps_everything_in_skip_first_batches(photos: Path) -> None:
    whole = list(hot(photos))
    rest = skip_first_batches(hot(photos), 1)
    assert isinstance(rest, fastpipe.DataLoader)
    for (images, labels), (pixels, soft) in zip(whole[1:], rest, strict=True):
        assert torch.equal(images, pixels) and torch.equal(labels, soft)


def test_seed_wins_over_accelerates_seedable_sampler(photos: Path) -> None:
    order = [labels.tolist() for _, labels in hot(photos, augment=None)]
    prepared = made(use_seedable_sampler=True).prepare(hot(photos, augment=None))
    assert [labels.tolist() for _, labels in prepared] == order


def test_torchs_own_loaders_are_left_alone(photos: Path) -> None:
    kept = hot(photos)  # steps in, and is over the same files
    dataset = ImageFolder(str(photos), EVAL)
    prepared = made().prepare(torch.utils.data.DataLoader(dataset, 8))
    assert not isinstance(prepared, fastpipe.DataLoader) and len(list(prepared)) == 3
    assert source_of(dataset, None) is None and kept.seed == 1


def test_a_subclass_that_is_left_behind_is_named(photos: Path) -> None:
    class Mine(fastpipe.DataLoader):
        pass

    with pytest.warns(UserWarning, match="what Mine adds is lost"):
        assert made().prepare(Mine(photos, 8, transform=EVAL, resolution=40)).resolution == 40


class _Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


def test_what_cannot_be_served_is_named() -> None:
    with pytest.warns(UserWarning, match=r"no batch sampler .* device='cpu' is lost"):
        assert len(list(made().prepare(fastpipe.DataLoader(_Stream(), 4, device="cpu")))) == 2
    numbers = TensorDataset(torch.arange(8))
    with pytest.warns(UserWarning, match="seed=3 is lost"):
        made().prepare(fastpipe.DataLoader(numbers, batch_size=None, seed=3))


def test_an_accelerate_without_its_doors_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = hot(photos)
    monkeypatch.delattr(accelerate.data_loader, "DataLoaderAdapter")
    with pytest.warns(UserWarning, match=r"has no DataLoaderAdapter: install accelerate>=1\.0: .*seed=1"):
        assert not hasattr(loader, "_is_accelerate_prepared")


def test_a_gpu_that_accelerate_leaves_alone_is_left_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = made()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert accelerator.prepare(hot(photos)).base_dataloader.device == torch.device("cpu")
    assert accelerator.prepare(hot(photos, device="cuda:1")).base_dataloader.device == "cuda:1"


def test_dispatching_says_what_does_not_arrive(photos: Path) -> None:
    with pytest.warns(UserWarning, match="no hard_labels, partner and weight"):
        made(dispatch_batches=True).prepare(hot(photos))
    with pytest.warns(UserWarning, match="cannot send the parameters of engine='none'"):
        made(dispatch_batches=True).prepare(hot(photos, engine="none", augment=None))


def test_an_unlifted_loader_with_seed_keeps_it() -> None:
    class Own(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.rand(2) + index

    expected = list(fastpipe.DataLoader(Own(), 4, shuffle=True, seed=2))
    prepared = made().prepare(fastpipe.DataLoader(Own(), 4, shuffle=True, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(expected, prepared, strict=True))


def test_ids_that_repeat_in_a_batch_sampler_have_draws_of_their_own(photos: Path) -> None:
    """The sampler inside a batch sampler counts, not the SequentialSampler that torch puts beside it."""
    weights = [1.0] + [0.0] * 23
    sampler = BatchSampler(WeightedRandomSampler(weights, 8), 4, False)
    dataset = ImageFolder(str(photos), TRAIN)
    for loader in (fastpipe.DataLoader(dataset, batch_sampler=sampler, seed=1),):
        images = torch.cat([images for images, _ in loader])
        assert len(torch.unique(images.flatten(1), dim=0)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_mode_with_so_many_processes(photos: Path, ranks: int) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [*start, str(RANKS), str(photos)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("skip_first_batches, ") == 4

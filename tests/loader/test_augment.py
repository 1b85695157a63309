"""augment=[...] through the loader: places, labels, keys, explanation, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import ArgumentError, DataLoader, augment
from fastpipe.batch import current_rank

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAIL = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])
HOT = [augment.RandAugment(), augment.ColOut(p_row=0.05, p_col=0.05), augment.MixUp(0.25)]


def loader(photos: Any, specs: Any, **options: Any) -> DataLoader:
    dataset = ImageFolder(str(photos), options.pop("transform", TRAIN))
    return DataLoader(dataset, options.pop("batch_size", 7), seed=1, augment=specs, **options)


def batches(data: DataLoader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images, labels) for images, labels in data]


def test_the_hot_pipeline(photos: Any) -> None:
    """24 photos in batches of 7: the last one is shorter, and everything is as wide as it should be."""
    data = loader(photos, HOT, shuffle=True)
    sizes = []
    for batch in data:
        images, labels = batch
        sizes.append(len(images))
        assert images.shape[1:] == (3, 30, 30) and images.dtype == torch.float32
        assert labels.shape == (len(images), 3) and labels.dtype == torch.float32
        assert torch.equal(labels.sum(1), torch.ones(len(images)))
        assert batch.hard_labels.dtype == torch.int64 and batch.partner.shape == (len(images),)
        one_hot = torch.nn.functional.one_hot(batch.hard_labels, 3).float()
        expected = (1 - batch.weight) * one_hot + batch.weight * one_hot[batch.partner]
        torch.testing.assert_close(labels, expected, rtol=0, atol=1e-6)
    assert sizes == [7, 7, 7, 3]


def test_a_last_batch_of_one(photos: Any) -> None:
    last = list(loader(photos, HOT, batch_size=23))[-1]
    assert last[0].shape == (1, 3, 30, 30) and sorted(last[1].tolist()[0]) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(photos: Any, workers: int) -> None:
    specs = [
        augment.RandAugment(depth=2),
        augment.ColOut(),
        augment.RandomErasing(),
        augment.RandomChoice([augment.MixUp(0.2), augment.CutMix(1.0)]),
    ]
    alone = batches(loader(photos, specs, shuffle=True))
    shared = batches(loader(photos, specs, shuffle=True, num_workers=workers))
    for (images, labels), (other_images, other_labels) in zip(alone, shared, strict=True):
        assert torch.equal(images, other_images) and torch.equal(labels, other_labels)


def test_engines_agree(photos: Any) -> None:
    fused = batches(loader(photos, HOT))
    for (images, labels), (others, other_labels) in zip(
        fused, batches(loader(photos, HOT, engine="torch")), strict=True
    ):
        assert torch.equal(images, others) and torch.equal(labels, other_labels)


def test_epochs_and_ranks_mix_differently(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(data: DataLoader) -> list[float]:
        return [batch.weight for batch in data]

    data = loader(photos, [augment.MixUp(1.0)])
    first = weights(data)
    assert first != weights(data), "a second epoch"
    assert first == weights(loader(photos, [augment.MixUp(1.0)]))
    monkeypatch.setattr("fastpipe.loader.supply.current_rank", lambda: 1)
    assert first != weights(loader(photos, [augment.MixUp(1.0)]))


def test_the_rank_is_the_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_rank() == 0
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    assert current_rank() == 3


def test_a_resumed_epoch_mixes_as_it_would_have(photos: Any) -> None:
    data = loader(photos, HOT)
    iterator = iter(data)
    next(iterator)
    state = data.state_dict()
    rest = [(images, labels) for images, labels in iterator]
    again = loader(photos, HOT)
    again.load_state_dict(state)
    for (images, labels), (others, other_labels) in zip(rest, batches(again), strict=True):
        assert torch.equal(images, others) and torch.equal(labels, other_labels)


def test_engine_none_yields_the_draws(photos: Any) -> None:
    images, labels, params = next(iter(loader(photos, HOT, engine="none")))
    assert images.shape == (7, 32, 32, 3) and images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert params.mix.partner.shape == (7,) and params.colout.rows.shape == (30,)
    np.testing.assert_array_equal(np.sort(params.mix.partner), np.arange(7))


def test_a_resolution_per_batch(photos: Any) -> None:
    data = loader(photos, HOT, resolution=lambda epoch, batch: (40, 20, 32, 24)[batch])
    assert [images.shape[2] for images, _ in data] == [38, 19, 30, 22]


def test_a_resolution_per_batch_on_the_device(photos: Any) -> None:
    """32 pixels decoded, 30 after ColOut, then what the resolution says."""
    specs = [*HOT, augment.Resize(24, interpolation="nearest")]
    assert next(iter(loader(photos, specs)))[0].shape == (7, 3, 24, 24)
    data = loader(photos, specs, resolution=lambda epoch, batch: (40, 20, 32, 24)[batch])
    decoded = next(iter(loader(photos, specs, resolution=20, engine="none")))[0]
    assert [images.shape[2] for images, _ in data] == [40, 20, 32, 24]
    assert decoded.shape == (7, 32, 32, 3)


def test_explain_lists_them(photos: Any) -> None:
    text = str(loader(photos, HOT).explain())
    for words in ("RandAugment(space='composer'", "ColOut(", "MixUp(alpha=0.25)", "added by augment="):
        assert words in text
    assert "labels: float32 [B, 3], mixed" in text


def test_classes_from_the_argument_the_dataset_or_an_error(photos: Any) -> None:
    _, labels = next(iter(loader(photos, HOT, num_classes=11)))
    assert labels.shape == (7, 11)
    data = loader(photos, HOT)
    data.dataset.classes = None
    with pytest.raises(ArgumentError, match=r"num_classes must be given for MixUp.*Pass num_classes="):
        next(iter(data))
    assert "unknown" in str(data.explain())
    few = loader(photos, HOT, num_classes=2, batch_size=24)
    with pytest.raises(fastpipe.DataError, match=r"labels must be in 0..1 \(num_classes=2\)"):
        next(iter(few))


def test_subsets_know_their_classes(photos: Any) -> None:
    subset = torch.utils.data.Subset(ImageFolder(str(photos), TRAIN), range(5))
    _, labels = next(iter(DataLoader(subset, 5, seed=0, augment=[augment.CutMix(1.0)])))
    assert labels.shape == (5, 3)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "ten"])
def test_bad_num_classes(photos: Any, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"num_classes must be an int >= 1. Found"):
        loader(photos, HOT, num_classes=wrong)


def test_mixing_needs_a_float_pipeline(photos: Any) -> None:
    levels = transforms.Compose([transforms.RandomResizedCrop(32), transforms.PILToTensor()])
    with pytest.raises(ArgumentError, match=r"MixUp\(alpha=0.25\) to a pipeline that stays uint8"):
        next(iter(loader(photos, [augment.MixUp(0.25)], transform=levels)))
    images, _ = next(iter(loader(photos, [augment.ColOut(p_row=0.5, p_col=0.25)], transform=levels)))
    assert images.dtype == torch.uint8 and images.shape == (7, 3, 16, 24)


def test_two_mixes_are_one_too_many(photos: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"CutMix\(alpha=1.0\), but the pipeline already has a step of that kind"
    ):
        next(iter(loader(photos, [augment.MixUp(0.2), augment.CutMix(1.0)])))


def test_nothing_lifted_nothing_mixed(photos: Any) -> None:
    dataset = ImageFolder(str(photos), TRAIN)
    with pytest.raises(ArgumentError, match="augment cannot be honoured"):
        next(iter(DataLoader(dataset, 4, collate_fn=list, augment=HOT)))

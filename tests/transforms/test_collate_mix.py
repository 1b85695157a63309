"""torchvision's MixUp and CutMix in a collate_fn: lifted where it is provably that, with its distribution."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from scipy import stats
from torch.utils import data
from torch.utils.data import dataloader, default_collate
from torch.utils.data import default_collate as renamed
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import fastpipe
from fastpipe import ArgumentError
from fastpipe.device.draws.batch import draw_mix
from fastpipe.transforms.collate_mix import read_collate
from fastpipe.transforms.mix_specs import RandomChoice, TorchvisionCutMix, TorchvisionMixUp
from fastpipe.types import Request

mixup = v2.MixUp(alpha=0.2, num_classes=3)
cutmix = v2.CutMix(alpha=1.0, num_classes=3)
mixup_cutmix = v2.RandomChoice([mixup, cutmix])
PIPELINE = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])


def references(mix: Any) -> Any:
    """As torchvision's references/classification/train.py makes it."""

    def collate_fn(batch: Any) -> Any:
        """Mixed."""
        return mix(*default_collate(batch))

    return collate_fn


def in_two_steps(samples: Any) -> Any:
    images, labels = default_collate(samples)
    return mixup(images, labels)


def renewed(batch: Any) -> Any:
    batch = renamed(batch)
    return cutmix(*batch)


def with_mix(mix: Any, batch: Any) -> Any:
    return mix(*torch.utils.data.default_collate(batch))


def by_default(batch: Any, mix: Any = mixup) -> Any:
    return mix(data.default_collate(batch))


def enclosed(zz: Any, aa: Any) -> Any:
    return lambda batch: zz(*aa(batch))


KNOWN = {
    "references": (references(mixup_cutmix), RandomChoice),
    "lambda": (lambda batch: mixup(*default_collate(batch)), TorchvisionMixUp),
    "attribute": (lambda b: cutmix(*dataloader.default_collate(b)), TorchvisionCutMix),
    "in two steps": (in_two_steps, TorchvisionMixUp),
    "renewed": (renewed, TorchvisionCutMix),
    "partial": (functools.partial(with_mix, cutmix), TorchvisionCutMix),
    "partial by name": (functools.partial(by_default, mix=cutmix), TorchvisionCutMix),
    "default": (by_default, TorchvisionMixUp),
    "enclosed": (enclosed(mixup, default_collate), TorchvisionMixUp),
    "enclosed otherwise": (
        (lambda aa, zz: lambda batch: aa(*zz(batch)))(mixup, default_collate),
        TorchvisionMixUp,
    ),
}


def own_collate(batch: Any) -> Any:
    return default_collate(batch)


def kept(batch: Any) -> Any:
    images, labels = default_collate(batch)
    return mixup(labels, images)


def conditional(batch: Any) -> Any:
    return mixup(*default_collate(batch)) if len(batch) > 1 else default_collate(batch)


def patched() -> Any:
    mixer = v2.MixUp(alpha=0.2, num_classes=3)
    mixer.forward = lambda *batch: batch  # type: ignore[method-assign]
    return references(mixer)


class Mine(v2.MixUp):
    pass


UNKNOWN = {
    "another collate": lambda batch: mixup(*own_collate(batch)),
    "another order": kept,
    "a condition": conditional,
    "on the way": lambda batch: mixup(*default_collate(batch[:2])),
    "twice": lambda batch: cutmix(*mixup(*default_collate(batch))),
    "a subclass": references(Mine(alpha=0.2, num_classes=3)),
    "another forward": patched(),
    "own labels_getter": references(v2.MixUp(num_classes=3, labels_getter=lambda batch: batch[1])),
    "no num_classes": references(v2.MixUp(alpha=0.2)),
    "two num_classes": references(v2.RandomChoice([mixup, v2.CutMix(num_classes=4)])),
    "not a mixer": references(v2.Identity()),
    "the mixer as batch": functools.partial(with_mix, batch=mixup),
    "several arguments": lambda *batch: mixup(*default_collate(batch)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_forms_are_read(name: str) -> None:
    collate_fn, kind = KNOWN[name]
    found = read_collate(collate_fn)
    assert found is not None and type(found.spec) is kind and found.num_classes == 3


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_forms_are_not(name: str) -> None:
    assert read_collate(UNKNOWN[name]) is None


def test_a_name_that_means_something_else_by_now_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    collate_fn = KNOWN["lambda"][0]
    monkeypatch.setitem(globals(), "default_collate", own_collate)
    assert read_collate(collate_fn) is None


def loader(photos: Path, collate_fn: Any, **more: Any) -> fastpipe.DataLoader:
    return fastpipe.DataLoader(ImageFolder(str(photos), PIPELINE), 6, collate_fn=collate_fn, **more)


@pytest.mark.parametrize("name", KNOWN)
def test_lifted_batches_are_what_the_mixer_makes_of_its_draws(photos: Path, name: str) -> None:
    lifted = loader(photos, KNOWN[name][0], seed=3)
    assert lifted.explain().lifted, lifted.explain()
    plain = torch.utils.data.DataLoader(ImageFolder(str(photos), PIPELINE), 6)
    for (images, labels), batch in zip(plain, lifted, strict=True):
        mixed, soft = batch
        lam = 1.0 - batch.weight
        assert torch.equal(batch.partner, torch.arange(6).roll(1)) and torch.equal(batch.hard_labels, labels)
        hot = torch.nn.functional.one_hot(labels, 3).float()
        torch.testing.assert_close(soft, hot.roll(1, 0) * (1 - lam) + hot * lam)
        blended = images.roll(1, 0) * (1 - lam) + images * lam
        pasted = (mixed == images) | (mixed == images.roll(1, 0))
        assert torch.allclose(mixed, blended, atol=1e-6) or bool(pasted.all())


def test_weights_have_torchvisions_law() -> None:
    """lambda whole, not folded at 1/2; CutMix's share of the label is that of the clipped box."""
    ids = np.arange(4)
    for spec, mixer in ((TorchvisionMixUp(0.2), mixup), (TorchvisionCutMix(1.0), cutmix)):
        weights = [
            draw_mix(spec, Request(seed=1, epoch=0, batch=batch, ids=ids, repeats=ids * 0), 32, 32).weight
            for batch in range(3000)
        ]
        torch.manual_seed(0)
        images = torch.zeros(4, 3, 32, 32)
        theirs = [mixer.make_params([images]) for _ in range(3000)]
        expected = [1.0 - one.get("lam", one.get("lam_adjusted")) for one in theirs]
        assert stats.ks_2samp(weights, expected).pvalue > 1e-3


def test_num_classes_is_the_mixers(photos: Path) -> None:
    wide = references(v2.MixUp(num_classes=7))
    assert next(iter(loader(photos, wide)))[1].shape == (6, 7)
    with pytest.raises(ArgumentError, match="num_classes must be 7"):
        next(iter(loader(photos, wide, num_classes=3)))


def test_explain_says_it_or_how_to_get_it(photos: Path) -> None:
    assert "called by collate_fn on the whole batch" in str(loader(photos, KNOWN["references"][0]).explain())
    refused = loader(photos, UNKNOWN["a condition"]).explain()
    assert not refused.lifted and "lambda batch: mix(*default_collate(batch))" in refused.reason
    plain = loader(photos, own_collate).explain()
    assert not plain.lifted and "one by one" in plain.reason


def test_what_torch_would_mix_otherwise_is_left_to_it(photos: Path) -> None:
    hot = ImageFolder(str(photos), PIPELINE, target_transform=lambda label: label)
    assert "target_transform" in fastpipe.DataLoader(hot, 6, collate_fn=KNOWN["lambda"][0]).explain().reason
    grey = ImageFolder(
        str(photos), transforms.Compose([transforms.Resize((32, 32)), transforms.PILToTensor()])
    )
    assert "uint8" in fastpipe.DataLoader(grey, 6, collate_fn=KNOWN["lambda"][0]).explain().reason
    with pytest.raises(ArgumentError, match="a step of that kind"):
        next(iter(loader(photos, KNOWN["lambda"][0], augment=[fastpipe.augment.MixUp(0.2)])))

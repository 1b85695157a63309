"""`--augment` and its keys: what is resolved, what reaches the loader, what it does to training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fastpipe.device.labels import MixedBatch
from fastpipe.errors import ArgumentError
from fastpipe.storage import open_index
from fastpipe.train.augment import augment_specs, policy_spec
from fastpipe.train.cli import main, parse
from fastpipe.train.config.groups import RandAugmentConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import train_loader
from fastpipe.train.loop import hard_labels
from fastpipe.transforms import (
    ColOut,
    CutMix,
    MixUp,
    RandAugment,
    RandomChoice,
    RandomErasing,
    TrivialAugmentWide,
)

HOT = (RandAugment(depth=1, severity=10.0), ColOut(p_row=0.05, p_col=0.05), MixUp(0.25))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise, red and green; train 16, val 4 of each."""
    root, rng = tmp_path_factory.mktemp("augment"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4)):
        for label, name in enumerate(("red", "green")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (64, 72, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.jpg")
    return root


def specs_of(*args: str) -> tuple[Any, ...]:
    return augment_specs(parse(["--recipe", "mild", *args]).config)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), ()),
        (("--augment", "none"), ()),
        (("--augment", "mild"), ()),
        (("--augment", "medium"), (MixUp(0.2),)),
        (("--augment", "hot"), HOT),
        (("--augment=hot", "--mixup-alpha", "0"), HOT[:2]),
        (("--augment", "hot", "--randaugment", "null", "--colout=0.15"), (ColOut(), MixUp(0.25))),
        # An explicit key wins over the group on either side of it.
        (("--randaugment.depth", "2", "--augment", "hot"), (RandAugment(depth=2, severity=10.0), *HOT[1:])),
        (("--randaugment.severity", "9"), (RandAugment(severity=9.0),)),
        (("--cutmix-alpha", "1"), (CutMix(1.0),)),
        (
            ("--mixup-alpha=0.2", "--cutmix-alpha=1", "--mixup-switch-prob=0.25", "--random-erasing=0.1"),
            (RandomErasing(p=0.1), RandomChoice([MixUp(0.2), CutMix(1.0)], p=[0.75, 0.25])),
        ),
    ],
)
def test_what_the_options_mean(args: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    assert specs_of(*args) == expected


def test_spaces_of_the_policy() -> None:
    timm = policy_spec(RandAugmentConfig(space="timm", depth=2, magnitude=7, mstd=0.5, increasing=True))
    assert isinstance(timm, RandAugment)
    assert (timm.num_ops, timm.magnitude, timm.mstd, timm.increasing) == (2, 7, 0.5, True)
    assert timm.fill == (124, 116, 104)
    assert policy_spec(RandAugmentConfig(space="trivial")) == TrivialAugmentWide()
    torchvision = policy_spec(RandAugmentConfig(space="torchvision", depth=2, magnitude=9.0))
    assert torchvision == RandAugment(space="torchvision", num_ops=2, magnitude=9)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--augment", "hott"), "--augment must be one of none, mild, medium, hot. Found: 'hott'"),
        (
            ("--augment", "hot", "--randaugment.mstd=1"),
            "randaugment: mstd is not a setting of space='composer'",
        ),
        (("--randaugment.severity=11",), r"randaugment: severity must be in \[0, 10\]"),
        (("--randaugment.space=trivial", "--randaugment.depth=2"), "randaugment: depth must be 1"),
        (("--randaugment.space=trivial", "--randaugment.severity=2"), "severity is not a setting"),
        (("--colout=1",), "colout must be a share"),
        (("--mixup-alpha=-1",), "mixup_alpha must be 0"),
        (("--cutmix-alpha=.inf",), "cutmix_alpha must be 0"),
        (("--random-erasing=1.5",), "random_erasing must be a probability"),
        (("--randaugmnt.depth=2",), "Did you mean '--randaugment.depth'"),
    ],
)
def test_wrong_values_are_named(args: tuple[str, ...], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        parse(["--recipe", "mild", *args])


def test_a_printed_configuration_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "mild", "--augment", "hot", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["randaugment"]["severity"] == 10.0
    (tmp_path / "saved.yaml").write_text(printed)
    assert augment_specs(load_recipe(str(tmp_path / "saved.yaml"))) == HOT


def test_every_augmentation_reaches_the_batches(photos: Path) -> None:
    """Each one alone changes the pixels of the plain batch in its own way."""
    config = TrainConfig(batch_size=8, train_resolution=64, num_workers=0, channels_last=False)
    index = open_index(photos / "train")

    def first(**keys: Any) -> Any:
        loader = train_loader(replace(config, **keys), index)
        specs = augment_specs(replace(config, **keys))
        added = [note.step for note in loader.explain().steps if note.why == "added by augment="]
        assert len(added) == len(specs) and all(
            type(s).__name__ in a for s, a in zip(specs, added, strict=True)
        )
        return next(iter(loader))

    plain = first()
    assert plain[0].shape == (8, 3, 64, 64) and plain[1].dtype == torch.int64
    policy = first(randaugment=RandAugmentConfig(depth=2))
    changed = (policy[0] != plain[0]).flatten(1).any(1)
    assert changed.sum() >= 7 and torch.equal(policy[1], plain[1])
    assert first(colout=0.05)[0].shape == (8, 3, 60, 60)
    mixed = first(mixup_alpha=0.25)
    weight, partner = mixed.weight, mixed.partner
    assert 0.0 <= weight <= 0.5 and mixed[1].shape == (8, 2)
    torch.testing.assert_close(mixed[0], (1 - weight) * plain[0] + weight * plain[0][partner])
    assert torch.equal(mixed.hard_labels, plain[1])
    cut = first(cutmix_alpha=1.0)
    own = (cut[0] == plain[0]).all(1)
    theirs = (cut[0] == plain[0][cut.partner]).all(1)
    assert (own | theirs).all() and torch.allclose(cut[1].sum(1), torch.ones(8))
    assert (first(random_erasing=1.0)[0] == 0).flatten(1).any(1).sum() >= 7


def test_mild_with_augment_hot_trains(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    args = ["--recipe", "mild", "--data", str(photos), "--augment", "hot", "--epochs", "2", "--batch-size=8"]
    tiny = ["--model", "resnet18", "--train-resolution", "64", "--num-workers", "0"]
    assert main([*args, *tiny, "--output-dir", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "augment: RandAugment(space='composer', depth=1" in said and "MixUp(alpha=0.25)" in said
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in steps if line["kind"] == "step"]
    assert len(steps) == 8 and all(np.isfinite(line["loss"]) for line in steps)
    # ColOut after progressive resizing: int(0.95 * side) of 32 px and of the full 64.
    assert (steps[0]["resolution"], steps[-1]["resolution"]) == (30, 60)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["top1"] in [k / 8 for k in range(9)]


def test_hard_labels_of_mixed_batches() -> None:
    soft = torch.tensor([[0.4, 0.6], [0.9, 0.1]])
    images = torch.zeros(2, 3, 1, 1)
    # At a weight of one half the larger label may be the partner's: the kept class counts.
    kept = MixedBatch([images, soft], hard_labels=torch.tensor([0, 0]), partner=torch.tensor([1, 0]))
    assert hard_labels(kept).tolist() == [0, 0]
    assert hard_labels([images, soft]).tolist() == [1, 0]
    assert hard_labels([images, torch.tensor([1, 1])]).tolist() == [1, 1]

"""Label smoothing under MixUp and CutMix: of what was mixed, or, as Composer, of the image's own label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastpipe.device.labels import MixedBatch
from fastpipe.errors import ArgumentError
from fastpipe.train.algorithms.label_smoothing import dense_targets, smooth, targets_as_composer
from fastpipe.train.config.groups import LossConfig, OptimizerConfig, ScheduleConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer

OWN, PARTNER, WEIGHT, SMOOTHING, CLASSES = (
    torch.tensor([0, 1, 2, 2]),
    torch.tensor([1, 0, 3, 2]),
    0.25,
    0.3,
    3,
)


def mixed(images: Tensor) -> MixedBatch:
    hard = nn.functional.one_hot(OWN, CLASSES).float()
    soft = (1 - WEIGHT) * hard + WEIGHT * hard[PARTNER]
    return MixedBatch([images, soft], hard_labels=OWN, partner=PARTNER, weight=WEIGHT)


def test_composers_targets_by_hand() -> None:
    found = targets_as_composer(mixed(torch.zeros(4, 3, 8, 8)), CLASSES, SMOOTHING)
    # smooth(0) = (.8, .1, .1): three quarters of it, and a whole quarter on class 1.
    torch.testing.assert_close(found[0], torch.tensor([0.6, 0.325, 0.075]))
    torch.testing.assert_close(found[2], torch.tensor([0.075, 0.075, 0.85]))
    torch.testing.assert_close(found.sum(1), torch.ones(4))


def test_without_mixing_the_two_agree() -> None:
    batch = [torch.zeros(4, 3, 8, 8), OWN]
    assert torch.equal(targets_as_composer(batch, CLASSES, SMOOTHING), dense_targets(OWN, CLASSES, SMOOTHING))
    unmixed = mixed(torch.zeros(4, 3, 8, 8))
    unmixed.weight = 0.0
    assert torch.equal(targets_as_composer(unmixed, CLASSES, 0.3), dense_targets(OWN, CLASSES, SMOOTHING))


def test_soft_labels_of_unknown_origin_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"loss\.label_smoothing_mixup must be both"):
        targets_as_composer([torch.zeros(1, 3, 8, 8), torch.tensor([[0.5, 0.5, 0.0]])], CLASSES, SMOOTHING)


class OneBatch:
    def __iter__(self) -> Iterator[Any]:
        yield mixed(torch.arange(4 * 3 * 8 * 8).reshape(4, 3, 8, 8).sin())

    def __len__(self) -> int:
        return 1

    def set_epoch(self, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("how", ["both", "composer"])
def test_the_trainer_minimises_the_loss_of_these_targets(how: Any, accumulation: int) -> None:
    """With zero weights the logits are the bias, so that the loss is known whatever the images are."""
    config = TrainConfig(
        epochs=1,
        batch_size=4,
        precision="fp32",
        channels_last=False,
        grad_accumulation=accumulation,
        optimizer=OptimizerConfig(lr=0.1),
        schedule=ScheduleConfig(warmup_epochs=0.0),
        loss=LossConfig(label_smoothing=SMOOTHING, label_smoothing_mixup=how),
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    model[1].weight.data.zero_()
    model[1].bias.data.copy_(torch.tensor([0.5, -1.0, 2.0]))
    bias = model[1].bias.detach().clone()
    trainer = Trainer(
        config=config, model=model, loader=OneBatch(), num_classes=CLASSES, device=torch.device("cpu")
    )
    losses: list[float] = []
    trainer.train_epoch(lambda clock, side, logs: losses.extend(log.loss for log in logs))
    batch = mixed(torch.zeros(4, 3, 8, 8))
    smoothed = smooth(batch[1], SMOOTHING)
    targets = smoothed if how == "both" else targets_as_composer(batch, CLASSES, SMOOTHING)
    expected = (
        nn.functional.binary_cross_entropy_with_logits(bias.expand(4, -1), targets, reduction="sum") / 4
    )
    assert losses == pytest.approx([expected.item()])

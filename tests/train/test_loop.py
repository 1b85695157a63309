"""The loop on a loader of tensors: what a step does, NaN, precision, and continuing a run bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastpipe.train import DivergedError, NoEffectWarning, load_recipe
from fastpipe.train.algorithms.blurpool import BlurMaxPool2d
from fastpipe.train.config.groups import LossConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.interval import Interval
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog, UnreadLosses
from fastpipe.train.model import build_model, create_model
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.pauses import Pauses
from fastpipe.train.step import resolved_precision
from fastpipe.train.timing import EpochClock

CONFIG = replace(
    load_recipe("mild"),
    epochs=3,
    batch_size=4,
    schedule=replace(load_recipe("mild").schedule, warmup_epochs=1.0),
    optimizer=replace(load_recipe("mild").optimizer, lr=0.05),
    ema=replace(load_recipe("mild").ema, half_life_batches=2, update_interval=2),
)
CPU = torch.device("cpu")


class Batches:
    """Six batches an epoch of two classes that differ in brightness; a function of the epoch alone."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(6):
            labels = torch.randint(0, 2, (4,), generator=generator)
            images = torch.randn(4, 3, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1) * 2.0 - 1.0
            yield [images, labels]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]


def _trainer(config: TrainConfig = CONFIG) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    return Trainer(config=config, model=model, loader=Batches(), num_classes=2, device=CPU)


def _run(trainer: Trainer, epochs: int) -> list[StepLog]:
    seen: list[StepLog] = []

    def watch(clock: EpochClock, resolution: int, logs: list[StepLog]) -> None:
        seen.extend(logs)

    for _ in range(epochs):
        trainer.train_epoch(watch)
    return seen


def test_every_step_has_its_own_rate_and_the_loss_falls() -> None:
    trainer = _trainer()
    logs = _run(trainer, 3)
    assert [log.step for log in logs] == list(range(18))
    assert [log.lr for log in logs] == [trainer.lr(step) for step in range(18)]
    assert logs[0].lr == 0.0 and logs[6].lr == 0.05 and logs[17].lr < 0.001
    assert {log.resolution for log in logs} == {8}
    assert sum(log.loss for log in logs[-6:]) < sum(log.loss for log in logs[:6])
    assert (trainer.epoch, trainer.step, trainer.images_seen) == (3, 18, 72)
    assert len(trainer.epoch_seconds) == 3 and all(s > 0 for s in trainer.epoch_seconds)


def test_interrupted_and_continued_equals_uninterrupted() -> None:
    straight, first = _trainer(), _trainer()
    _run(straight, 3)
    _run(first, 1)
    saved = first.state_dict()
    continued = _trainer()
    torch.manual_seed(99)
    continued.load_state_dict({**saved, "model": {k: v.clone() for k, v in saved["model"].items()}})
    _run(continued, 2)
    assert continued.step == straight.step
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, continued.model.state_dict()[name]), name
    assert straight.ema is not None and continued.ema is not None
    for name, value in straight.ema.shadow.items():
        assert torch.equal(value, continued.ema.shadow[name]), name


def test_accuracy_is_counted_per_class_with_averaged_or_raw_weights() -> None:
    trainer = _trainer()
    assert trainer.ema is not None
    _run(trainer, 3)
    trainer.ema.shadow = {k: torch.zeros_like(v) for k, v in trainer.ema.shadow.items()}
    averaged = trainer.evaluate(Batches()).counts
    raw = trainer.evaluate(Batches(), averaged=False).counts
    assert averaged is not None and raw is not None
    assert averaged[:, 0].tolist() == raw[:, 0].tolist() and raw[:, 0].sum() == 24
    assert averaged[:, 1].tolist() == [averaged[0, 0].item(), 0]  # zero weights: ties go to class 0
    assert raw[:, 1].sum() > 18
    assert (raw[:, 1] <= raw[:, 0]).all()


def test_a_nan_loss_stops_with_its_step_and_advice() -> None:
    class Poisoned(Batches):
        def __iter__(self) -> Iterator[Any]:
            for number, (images, labels) in enumerate(super().__iter__()):
                yield [images * (float("nan") if number == 3 else 1.0), labels]

    trainer = _trainer()
    trainer.loader = Poisoned()
    with pytest.raises(DivergedError, match=r"nan at step 3 .*, 8 px\).*optimizer\.lr") as caught:
        _run(trainer, 1)
    assert caught.value.step == 3


def test_weights_and_skipped_steps_that_are_not_finite_name_the_size_too() -> None:
    trainer = _trainer()
    _run(trainer, 1)
    next(trainer.model.parameters()).data[0] = float("inf")
    with pytest.raises(DivergedError, match=r"a weight became nan at step 5 \(learning rate 0\.0\d+, 8 px\)"):
        trainer.check_weights()
    unused = _trainer()  # as after resuming: no images seen yet
    next(unused.model.parameters()).data[0] = float("inf")
    with pytest.raises(DivergedError, match=r"a weight became nan .*\(learning rate [\d.e+-]+\)\. Look"):
        unused.check_weights()
    careful = _trainer(replace(CONFIG, skip_nonfinite=1))
    careful.skipped = 1
    images = torch.full((4, 3, 8, 8), float("nan"))
    with pytest.raises(DivergedError, match=r"1 such steps were already skipped.*, 8 px\)"):
        careful.train_step(images, torch.tensor([0, 1, 0, 1]))


class Fewer(Batches):
    """Of every epoch's six batches nothing was left of the third."""

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(super().__iter__()):
            if number != 2:
                yield batch


def test_an_epoch_with_a_batch_less_leaves_schedule_and_checkpoints_in_step() -> None:
    saved: list[int] = []
    trainer = _trainer()
    trainer.loader = Fewer()
    trainer.pauses = Pauses(Interval(epochs=0.5), steps_per_epoch=6)
    trainer.save = lambda: saved.append(trainer.step)
    logs = _run(trainer, 3)
    # Epochs begin where they would have begun: the rates, which count steps, are those of the epoch at hand.
    assert [log.step for log in logs] == [*range(5), *range(6, 11), *range(12, 17)]
    assert [log.lr for log in logs] == [trainer.lr(log.step) for log in logs]
    assert (trainer.epoch, trainer.step, trainer.left_out, trainer.images_seen) == (3, 18, 3, 60)
    assert saved == [3, 9, 15]  # in mid-epoch; at its end `after_epoch` says so
    assert all(trainer.pauses.after_epoch(step) for step in (6, 12, 18))
    again = _trainer()
    again.load_state_dict(trainer.state_dict())
    assert (again.step, again.left_out) == (18, 3)


def test_validation_with_a_batch_less_counts_what_came() -> None:
    trainer = _trainer()
    counts = trainer.evaluate(Fewer()).counts
    assert counts is not None and counts[:, 0].sum() == 20


def test_losses_are_read_in_groups_and_the_rest_at_the_end() -> None:
    unread = UnreadLosses(3)
    found = [unread.add(torch.tensor(float(s)), step=s, lr=0.1, resolution=32) for s in range(4)]
    assert [len(logs) for logs in found] == [0, 0, 3, 0]
    assert [log.step for log in unread.read()] == [3] and unread.read() == []


def test_precision_is_resolved_by_the_device() -> None:
    assert resolved_precision("amp", CPU) == "fp32"
    assert resolved_precision("amp", torch.device("cuda")) == "amp_fp16"
    assert resolved_precision("fp32", torch.device("cuda")) == "fp32"
    assert _trainer().scaler.is_enabled() is False


@pytest.mark.parametrize("name", ["bce", "cross_entropy"])
def test_losses_by_name(name: Any) -> None:
    trainer = _trainer(replace(CONFIG, loss=LossConfig(name=name, label_smoothing=0.1)))
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([0])
    expected: Tensor = (
        nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        if name == "cross_entropy"
        else nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor([[0.95, 0.05]]), reduction="sum"
        )
    )
    torch.testing.assert_close(trainer.loss(logits, labels), expected)


def test_build_model_applies_what_the_recipe_lists() -> None:
    model = build_model(replace(CONFIG, model="resnet18"), 7, CPU)
    assert isinstance(model.maxpool, BlurMaxPool2d)
    torch.testing.assert_close(model.fc.bias, torch.full((7,), -1.945910))
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_bias_init_of_cross_entropy_warns() -> None:
    config = replace(CONFIG, model="resnet18", loss=replace(CONFIG.loss, name="cross_entropy"))
    with pytest.warns(NoEffectWarning, match="no effect on cross_entropy"):
        build_model(config, 3, CPU)


def test_norms_and_biases_can_be_spared_from_decay() -> None:
    model = create_model("resnet18", 3)
    optimizer = build_optimizer(
        replace(CONFIG.optimizer, weight_decay_on_norm=False, weight_decay_on_bias=False), model
    )
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 5e-4 and free["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    coupled = build_optimizer(replace(CONFIG.optimizer, decoupled_weight_decay=False), model)
    assert type(coupled) is torch.optim.SGD

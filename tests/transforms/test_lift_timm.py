"""What timm's create_transform makes: lifted whole with the same pixels and odds, or left where it was."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from PIL import Image

from fastpipe.device.draws.draw import draw_erasing
from fastpipe.device.draws.policies import draw_policy, num_uniforms
from fastpipe.kernels import augment_batch
from fastpipe.transforms import (
    HorizontalFlip,
    Normalize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    ToFloat,
    lift,
    timm_rand_augment,
)

data = pytest.importorskip("timm.data", reason="timm comes with the train extra")
auto_augment = pytest.importorskip("timm.data.auto_augment", reason="timm comes with the train extra")
MEAN_FILL = (124, 116, 104)


def photo(height: int = 40, width: int = 52) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def training(policy: str | None = "rand-m9-mstd0.5-inc1", **settings: Any) -> Any:
    settings = {"interpolation": "bilinear", "color_jitter": None, **settings}
    return data.create_transform(32, is_training=True, auto_augment=policy, **settings)


def whole(transform: Any) -> Any:
    lifted = lift(transform, sample=photo())
    assert lifted.plan is not None, lifted.reason
    assert lifted.plan.host == (), lifted.notes
    return lifted.plan


def test_the_training_pipeline_is_lifted_whole() -> None:
    plan = whole(training(re_prob=0.25))
    assert plan.decode == RandomResizedCrop(size=(32, 32))
    flip, policy, to_float, normalize, erasing = plan.device
    assert flip == HorizontalFlip(p=0.5)
    assert policy == timm_rand_augment("rand-m9-mstd0.5-inc1", fill=MEAN_FILL)
    assert isinstance(to_float, ToFloat) and isinstance(normalize, Normalize)
    assert isinstance(erasing, RandomErasing) and erasing.p == 0.25
    assert (erasing.scale, erasing.value) == ((0.02, 1 / 3), (0.0, 0.0, 0.0))
    assert erasing.ratio == pytest.approx((0.3, 1 / 0.3), rel=1e-12)


@pytest.mark.parametrize("settings", [{"use_prefetcher": True}, {"normalize": False}])
def test_for_the_prefetcher_the_batch_stays_uint8(settings: dict[str, Any]) -> None:
    plan = whole(training(**settings))
    assert [type(spec) for spec in plan.device] == [HorizontalFlip, RandAugment]


def test_to_numpy_ends_a_pipeline() -> None:
    from timm.data.transforms import ToNumpy

    assert whole(v1.Compose([v1.RandomResizedCrop(32), ToNumpy()])).device == ()
    # What follows it gets an array: nothing is guessed about that.
    after = lift(v1.Compose([v1.RandomResizedCrop(32), ToNumpy(), torch.from_numpy]), sample=photo())
    assert after.plan is None or len(after.plan.host) == 2


def test_timms_unscaled_to_tensor() -> None:
    from timm.data.transforms import ToTensor

    assert whole(v1.Compose([v1.RandomResizedCrop(8), ToTensor()])).device == (ToFloat(scale=False),)


@pytest.mark.parametrize(
    "config",
    [
        "rand-m9",
        "rand-m9-inc1",
        "rand-m7-n3-p1.0-mstd101",
        "rand-m15-mmax20-inc1",
        "rand-mstd0.5",
        "rand-m9-n1",
    ],
)
def test_a_policy_reads_as_its_own_string(config: str) -> None:
    assert whole(training(config)).device[1] == timm_rand_augment(config, fill=MEAN_FILL)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("config", ["rand-m6-n2", "rand-m6-n2-inc1"])
def test_the_same_draws_give_the_same_pixels(
    config: str, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pairs with each operation and both signs through the user's own object and through our kernels."""
    transform = training(config, interpolation=interpolation)
    theirs = next(step for step in transform.transforms if type(step) is auto_augment.RandAugment)
    spec = whole(transform).device[1]
    names, image = len(theirs.ops), photo()
    for first in range(names):
        second, negative = (7 * first + 3) % names, first % 2 == 0
        chosen = [theirs.ops[first], theirs.ops[second]]
        monkeypatch.setattr(np.random, "choice", lambda *_, chosen=chosen, **__: chosen)
        answers = [0.0, 0.9 if negative else 0.1]
        # An operation without a sign asks once; each begins with whether to apply.
        calls: list[float] = []
        for op in chosen:
            signed = op.level_fn is not None and _asks_for_a_sign(op, monkeypatch)
            calls += answers if signed else answers[:1]
        monkeypatch.setattr(random, "random", lambda calls=calls: calls.pop(0))
        expected = np.asarray(theirs(image))
        assert not calls
        side = 0.25 if negative else 0.75
        row = np.array([[(op + 0.5) / names, 0.3, side, 0.0, 0.0] for op in (first, second)]).reshape(1, -1)
        assert row.shape[1] == num_uniforms(spec)
        ops = draw_policy(spec, row, *np.asarray(image).shape[:2])
        ours = augment_batch(
            np.asarray(image)[None], ops.ops, ops.values, ops.matrices, ops.fills, ops.interpolations
        )[0]
        assert np.array_equal(ours, expected), (chosen, negative)


def _asks_for_a_sign(op: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    asked: list[int] = []
    monkeypatch.setattr(random, "random", lambda: asked.append(1) or 0.0)
    op.level_fn(5.0, op.hparams)
    return bool(asked)


def test_erasing_by_timms_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same area, ratio and corner through timm's erasing and ours."""
    transform = training(None, re_prob=1.0)
    theirs, spec = transform.transforms[-1], whole(transform).device[-1]
    rng = np.random.default_rng(0)
    for numbers in rng.random((200, 23)):
        monkeypatch.setattr(random, "random", lambda: 0.0)
        pairs = iter(numbers[1:].tolist())
        monkeypatch.setattr(random, "uniform", lambda a, b, pairs=pairs: a + (b - a) * next(pairs))
        corner = iter(numbers[-2:].tolist())
        monkeypatch.setattr(
            random, "randint", lambda a, b, corner=corner: a + int(next(corner) * (b - a + 1))
        )
        gray = torch.ones(3, 32, 32)
        erased = theirs(gray)
        drawn = draw_erasing(spec, numbers[None], 32, 32)
        top, left, height, width = drawn.boxes[0]
        expected = torch.ones(3, 32, 32)
        if drawn.apply[0]:
            expected[:, top : top + height, left : left + width] = 0
        assert torch.equal(erased, expected)


def test_timms_crops_are_the_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers give the same box by timm's get_params and by the decode step, fallback included."""
    from fastpipe.decode.boxes import draw_box, num_uniforms

    transform = training(None, scale=(0.3, 1.0))
    crop, spec = transform.transforms[0], whole(transform).decode
    rng, fallbacks = np.random.default_rng(2), 0
    for height, width in ((40, 52), (300, 20), (17, 400), (1, 1)):
        image = photo(height, width)
        for numbers in rng.random((40, num_uniforms(spec))):
            tries, corner = iter(numbers.tolist()), iter(numbers[-2:].tolist())
            monkeypatch.setattr(random, "uniform", lambda a, b, at=tries: a + (b - a) * next(at))
            monkeypatch.setattr(random, "randint", lambda a, b, at=corner: a + int(next(at) * (b - a + 1)))
            ours = draw_box(spec, numbers.tolist(), height, width)
            theirs = crop.get_params(image, crop.scale, crop.ratio)
            assert (ours.top, ours.left, ours.height, ours.width) == theirs
            fallbacks += len(list(corner)) == 2
    assert fallbacks > 10


def _mixed_settings() -> Any:
    transform = training()
    transform.transforms[2].ops[3].magnitude = 3
    return transform


def _foreign_function() -> Any:
    transform = training()
    transform.transforms[2].ops[0].aug_fn = lambda image, **_: image
    return transform


def _with_subclass() -> Any:
    class Twice(auto_augment.RandAugment):  # type: ignore[misc]
        def __call__(self, image: Any) -> Any:
            return super().__call__(super().__call__(image))

    transform = training()
    transform.transforms[2] = Twice(transform.transforms[2].ops)
    return transform


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: training(interpolation="bicubic"), "its warps interpolate bicubic"),
        (lambda: training(interpolation="random"), "bilinear or bicubic each time"),
        (lambda: training("rand-m9-tweights"), "weights|not the fifteen"),
        (lambda: training("rand-m9-t3a"), "not the fifteen"),
        (lambda: training("original-mstd0.5"), "not a step that fastpipe knows"),
        (lambda: training("augmix-m3"), "not a step that fastpipe knows"),
        (_mixed_settings, "different settings"),
        (_foreign_function, "are not timm's"),
        (_with_subclass, "not a step that fastpipe knows"),
    ],
)
def test_what_is_not_exact_stays_on_the_worker(make: Callable[[], Any], reason: str) -> None:
    import re

    lifted = lift(make(), sample=photo())
    assert lifted.plan is not None, lifted.reason
    assert len(lifted.plan.host) >= 1
    notes = [note for note in lifted.notes if note.where == "worker" and re.search(reason, note.why)]
    assert notes, lifted.notes
    assert [type(spec) for spec in lifted.plan.device] == [ToFloat, Normalize]


def test_a_random_filter_keeps_the_crop_on_the_worker() -> None:
    lifted = lift(training(None, interpolation="random"), sample=photo())
    assert lifted.plan is not None and lifted.plan.decode is None
    assert "draws a filter for each image" in lifted.notes[0].why


@pytest.mark.parametrize("settings", [{"re_mode": "pixel"}, {"re_mode": "rand"}, {"re_count": 3}])
def test_erasing_with_random_pixels_is_not_lifted(settings: dict[str, Any]) -> None:
    """It comes last, on a float tensor: everything stays in torch, and the reason is given."""
    lifted = lift(training(None, re_prob=0.5, **settings), sample=photo())
    assert lifted.plan is None and "must end in an RGB PIL image" in lifted.reason


def test_no_layers_are_no_step() -> None:
    assert [type(spec) for spec in whole(training("rand-m9-n0")).device][:2] == [HorizontalFlip, ToFloat]


def test_uniform_magnitudes() -> None:
    assert whole(training("rand-m9-mstd101")).device[1].mstd == math.inf

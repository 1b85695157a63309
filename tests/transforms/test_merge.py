"""`augment=[...]` into a plan, and the decode spec at another resolution."""

from __future__ import annotations

from typing import Any

import pytest
import torchvision.transforms as v1

from fastpipe.errors import ArgumentError
from fastpipe.transforms import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    Normalize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    ResizeCrop,
    ToFloat,
    TrivialAugmentWide,
    lift,
    merge,
    with_size,
)
from fastpipe.types import Plan, Spec

NORMALIZE = Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CROP = RandomResizedCrop(size=(224, 224))


def test_additions_enter_at_their_place() -> None:
    plan = Plan(decode=CROP, device=(HorizontalFlip(), ToFloat()))
    merged = merge(plan, [RandomErasing(), NORMALIZE, RandAugment()])
    assert merged.device == (HorizontalFlip(), RandAugment(), ToFloat(), NORMALIZE, RandomErasing())
    assert [(note.where, note.why) for note in merged.notes] == [("device", "added by augment=")] * 3
    assert plan.device == (HorizontalFlip(), ToFloat())


def test_everything_into_an_empty_plan() -> None:
    merged = merge(
        Plan(), [RandomErasing(), NORMALIZE, ToFloat(), TrivialAugmentWide(), HorizontalFlip(), CROP]
    )
    assert merged.decode == CROP
    assert merged.device == (HorizontalFlip(), TrivialAugmentWide(), ToFloat(), NORMALIZE, RandomErasing())
    assert merged.notes[-1].where == "decoder"


def test_what_is_done_per_batch_has_its_place_too() -> None:
    """Contract 4: flip, RandAugment, ColOut, normalise, erasing, MixUp or CutMix."""
    plan = Plan(decode=CROP, device=(HorizontalFlip(), ToFloat(), NORMALIZE))
    merged = merge(plan, [MixUp(0.2), RandomErasing(), ColOut(), RandAugment()])
    policy = (HorizontalFlip(), RandAugment(), ColOut())
    assert merged.device == (*policy, ToFloat(), NORMALIZE, RandomErasing(), MixUp(0.2))


def test_a_resize_on_the_device_comes_after_colout_and_takes_the_resolution() -> None:
    """Composer's order. The decoder keeps its size: two resizes by one number would shrink twice."""
    plan = Plan(decode=CROP, device=(HorizontalFlip(), ToFloat(), NORMALIZE))
    merged = merge(plan, [Resize(160), ColOut(), RandAugment()])
    assert merged.device == (HorizontalFlip(), RandAugment(), ColOut(), Resize(160), ToFloat(), NORMALIZE)
    assert with_size(merged, 96) == CROP
    assert with_size(plan, 96) == RandomResizedCrop(size=(96, 96))
    with pytest.raises(ArgumentError, match="a step of that kind"):
        merge(merged, [Resize(128)])


def test_the_plans_own_order_is_kept() -> None:
    """Two normalisations and a cast of the user's stay as they are."""
    own = (ToFloat(), NORMALIZE, NORMALIZE, ToFloat(scale=False, dtype="float16"))
    merged = merge(Plan(device=own), [RandomErasing(), HorizontalFlip()])
    assert merged.device == (HorizontalFlip(), *own, RandomErasing())


def test_nothing_added() -> None:
    plan = Plan(decode=CROP, device=(ToFloat(),))
    assert merge(plan, []) == plan


@pytest.mark.parametrize(
    ("device", "added", "names"),
    [
        ((RandAugment(), ToFloat()), [TrivialAugmentWide()], ("TrivialAugmentWide(", "RandAugment(")),
        ((ToFloat(), NORMALIZE), [NORMALIZE], ("Normalize(",)),
        ((ToFloat(),), [HorizontalFlip(p=0.25), HorizontalFlip(p=0.75)], ("p=0.25", "p=0.75")),
        ((ToFloat(),), [MixUp(0.5), CutMix(1.0)], ("MixUp(alpha=0.5)", "CutMix(alpha=1.0)")),
        ((ToFloat(),), [ResizeCrop(crop=(8, 8))], ("ResizeCrop(", "RandomResizedCrop(")),
    ],
)
def test_the_same_kind_twice(device: tuple[Spec, ...], added: list[Spec], names: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError) as caught:
        merge(Plan(decode=CROP, device=device), added)
    assert all(name in str(caught.value) for name in names), str(caught.value)


def test_the_same_kind_on_a_worker() -> None:
    """The flip stays on the worker because of the jitter behind it; a second one is still a second one."""
    steps = [v1.RandomResizedCrop(8), v1.RandomHorizontalFlip(p=0.3), v1.ColorJitter(0.1), v1.ToTensor()]
    plan = lift(v1.Compose(steps)).plan
    assert plan is not None and len(plan.host) == 2
    with pytest.raises(ArgumentError, match=r"RandomHorizontalFlip\(p=0.3\)"):
        merge(plan, [HorizontalFlip()])
    assert merge(plan, [RandAugment()]).host == plan.host


@pytest.mark.parametrize("spec", [NORMALIZE, RandomErasing(), MixUp(0.2), CutMix(1.0)])
def test_float_steps_need_a_float_pipeline(spec: Spec) -> None:
    with pytest.raises(ArgumentError, match=r"stays uint8. Add fastpipe.augment.ToFloat\(\)"):
        merge(Plan(decode=CROP), [spec])
    assert merge(Plan(decode=CROP), [spec, ToFloat()]).device[0] == ToFloat()


@pytest.mark.parametrize("wrong", [v1.RandomHorizontalFlip(), "flip", Spec(), None])
def test_not_a_spec(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"augment takes specs of .*: RandomResizedCrop, "):
        merge(Plan(), [wrong])


@pytest.mark.parametrize(
    ("decode", "size", "expected"),
    [
        (CROP, 128, RandomResizedCrop(size=(128, 128))),
        (
            RandomResizedCrop(size=(8, 8), scale=(0.35, 1.0)),
            (96, 80),
            RandomResizedCrop(size=(96, 80), scale=(0.35, 1.0)),
        ),
        (ResizeCrop(resize=256, crop=(224, 224)), 224, ResizeCrop(resize=256, crop=(224, 224))),
        (ResizeCrop(resize=256, crop=(224, 224)), 128, ResizeCrop(resize=146, crop=(128, 128))),  # 146.29
        (ResizeCrop(resize=232, crop=(224, 224)), 160, ResizeCrop(resize=166, crop=(160, 160))),  # 165.71
        (ResizeCrop(resize=5, crop=(4, 4)), 2, ResizeCrop(resize=3, crop=(2, 2))),  # 2.5: halves up
        (
            ResizeCrop(resize=(256, 320), crop=(224, 280)),
            (112, 140),
            ResizeCrop(resize=(128, 160), crop=(112, 140)),
        ),
        (ResizeCrop(resize=(64, 64)), 32, ResizeCrop(resize=(32, 32))),
        (
            ResizeCrop(resize=36, crop=(32, 32), where="random", interpolation="bicubic"),
            64,
            ResizeCrop(resize=72, crop=(64, 64), where="random", interpolation="bicubic"),
        ),
        (
            ResizeCrop(crop=(32, 32), where="random", padding=(4, 4, 4, 4)),
            32,
            ResizeCrop(crop=(32, 32), where="random", padding=(4, 4, 4, 4)),
        ),
    ],
)
def test_with_size(decode: Spec, size: Any, expected: Spec) -> None:
    assert with_size(Plan(decode=decode), size) == expected


@pytest.mark.parametrize("decode", [None, ResizeCrop(resize=256)])
def test_with_size_needs_a_crop(decode: Spec | None) -> None:
    with pytest.raises(ArgumentError, match="resolution= needs a crop"):
        with_size(Plan(decode=decode), 128)


def test_with_size_does_not_shrink_the_field_of_view() -> None:
    with pytest.raises(ArgumentError, match="it would show less"):
        with_size(Plan(decode=ResizeCrop(crop=(32, 32), where="random")), 16)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ResizeCrop(resize=0), "at least 1 pixel"),
        (lambda: ResizeCrop(crop=(8, 0)), "at least 1 pixel"),
        (lambda: ResizeCrop(crop=(8, 8), where="random", padding=(1, -1, 0, 0)), "padding must be >= 0"),
        (lambda: ResizeCrop(crop=(8, 8), padding=(1, 1, 1, 1)), "padding needs where='random'"),
        (lambda: RandomResizedCrop(size=(0, 8)), "at least 1 x 1"),
        (lambda: RandomResizedCrop(size=(8, 8), scale=(0.0, 1.0)), "scale must be"),
        (lambda: RandAugment(magnitude=31, space="torchvision"), "magnitude must be in 0..30"),
        (
            lambda: RandAugment(num_magnitude_bins=1, magnitude=0, space="torchvision"),
            "num_magnitude_bins must be >= 2",
        ),
        (lambda: TrivialAugmentWide(fill=(0, 0, 256)), "fill must be three levels"),
        (lambda: RandomErasing(scale=(0.5, 0.2)), "scale must be"),
        (lambda: RandomErasing(ratio=(0.0, 0.2)), "ratio must be"),
        (lambda: HorizontalFlip(p=1.5), r"p must be a probability in \[0, 1\]. Found: 1.5"),
        (lambda: Normalize(mean=(0.0, 0.0, 0.0), std=(1.0, 0.0, 1.0)), "std must be above 0"),
    ],
)
def test_specs_are_valid_by_construction(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()

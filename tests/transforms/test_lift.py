"""Unknown steps, refusals, the run on a sample, and that a split changes no pixel."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image

from fastpipe.transforms import (
    HorizontalFlip,
    Lifted,
    Normalize,
    RandomErasing,
    RandomResizedCrop,
    ResizeCrop,
    ToFloat,
    lift,
    output_dtype,
    preserved_rng,
    table,
)
from fastpipe.types import Plan

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZE = Normalize(mean=MEAN, std=STD)
MULTIPLY = ToFloat(rule="multiply")
FLIP, CROP = HorizontalFlip(), RandomResizedCrop(size=(176, 176))
EVAL = ResizeCrop(resize=232, crop=(224, 224))


def photo(height: int = 61, width: int = 83, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mine(image: Any) -> Any:
    """A user's own step: random, and on PIL images."""
    return image.rotate(random.random() + float(np.random.rand()) + float(torch.rand(())))


class Mine:
    def __call__(self, image: Any) -> Any:
        return mine(image)


class MyFlip(v1.RandomHorizontalFlip):
    def forward(self, image: Any) -> Any:
        return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def plan_of(transform: Any, sample: Image.Image | None = None) -> Plan:
    lifted = lift(transform, sample=sample)
    assert lifted.plan is not None, lifted.reason
    return lifted.plan


def where(lifted: Lifted) -> list[str]:
    return [note.where for note in lifted.notes]


UNKNOWN: list[Callable[[], Any]] = [
    Mine,
    lambda: mine,
    lambda: lambda image: image,
    lambda: v1.Lambda(mine),
    lambda: v2.Lambda(mine),
    lambda: v1.RandomApply([v1.RandomHorizontalFlip()], p=0.3),
    lambda: v1.RandomChoice([v1.RandomHorizontalFlip()]),
    lambda: v1.RandomOrder([v1.RandomHorizontalFlip()]),
    lambda: v2.RandomApply([v2.RandomHorizontalFlip()]),
    lambda: MyFlip(),
    lambda: v1.RandomVerticalFlip(),
    lambda: v1.Pad(2),
]


@pytest.mark.parametrize("make", UNKNOWN)
def test_unknown_steps_stay_on_the_worker(make: Callable[[], Any]) -> None:
    step = make()
    flip = v1.RandomHorizontalFlip()
    lifted = lift(v1.Compose([v1.RandomCrop(40), flip, step, v1.ToTensor()]), sample=photo())
    assert lifted.plan is not None, lifted.reason
    assert lifted.plan.host == (flip, step)  # the user's own objects, in their order
    assert lifted.plan.host[1] is step
    assert where(lifted) == ["decoder", "worker", "worker", "device"]
    assert lifted.notes[1].why == "comes before a step that runs on the workers"


def test_a_subclass_is_named_as_such() -> None:
    class MyCrop(v1.RandomResizedCrop):
        pass

    lifted = lift(v1.Compose([MyCrop(8), v1.ToTensor()]), sample=photo())
    assert lifted.plan is not None and lifted.plan.decode is None
    assert "a subclass of RandomResizedCrop" in lifted.notes[0].why


def test_subclasses_of_containers_and_conversions() -> None:
    class MyCompose(v1.Compose):
        def __call__(self, image: Any) -> Any:
            return super().__call__(image) * 2

    class MyToTensor(v1.ToTensor):
        pass

    assert lift(MyCompose([v1.ToTensor()]), sample=photo()).plan is None
    assert lift(v1.Compose([v1.CenterCrop(8), MyToTensor()]), sample=photo()).plan is None


def test_changed_instances_are_unknown() -> None:
    """A hook, or a method replaced on the object, may do anything."""
    hooked, patched, drawn = v1.RandomHorizontalFlip(), v1.RandomHorizontalFlip(), v1.RandomResizedCrop(8)
    hooked.register_forward_hook(lambda *_: None)
    patched.forward = lambda image: image
    drawn.get_params = lambda *_: (0, 0, 5, 5)
    for step, why in ((hooked, "forward hooks"), (patched, "'forward'"), (drawn, "'get_params'")):
        lifted = lift(v1.Compose([step, v1.ToTensor()]), sample=photo())
        assert lifted.plan is not None and lifted.plan.host == (step,)
        if step is not drawn:
            assert why in lifted.notes[0].why


def test_why_a_crop_is_not_the_decoders() -> None:
    lifted = lift(v1.Compose([v1.Resize(9, max_size=20), v1.ToTensor()]))
    assert lifted.notes[0].why == "the decoder does not support max_size"
    lifted = lift(v1.Compose([v1.RandomCrop(9, pad_if_needed=True), v1.ToTensor()]))
    assert lifted.notes[0].why == "the decoder does not support pad_if_needed"


def broken(image: Any) -> Any:
    raise RuntimeError("no such filter")


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "default_collate"),
    "an empty pipeline": (v1.Compose([]), "default_collate"),
    "ends as a PIL image": (
        v1.Compose([v1.RandomResizedCrop(8), v1.RandomHorizontalFlip()]),
        "ends with a PIL image",
    ),
    "noise on the float tensor": (
        v1.Compose(
            [v1.RandomResizedCrop(8), v1.ToTensor(), v1.Lambda(lambda x: x + 1), v1.Normalize(MEAN, STD)]
        ),
        "after Lambda() it is a float32 tensor of shape (3, 8, 8)",
    ),
    "an unknown step at the end": (
        v1.Compose([v1.CenterCrop(8), v1.ToTensor(), v1.Grayscale()]),
        "after Grayscale",
    ),
    "grayscale": (
        v1.Compose([v1.CenterCrop(8), v1.Grayscale(), v1.ToTensor()]),
        "a float32 tensor of shape (1, 8, 8)",
    ),
    "a list of crops": (v1.Compose([v1.FiveCrop(8), v1.Lambda(lambda crops: crops)]), "a tuple"),
    "a raising step": (
        v1.Compose([v1.CenterCrop(8), broken, v1.ToTensor()]),
        "broken raised RuntimeError: no such filter",
    ),
    "what torch itself refuses": (
        v1.Compose([v1.CenterCrop(8), v1.Normalize(MEAN, STD), v1.ToTensor()]),
        "raised TypeError",
    ),
    "float64": (v1.Compose([v1.PILToTensor(), v1.ConvertImageDtype(torch.float64)]), "float64 tensor"),
    "two erasings": (
        v1.Compose([v1.ToTensor(), v1.RandomErasing(), v1.RandomErasing()]),
        "must end in an RGB PIL image",
    ),
    "nothing known": (
        v1.Compose([v1.Grayscale(3), v1.Lambda(v1.functional.pil_to_tensor)]),
        "none of its steps",
    ),
    "a callable": (mine, "ends with a PIL image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    transform, words = REFUSED[name]
    lifted = lift(transform, sample=photo())
    assert lifted.plan is None
    assert words in lifted.reason
    assert set(where(lifted)) <= {"torch"}
    assert len(lifted.notes) == len(
        getattr(transform, "transforms", [] if transform is None else [transform])
    )


def test_tensors_from_an_own_step() -> None:
    """As with albumentations: the step gives a uint8 tensor, and what follows is lifted."""

    def to_levels(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    steps = [v1.RandomCrop(8), to_levels, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    plan = plan_of(v1.Compose([*steps, v1.Normalize(MEAN, STD)]), photo())
    assert plan.host == (to_levels,)
    assert plan.device == (FLIP, MULTIPLY, NORMALIZE)
    assert plan_of(v1.Compose(steps[:2]), photo()).device == ()
    # A policy behind it works on tensors in torchvision, whose pixels are not Pillow's: it stays.
    policy = v2.RandAugment()
    plan = plan_of(v1.Compose([*steps[:2], policy, *steps[2:]]), photo())
    assert plan.host == (to_levels, policy)


def test_back_to_pil() -> None:
    """Float in between does not matter when the last own step gives an image again."""
    plan = plan_of(
        v1.Compose([v1.ToTensor(), v1.ToPILImage(), v1.RandomHorizontalFlip(), v1.ToTensor()]), photo()
    )
    assert len(plan.host) == 2 and plan.device == (FLIP, ToFloat())


def test_without_a_sample_own_steps_keep_the_form() -> None:
    plan = plan_of(v1.Compose([v1.RandomCrop(8), mine, v1.ToTensor()]))
    assert plan.host == (mine,) and plan.device == (ToFloat(),)
    refused = lift(v1.Compose([v1.ToTensor(), lambda x: x + 1, v1.Normalize(MEAN, STD)]))
    assert refused.plan is None and "float tensor" in refused.reason


def test_the_sample_is_read_only_when_needed() -> None:
    read: list[int] = []

    def sample() -> Image.Image:
        read.append(1)
        return photo()

    assert lift(v1.Compose([v1.RandomCrop(8), v1.RandAugment(), v1.ToTensor()]), sample=sample).plan
    assert lift(v1.RandomHorizontalFlip(), sample=sample).plan is None
    assert read == []
    assert lift(v1.Compose([mine, Mine(), v1.ToTensor()]), sample=sample).plan
    assert read == [1]


def test_default_dtype() -> None:
    """ToTensor gives torch's default dtype."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float16)
        assert output_dtype(plan_of(v1.ToTensor())) == torch.float16
        torch.set_default_dtype(torch.float64)
        assert lift(v1.ToTensor(), sample=photo()).plan is None
    finally:
        torch.set_default_dtype(before)


def test_deprecated_v2_to_tensor() -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        step = v2.ToTensor()
    assert plan_of(step).device == (ToFloat(),)


class Counting:
    """A step with a state and a generator of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.rng = np.random.default_rng(0)

    def __call__(self, image: Any) -> Any:
        self.calls += 1
        return image.rotate(self.rng.random())


def test_the_users_objects_are_left_alone() -> None:
    counting = Counting()
    state = counting.rng.bit_generator.state
    steps = [v1.RandomResizedCrop(8), counting, v1.RandAugment(), v1.ToTensor(), v1.Normalize(MEAN, STD)]
    transform = v1.Compose(steps)
    before = copy.deepcopy(repr(transform))
    plan = plan_of(transform, photo())
    assert plan.host == (counting,)
    assert (counting.calls, counting.rng.bit_generator.state) == (0, state)
    assert repr(transform) == before
    assert transform.transforms is steps and all(
        a is b for a, b in zip(transform.transforms, steps, strict=True)
    )


def test_steps_that_cannot_be_copied() -> None:
    class Uncopied(Mine):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("holds a lock")

    lifted = lift(v1.Compose([v1.CenterCrop(8), Uncopied(), v1.ToTensor()]), sample=photo())
    assert (
        lifted.plan is None and "cannot be copied for a trial run (TypeError: holds a lock)" in lifted.reason
    )


def states() -> tuple[Any, ...]:
    numpy = np.random.get_state()
    return random.getstate(), numpy[1].tolist(), numpy[2:], torch.get_rng_state().tolist()  # type: ignore[index]


def test_global_generators_are_left_alone() -> None:
    before = states()
    lift(v1.Compose([v1.RandomResizedCrop(8), mine, v1.RandAugment(), v1.ToTensor()]), sample=photo())
    lift(v1.Compose([v1.RandomResizedCrop(8), mine, broken, v1.ToTensor()]), sample=photo())
    assert states() == before


def test_preserved_rng_restores_after_an_error() -> None:
    before = states()
    with pytest.raises(ZeroDivisionError), preserved_rng():
        mine(photo())
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        _ = 1 / 0
    assert states() == before


def test_warnings_of_the_trial_are_left_to_the_workers() -> None:
    """antialias=False on a PIL image warns at each call; warnings are errors in this suite."""
    steps = [v1.ColorJitter(0.1), v1.Resize(20, antialias=False), v1.Lambda(mine), v1.ToTensor()]
    assert len(plan_of(v1.Compose(steps), photo()).host) == 3


def test_notes_are_short_and_repeatable() -> None:
    steps = [v1.RandomResizedCrop(8), lambda image: image, Mine(), v1.ToTensor()]
    notes = lift(v1.Compose(steps), sample=photo()).notes
    assert all(len(note.step) <= 80 and "0x" not in note.step and "\n" not in note.step for note in notes)
    assert notes[1].step.endswith("<lambda>") and notes[2].step.endswith("Mine()")


def run(plan: Plan, image: Image.Image) -> torch.Tensor:
    """A plan of steps without chance, in plain Pillow and torch."""
    if isinstance(plan.decode, ResizeCrop):
        image = v1.Resize(plan.decode.resize)(image) if plan.decode.resize else image
        image = v1.CenterCrop(plan.decode.crop)(image) if plan.decode.crop else image
    for step in plan.host:
        image = step(image)
    levels = image if isinstance(image, torch.Tensor) else v1.functional.pil_to_tensor(image)
    values = table(plan)
    for spec in plan.device:
        if isinstance(spec, HorizontalFlip) and spec.p == 1.0:
            levels = levels.flip(-1)
    if values is None:
        return levels
    channels = [values[channel][levels[channel].long()] for channel in range(3)]
    return torch.stack(channels).to(output_dtype(plan))


CERTAIN: dict[str, list[Any]] = {
    "evaluation": [v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize(MEAN, STD)],
    "crop larger than the image": [v1.CenterCrop(100), v1.ToTensor()],
    "flip last": [v1.Resize((20, 30)), v1.ToTensor(), v1.Normalize(MEAN, STD), v1.RandomHorizontalFlip(1.0)],
    "two flips": [
        v1.CenterCrop(20),
        v1.RandomHorizontalFlip(1.0),
        v1.ToTensor(),
        v1.RandomHorizontalFlip(1.0),
    ],
    "own step first": [
        v1.Lambda(lambda image: image.rotate(20)),
        v1.CenterCrop(20),
        v1.RandomHorizontalFlip(1.0),
        v1.ToTensor(),
    ],
    "own step behind a flip": [
        v1.CenterCrop(20),
        v1.RandomHorizontalFlip(1.0),
        v1.Lambda(lambda image: image.rotate(20)),
        v1.ToTensor(),
    ],
    "tensor backend": [
        v2.ToImage(),
        v2.Resize(40, antialias=True),
        v2.CenterCrop(32),
        v2.RandomHorizontalFlip(1.0),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ],
    "uint8": [v2.Resize((20, 30)), v2.PILToTensor(), v2.RandomHorizontalFlip(1.0)],
    "bfloat16": [
        v2.CenterCrop(20),
        v2.ToImage(),
        v2.ToDtype(torch.bfloat16, scale=True),
        v2.Normalize(MEAN, STD),
    ],
    "two crops": [v1.CenterCrop(50), v1.Resize(20), v1.CenterCrop(10), v1.ToTensor()],
}


@pytest.mark.parametrize("name", CERTAIN)
def test_pixels_of_the_split_equal_the_pipeline(name: str) -> None:
    transform, image = v1.Compose(CERTAIN[name]), photo()
    expected = torch.as_tensor(transform(image))
    plan = plan_of(transform, image)
    ours = run(plan, image)
    assert ours.dtype == expected.dtype and torch.equal(ours, expected)
    assert plan.decode is not None or plan.device


@pytest.mark.parametrize("cast", [None, torch.bfloat16])
def test_erasing_before_normalize_keeps_its_pixels(cast: torch.dtype | None) -> None:
    """The erased pixels of the pipeline have exactly the value of the plan's spec."""
    steps: list[Any] = [
        v1.ToTensor(),
        v1.RandomErasing(p=1.0, value=(0.1, 0.5, 0.9)),
        v1.Normalize(MEAN, STD),
    ]
    steps += [v2.ToDtype(cast)] if cast else []
    transform, image = v1.Compose(steps), photo()
    plan = plan_of(transform)
    assert plan.host == () and isinstance(plan.device[-1], RandomErasing)
    torch.manual_seed(0)
    erased = transform(image)
    changed = (erased != run(plan, image)).all(dim=0)
    assert int(changed.sum()) > 50
    value = torch.tensor(plan.device[-1].value).to(erased.dtype)
    assert torch.equal(erased[:, changed], value[:, None].expand(3, int(changed.sum())))


def test_timm_pipelines() -> None:
    data = pytest.importorskip("timm.data", reason="timm comes with the train extra")
    evaluation = plan_of(data.create_transform(224, interpolation="bilinear"))
    assert evaluation.decode == ResizeCrop(resize=256, crop=(224, 224))
    assert evaluation.host == ()
    assert [type(spec) for spec in evaluation.device] == [ToFloat, Normalize]

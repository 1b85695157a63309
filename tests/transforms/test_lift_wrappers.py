"""Presets: opened where they are provably one call of a pipeline, else left alone with the reason."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder

from fastpipe import DataLoader
from fastpipe.transforms import flatten, lift
from fastpipe.transforms.wrappers import why_opaque


def steps() -> list[Any]:
    return [
        v1.RandomResizedCrop(8),
        v1.RandomHorizontalFlip(),
        v1.PILToTensor(),
        v1.ConvertImageDtype(torch.float),
    ]


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))


class Holder:
    def __init__(self) -> None:
        self.transforms: Any = v1.Compose(steps())


class Preset(Holder):
    """As in torchvision's references/classification/presets.py."""

    def __call__(self, img: Any) -> Any:
        """A docstring and other names change nothing."""
        return self.transforms(img)


class Inherited(Preset):
    size = 8


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = v2.Compose(steps())

    def forward(self, picture: Any) -> Any:
        return self.steps(picture)


class Sequence(Holder):
    def __init__(self) -> None:
        self.transforms = nn.Sequential(*steps()[:2], v2.PILToTensor(), v1.ConvertImageDtype(torch.float))

    def __call__(self, img: Any, /) -> Any:
        return self.transforms(img)


@pytest.mark.parametrize("cls", [Preset, Inherited, Module, Sequence])
def test_a_plain_wrapper_is_its_pipeline(cls: Callable[[], Any]) -> None:
    bare, wrapped = lift(v1.Compose(steps())), lift(cls())
    assert bare.plan is not None and wrapped.plan is not None
    assert (wrapped.plan.decode, wrapped.plan.device) == (bare.plan.decode, bare.plan.device)
    assert [note.where for note in wrapped.notes] == ["decoder", "device", "device", "device"]
    assert len(flatten(v1.Compose([cls(), cls()]))) == 8, "also within a pipeline"


def test_a_script_without_future_annotations() -> None:
    source = "class Script(Holder):\n  def __call__(self, img: int) -> int:\n    return self.transforms(img)"
    names: dict[str, Any] = {"Holder": Holder}
    exec(compile(source, "train.py", "exec", dont_inherit=True), names)
    assert len(flatten(names["Script"]())) == 4


class TwoLines(Holder):
    def __call__(self, img: Any) -> Any:
        out = self.transforms(img)
        return out


class Changed(Holder):
    def __call__(self, img: Any) -> Any:
        return self.transforms(img) * 2


class Twice(Holder):
    def __call__(self, img: Any) -> Any:
        return self.transforms(self.transforms)


class Swapped(Holder):
    def __call__(self, img: Any) -> Any:
        return img.transforms(self)


class Deep(Holder):
    def __call__(self, img: Any) -> Any:
        return self.transforms.forward(img)


class Keyword(Holder):
    def __call__(self, img: Any) -> Any:
        return self.transforms(img=img)


class Many(Holder):
    def __call__(self, *img: Any) -> Any:
        return self.transforms(img)


class Later(Holder):
    async def __call__(self, img: Any) -> Any:
        return self.transforms(img)


def doubled(call: Any) -> Any:
    @functools.wraps(call)
    def run(self: Any, img: Any) -> Any:
        return call(self, img) * 2

    return run


class Decorated(Holder):
    @doubled
    def __call__(self, img: Any) -> Any:
        return self.transforms(img)


class Property(Holder):
    def __init__(self) -> None:
        self.held = v1.Compose(steps())

    @property
    def pipeline(self) -> Any:
        return lambda img: self.held(img) * 2

    def __call__(self, img: Any) -> Any:
        return self.pipeline(img)


class Dynamic(Holder):
    def __init__(self) -> None:
        self.held = v1.Compose(steps())

    def __getattr__(self, name: str) -> Any:
        return lambda img: self.held(img) * 2

    def __call__(self, img: Any) -> Any:
        return self.transforms(img)


class Watching(Preset):
    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        return (lambda img: found(img) * 2) if name == "transforms" else found


def hooked() -> Any:
    module = Module()
    module.register_forward_hook(lambda module, given, result: result * 2)
    return module


def patched() -> Any:
    module: Any = Module()
    module.forward = lambda img: module.steps(img) * 2
    return module


class OwnCall(Module):
    def __call__(self, img: Any) -> Any:
        return self.forward(img) * 2


OPAQUE = [
    (TwoLines, "not the one line"),
    (Changed, "not the one line"),
    (Twice, "not the one line"),
    (Swapped, "not the one line"),
    (Deep, "not the one line"),
    (Keyword, "not the one line"),
    (Many, "not the one line"),
    (Later, "not the one line"),
    (Decorated, "not the one line"),
    (Property, "'pipeline' is also an attribute of its class"),
    (Dynamic, "'transforms' is not a plain attribute"),
    (Watching, "defines __getattribute__"),
    (hooked, "it has forward hooks"),
    (patched, "'forward' is overridden"),
    (OwnCall, "not the one line"),
]


@pytest.mark.parametrize(("make", "why"), OPAQUE)
def test_in_doubt_it_stays_closed_and_says_why(make: Callable[[], Any], why: str) -> None:
    transform = make()
    assert flatten(transform) == (transform,)
    told = why_opaque(transform)
    assert told is not None and why in told
    lifted = lift(v1.Compose([v1.CenterCrop(16), transform, v1.PILToTensor()]))
    assert lifted.plan is not None and lifted.plan.host == (transform,)
    assert lifted.notes[1].why == told


def test_a_lambda_of_torchvision_stays_a_step() -> None:
    step = v1.Lambda(lambda img: img)
    assert flatten(step) == (step,)


def test_the_reason_reaches_explain(tmp_path: Any) -> None:
    (tmp_path / "a").mkdir()
    photo().save(tmp_path / "a" / "0.jpg")
    told = DataLoader(ImageFolder(str(tmp_path), Changed()), 1).explain()
    assert not told.lifted
    assert "it has a pipeline in 'transforms', but its __call__ is not the one line" in told.reason


def test_pixels_are_those_of_torch(tmp_path: Any) -> None:
    class Eval(Holder):
        def __init__(self) -> None:
            crop = [v1.Resize(12), v1.CenterCrop(8)]
            self.transforms = v1.Compose([*crop, *steps()[2:], v1.Normalize((0.5,) * 3, (0.2,) * 3)])

        def __call__(self, img: Any) -> Any:
            return self.transforms(img)

    (tmp_path / "a").mkdir()
    for number in range(3):
        photo().save(tmp_path / "a" / f"{number}.jpg")
    data = ImageFolder(str(tmp_path), Eval())
    ours = DataLoader(data, 3, backend="torchvision")
    assert ours.explain().lifted
    (images, _) = next(iter(ours))
    (torchs, _) = next(iter(torch.utils.data.DataLoader(data, 3)))
    assert torch.equal(images, torchs)

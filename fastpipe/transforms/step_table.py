"""The steps of `fastpipe.augment` as a table: one row per place, in the order in which the device runs them.

`merge`, `arrange`, the draws and the profiler read it, so a new step is a spec, a row and a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastpipe.errors import ArgumentError
from fastpipe.transforms.mix_specs import ColOut, CutMix, MixUp, RandomChoice
from fastpipe.transforms.policy_specs import RandAugment, TrivialAugmentWide
from fastpipe.transforms.resize_spec import Resize
from fastpipe.transforms.specs import (
    HorizontalFlip,
    Normalize,
    RandomErasing,
    RandomResizedCrop,
    ResizeCrop,
    ToFloat,
)
from fastpipe.types import Spec

__all__ = ["step_of", "timed_steps", "word_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One place of the pipeline, and what every room needs to know about the specs that may stand there.

    specs: classes of one `kind`; a plan has one of them at most. name: what messages call it.
    where: who runs it. drawn: what its random numbers are drawn for; None for a step without any.
    pixels: what it works on: "uint8" levels, "float" values, or either.
    in_table: it is part of the table of 256 levels per channel, so a plan may have several.
    commutes: kinds with which it may change places without changing what a pipeline means.
    word: what the profiler calls it; empty for the name of the class. timed: specs whose cost it measures.
    """

    specs: tuple[type[Spec], ...]
    name: str
    where: Literal["decoder", "device"] = "device"
    drawn: Literal["image", "batch"] | None = None
    pixels: Literal["uint8", "float", "either"] = "uint8"
    in_table: bool = False
    commutes: frozenset[str] = frozenset()
    word: str = ""
    timed: tuple[Spec, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of its specs."""
        return self.specs[0].kind

    @property
    def resizes(self) -> bool:
        """Whether images may leave it at another size."""
        return any(cls.target is not Spec.target for cls in self.specs)


# A list, so that a test can put in a row of its own, and take it out again.
STEPS: list[Step] = [
    Step(specs=(RandomResizedCrop, ResizeCrop), name="crop", where="decoder", drawn="image"),
    Step(
        specs=(HorizontalFlip,),
        name="flip",
        drawn="image",
        pixels="either",
        # With erasing in distribution: the mirrored rectangle is as likely as the rectangle.
        commutes=frozenset({"to_float", "normalize", "erasing"}),
        word="flip",
    ),
    Step(
        specs=(RandAugment, TrivialAugmentWide),
        name="RandAugment or TrivialAugmentWide",
        drawn="image",
        # Hot's values.
        timed=(RandAugment(depth=1, severity=10.0), TrivialAugmentWide()),
    ),
    Step(specs=(ColOut,), name="ColOut", drawn="batch", timed=(ColOut(p_row=0.05, p_col=0.05),)),
    Step(specs=(Resize,), name="Resize"),
    Step(specs=(ToFloat,), name="conversion", pixels="either", in_table=True, word="cast"),
    Step(specs=(Normalize,), name="normalisation", pixels="float", in_table=True, word="normalise"),
    Step(
        specs=(RandomErasing,),
        name="erasing",
        drawn="image",
        pixels="float",
        # Its value is converted and normalised instead: see `arrange`.
        commutes=frozenset({"to_float", "normalize"}),
    ),
    # Medium's value.
    Step(
        specs=(MixUp, CutMix, RandomChoice),
        name="MixUp or CutMix",
        drawn="batch",
        pixels="float",
        timed=(MixUp(alpha=0.2),),
    ),
]


def rank_of(spec: Spec) -> int:
    """The place of a spec in the order. Raises ArgumentError for what is no spec of `fastpipe.augment`."""
    for rank, step in enumerate(STEPS):
        if isinstance(spec, step.specs):
            return rank
    names = ", ".join(cls.__name__ for cls in spec_classes())
    raise ArgumentError(f"augment takes specs of fastpipe.augment: {names}. Found: {spec!r}")


def step_of(spec: Spec) -> Step:
    """The row of a spec. Raises ArgumentError for what is no spec of `fastpipe.augment`."""
    return STEPS[rank_of(spec)]


def spec_classes() -> tuple[type[Spec], ...]:
    """All that `augment=` takes, in order."""
    return tuple(cls for step in STEPS for cls in step.specs)


def timed_steps() -> dict[str, Spec]:
    """The specs whose cost the profiler measures, by name, in order."""
    return {type(spec).__name__: spec for step in STEPS for spec in step.timed}


def word_for(spec: Spec) -> str:
    """What the profiler calls a step of the device stage."""
    return step_of(spec).word or type(spec).__name__

"""The augmentations of a run, from its keys to specs of the device stage.

randaugment, colout, random_erasing, mixup_alpha, cutmix_alpha, mixup_switch_prob
progressive_resizing.where: device
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastpipe.errors import ArgumentError
from fastpipe.transforms import (
    ColOut,
    CutMix,
    MixUp,
    RandAugment,
    RandomChoice,
    RandomErasing,
    Resize,
    TrivialAugmentWide,
)
from fastpipe.types import Spec

if TYPE_CHECKING:
    from fastpipe.train.config.groups import RandAugmentConfig
    from fastpipe.train.config.schema import TrainConfig

__all__ = ["augment_specs"]


def policy_spec(policy: RandAugmentConfig) -> RandAugment | TrivialAugmentWide:
    """The spec of `randaugment`. Raises ArgumentError for a setting that the space does not have."""
    names = ("severity", "magnitude", "p", "mstd", "mmax", "increasing", "interpolation")
    given = {name: getattr(policy, name) for name in names if getattr(policy, name) is not None}
    try:
        if policy.space == "trivial":
            return _trivial(policy, given)
        depth = "depth" if policy.space.startswith("composer") else "num_ops"
        return RandAugment(**{"space": policy.space, depth: policy.depth, **_fill(policy), **given})
    except ArgumentError as error:
        raise ArgumentError(f"randaugment: {error}") from error


def _trivial(policy: RandAugmentConfig, given: Mapping[str, Any]) -> TrivialAugmentWide:
    wrong = sorted(set(given) - {"interpolation"})
    if wrong:
        raise ArgumentError(
            f"{', '.join(wrong)} is not a setting of space='trivial', which has only interpolation"
        )
    if policy.depth != 1:
        raise ArgumentError(f"depth must be 1 for space='trivial'. Found: {policy.depth!r}")
    return TrivialAugmentWide(**given)


def _fill(policy: RandAugmentConfig) -> dict[str, Any]:
    # timm's create_transform fills with round(255 * mean): here ImageNet's.
    return {"fill": (124, 116, 104)} if policy.space == "timm" else {}


def mix_spec(mixup_alpha: float, cutmix_alpha: float, switch_prob: float) -> Spec | None:
    """MixUp, CutMix, or one of the two per batch (CutMix by `switch_prob`); None for neither."""
    if mixup_alpha and cutmix_alpha:
        options: list[MixUp | CutMix] = [MixUp(mixup_alpha), CutMix(cutmix_alpha)]
        return RandomChoice(options, p=[1.0 - switch_prob, switch_prob])
    if mixup_alpha:
        return MixUp(mixup_alpha)
    return CutMix(cutmix_alpha) if cutmix_alpha else None


def augment_specs(config: TrainConfig) -> tuple[Spec, ...]:
    """The value of the loader's `augment=` for a TrainConfig, in the order of application."""
    specs: list[Spec] = []
    if config.randaugment is not None:
        specs.append(policy_spec(config.randaugment))
    if config.colout:
        specs.append(_colout(config))
    if resizes_on_device(config):
        specs.append(Resize(side_after_colout(config), interpolation="nearest"))
    if config.random_erasing:
        specs.append(RandomErasing(p=config.random_erasing))
    mix = mix_spec(config.mixup_alpha, config.cutmix_alpha, config.mixup_switch_prob)
    return (*specs, mix) if mix is not None else tuple(specs)


def resizes_on_device(config: TrainConfig) -> bool:
    """Whether progressive resizing is a step after ColOut, not part of decoding."""
    return config.progressive_resizing is not None and config.progressive_resizing.where == "device"


def side_after_colout(config: TrainConfig, side: int | None = None) -> int:
    """The pixels that ColOut leaves of `side` (default: train_resolution): 167 of 176 at 0.05."""
    before = config.train_resolution if side is None else side
    after, _ = _colout(config).target(before, before)
    return after


def _colout(config: TrainConfig) -> ColOut:
    return ColOut(p_row=config.colout, p_col=config.colout)

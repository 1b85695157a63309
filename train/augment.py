"""The augmentations of a run, from its keys to specs of the device stage.

    randaugment, colout, random_erasing, mixup_alpha, cutmix_alpha, mixup_switch_prob
    progressive_resizing.where: device

`--augment NAME` sets all of them at once to those of a published recipe; keys given beside it win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.groups import RandAugmentConfig
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

__all__ = [
    "GROUPS",
    "GROUP_KEYS",
    "augment_specs",
    "check_group",
    "mix_spec",
    "policy_spec",
    "resizes_on_device",
    "side_after_colout",
    "with_group",
]


GROUP_KEYS = (
    "randaugment",
    "colout",
    "random_erasing",
    "mixup_alpha",
    "cutmix_alpha",
    "mixup_switch_prob",
)

_NOTHING: Mapping[str, Any] = {
    "randaugment": None,
    "colout": 0.0,
    "random_erasing": 0.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "mixup_switch_prob": 0.5,
}
# Mild, Medium and Hot: mosaicml/benchmarks blogs/resnet/recipes (Composer 0.7.1).
GROUPS: Mapping[str, Mapping[str, Any]] = {
    "none": _NOTHING,
    "mild": _NOTHING,
    "medium": {**_NOTHING, "mixup_alpha": 0.2},
    "hot": {
        **_NOTHING,
        "randaugment": {"space": "composer", "depth": 1, "severity": 10.0},
        "colout": 0.05,
        "mixup_alpha": 0.25,
    },
}
"""What `--augment` sets. Mild has random crops and flips only."""


def check_group(name: str) -> None:
    """Raise ArgumentError unless `name` is one of `GROUPS`."""
    if name not in GROUPS:
        raise ArgumentError(f"--augment must be one of {', '.join(GROUPS)}. Found: {name!r}")


def with_group(values: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """`values` (nested, as in a recipe) with a group's keys in place of their own; None changes nothing."""
    if name is None:
        return dict(values)
    check_group(name)
    return {**values, **GROUPS[name]}


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
        raise ArgumentError(f"{', '.join(wrong)} is no setting of space='trivial', which has interpolation")
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


def augment_specs(config: Any) -> tuple[Spec, ...]:
    """What the loader's `augment=` takes for a TrainConfig, in the order in which it is applied."""
    specs: list[Spec] = []
    if config.randaugment is not None:
        specs.append(policy_spec(config.randaugment))
    if config.colout:
        specs.append(ColOut(p_row=config.colout, p_col=config.colout))
    if resizes_on_device(config):
        specs.append(Resize(side_after_colout(config), interpolation="nearest"))
    if config.random_erasing:
        specs.append(RandomErasing(p=config.random_erasing))
    mix = mix_spec(config.mixup_alpha, config.cutmix_alpha, config.mixup_switch_prob)
    return (*specs, mix) if mix is not None else tuple(specs)


def resizes_on_device(config: Any) -> bool:
    """Whether progressive resizing is a step behind ColOut, and not the decoder's."""
    return config.progressive_resizing is not None and config.progressive_resizing.where == "device"


def side_after_colout(config: Any) -> int:
    """Pixels of a side that ColOut leaves of train_resolution: 167 of 176 at 0.05."""
    side = config.train_resolution
    return ColOut(p_row=config.colout, p_col=config.colout).target(side, side)[0]

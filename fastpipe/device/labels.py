"""Labels under MixUp and CutMix: soft labels for the loss, with the hard labels as attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from fastpipe.device.draws.batch import MixParams
from fastpipe.errors import ArgumentError, DataError

__all__ = ["MixedBatch"]


class MixedBatch(list[Any]):
    """`[images, labels]` as scripts expect it, with soft labels float32 [B,K]; attributes hold their sources.

    hard_labels: int64 [B]. partner: int64 [B]. weight: the partner's share, so that
    labels = (1 - weight) * one_hot(hard_labels) + weight * one_hot(hard_labels[partner]).
    Float labels [B] or [B, ...] are mixed in their own form: hard_labels are those given, without one_hot.
    A copy of the elements, such as `list(batch)`, lacks the attributes; `to` keeps them.
    """

    def __init__(
        self,
        elements: Iterable[Any] = (),
        *,
        hard_labels: torch.Tensor | None = None,
        partner: torch.Tensor | None = None,
        weight: float = 0.0,
    ) -> None:
        super().__init__(elements)
        self.hard_labels = hard_labels
        self.partner = partner
        self.weight = weight

    def to(self, device: Any, non_blocking: bool = False) -> MixedBatch:
        """The batch on another device: accelerate, Lightning and others call this method if it exists."""
        moved = [one.to(device, non_blocking=non_blocking) for one in (*self, self.hard_labels, self.partner)]
        return MixedBatch(moved[:-2], hard_labels=moved[-2], partner=moved[-1], weight=self.weight)


def require_classes(num_classes: int | None) -> int:
    """The number of classes, or an ArgumentError that says how to give it; 0: labels are no class numbers."""
    if num_classes is None:
        raise ArgumentError(
            "num_classes must be given for MixUp and CutMix, whose labels are [B, num_classes], "
            "since the data set has no `classes`. Found: None. Pass num_classes= to the DataLoader"
        )
    return num_classes


def check_labels(labels: Any, num_classes: int) -> torch.Tensor:
    """The labels, if they can be mixed; else an error that names what they are.

    These are class numbers int64 [B] in 0..num_classes - 1, or one float for each class, [B, num_classes], or
    floats of any shape [B, ...] where num_classes is 0: others may be class numbers that became floats.
    """
    if not isinstance(labels, torch.Tensor):
        raise _cannot_mix(_words_for(labels))
    if labels.is_floating_point() and _one_for_each(labels, num_classes):
        return labels
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise _cannot_mix(f"{labels.dtype} {list(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"labels must be in 0..{num_classes - 1} (num_classes={num_classes}) for MixUp and CutMix. "
            f"Found: {int(labels.min())}..{int(labels.max())}"
        )
    return labels


def _one_for_each(labels: torch.Tensor, num_classes: int) -> bool:
    return labels.ndim >= 1 and (not num_classes or labels.shape[1:] == (num_classes,))


def _cannot_mix(found: str) -> DataError:
    return DataError(
        f"MixUp and CutMix need labels int64 [B], one class per image, or float ones such as 0 or 1 for each "
        f"class. Found: {found}"
    )


def _words_for(labels: Any) -> str:
    if labels is None:
        return "no labels"
    if isinstance(labels, Mapping):
        return f"{type(labels).__name__} with {', '.join(map(repr, labels))}"
    is_text = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
    return "text" if is_text else type(labels).__name__


def soft_labels(
    labels: torch.Tensor, partner: torch.Tensor, mix: MixParams, num_classes: int
) -> torch.Tensor:
    """Class numbers as float32 [B, num_classes], each row with sum 1; float labels in their own form."""
    from fastpipe.kernels.reference import mix_weights

    keep, share = mix_weights(mix.weight)
    if labels.is_floating_point():
        return labels.mul(keep).add_(labels.index_select(0, partner).mul_(share))
    hard = torch.zeros((len(labels), num_classes), dtype=torch.float32, device=labels.device)
    hard.scatter_(1, labels[:, None], 1.0)
    return hard.mul(keep).add_(hard.index_select(0, partner).mul_(share))

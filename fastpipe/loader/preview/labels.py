"""The label of one image of a batch, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_SHARES = 3  # classes of a soft label that are named
_SMALL = 0.005  # shows as 0.00
_MOST_CHARS = 40


def label_words(labels: Any, row: int, names: Sequence[str]) -> str:
    """The label at `row` of collated `labels`; names: of the classes, if labels are class numbers."""
    return "" if labels is None else _words(_at(labels, row), names)


def _at(labels: Any, row: int) -> Any:
    if isinstance(labels, Mapping):
        return {key: _at(value, row) for key, value in labels.items()}
    if isinstance(labels, list | tuple) and labels and isinstance(labels[0], torch.Tensor):
        return tuple(_at(value, row) for value in labels)  # default_collate transposes tuples
    return labels[row]


def _words(label: Any, names: Sequence[str]) -> str:
    if isinstance(label, torch.Tensor):
        if label.is_floating_point() and label.ndim == 1 and len(label) == len(names):
            return _shares(label, names)
        label = label.tolist()
    if isinstance(label, int) and 0 <= label < len(names):
        return str(names[label])
    text = f"{label:.3g}" if isinstance(label, float) else str(label)
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 3] + "..."


def _shares(label: torch.Tensor, names: Sequence[str]) -> str:
    largest = torch.topk(label, min(_SHARES, len(names)))
    pairs = zip(largest.values.tolist(), largest.indices.tolist(), strict=True)
    found = [(share, str(names[index])) for share, index in pairs if share >= _SMALL]
    if len(found) == 1 and found[0][0] > 1.0 - _SMALL:
        return found[0][1]
    return " + ".join(f"{name} {share:.2f}" for share, name in found)

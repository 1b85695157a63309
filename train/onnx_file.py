"""A model as an ONNX file, by torch's own exporter."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import nn

from fastpipe.errors import MissingExtraError


def check_onnx() -> None:
    """Raise MissingExtraError unless everything that torch's exporter imports is here."""
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtraError(package, "onnx", "--export to .onnx") from error


def write_onnx(model: nn.Module, out: Path, resolution: int) -> None:
    """Write `model`, in evaluation mode on the CPU, to the one file `out`.

    From `images`, float32 [B, 3, resolution, resolution], normalised, for any B, to `logits` [B, K].
    """
    # Two images, since torch.export takes a batch of one for a constant.
    images = torch.zeros(2, 3, resolution, resolution)
    torch.onnx.export(
        model.eval(),
        (images,),
        out,
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def rebuild_onnx() -> list[str]:
    """Lines of Python that run such a file."""
    return [
        "import onnxruntime",
        "session = onnxruntime.InferenceSession(PATH)",
        "(logits,) = session.run(None, {'images': IMAGES})",
    ]

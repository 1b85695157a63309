"""A checkpoint's weights as a plain state_dict, which needs no fastpipe to be loaded, or its model as ONNX.

Parameter names are those of the plain timm model, since no method of a recipe adds or renames a parameter;
timm's ResNets have the same names as torchvision's. The JSON file next to the weights describes what a
method changed in the graph.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastpipe.errors import ArgumentError, DataError
from fastpipe.train.disk import clear_away, save_tensors, why_not_written
from fastpipe.train.onnx_file import check_onnx, rebuild_onnx, write_onnx
from fastpipe.train.weights import Trained, card_config, card_path, read_trained


def plain_state_dict(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of `weights` on the CPU, in the usual memory layout."""
    return {name: w.detach().to("cpu", copy=True).contiguous() for name, w in weights.items()}


def export(checkpoint: Path, out: Path, *, raw: bool = False) -> dict[str, Any]:
    """Write `out`, a state_dict (.pt) or a model (.onnx), and a card next to it. Returns the card.

    Writes the EMA weights if there are any, unless `raw`. Raises ArgumentError for another ending or an
    existing file, DataError for a checkpoint that cannot be read or a full disk.
    """
    if out.suffix not in (".pt", ".onnx"):
        raise ArgumentError(f"--export must name a file that ends in .pt or .onnx. Found: {str(out)!r}")
    if out.suffix == ".onnx":
        check_onnx()
    card_file = card_path(out)
    for path in (out, card_file):
        if path.exists():
            raise ArgumentError(f"--export does not overwrite: {str(path)!r} exists. Name another file")
    trained = read_trained(checkpoint)
    name = "raw" if raw or not trained.averaged else "ema"
    card = _card(trained, name, rebuild_onnx() if out.suffix == ".onnx" else _rebuild(trained))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(trained, trained.weights()[name], out)
        card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        clear_away(out)  # without the card nobody knows what the file is
        raise DataError(f"--export could not write {str(out)!r}: {why_not_written(error)}") from error
    return card


def _write(trained: Trained, weights: Mapping[str, Tensor], out: Path) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if out.suffix == ".onnx":
            model = trained.model(weights, torch.device("cpu"))
            write_onnx(model, temporary, trained.config.val_resolution)
        else:
            save_tensors(plain_state_dict(weights), temporary)
        os.replace(temporary, out)
    finally:
        clear_away(temporary)


def _card(trained: Trained, weights: str, rebuild: list[str]) -> dict[str, Any]:
    c = trained.config
    return {
        "model": c.model,
        "num_classes": len(trained.classes),
        "classes": list(trained.classes),
        "weights": weights,
        "step": trained.step,
        "recipe": c.recipe,
        "val_resize": c.val_resize,
        "val_resolution": c.val_resolution,
        "interpolation": c.interpolation,
        "mean": list(c.mean),
        "std": list(c.std),
        "blurpool": c.blurpool,
        "rebuild": rebuild,
        "config": card_config(c),
    }


def _rebuild(trained: Trained) -> list[str]:
    """Lines of Python that make the model of these weights."""
    c = trained.config
    lines = [
        "import timm, torch",
        f"model = timm.create_model({c.model!r}, num_classes={len(trained.classes)})",
    ]
    if c.blurpool:  # without it the weights still load, but into a model that was not trained
        lines += [
            "from fastpipe.train.algorithms.blurpool import apply_blurpool",
            f"apply_blurpool(model, poolings={c.blurpool != 'ffcv'})",
        ]
    depth = c.stochastic_depth
    if depth is not None and depth.kind == "composer" and depth.drop_rate:  # weights branches in evaluation
        lines += [
            "from fastpipe.train.algorithms.stochastic_depth import apply_stochastic_depth",
            f"apply_stochastic_depth(model, drop_rate={depth.drop_rate!r}, kind='composer')",
        ]
    return [*lines, "model.load_state_dict(torch.load(PATH, weights_only=True))", "model.eval()"]

"""A checkpoint's weights as a state_dict or safetensors, loaded without fastpipe, or its model as ONNX.

Parameter names are those of the plain timm model, since no method of a recipe adds or renames a parameter;
timm's ResNets have the same names as torchvision's. The card, a JSON file next to the weights or the header
of a .safetensors file, describes what a method changed in the graph.
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
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.disk import clear_away, save_tensors, why_not_written
from fastpipe.train.input_size import size_arguments
from fastpipe.train.onnx_file import check_onnx, rebuild_onnx, write_onnx
from fastpipe.train.safetensors_file import (
    SUFFIX,
    check_safetensors,
    rebuild_safetensors,
    write_safetensors,
)
from fastpipe.train.units import rounding_words
from fastpipe.train.weights import Trained, card_config, card_path, read_trained


def plain_state_dict(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of `weights` on the CPU, in the usual memory layout; no two share memory."""
    return {name: w.detach().to("cpu", copy=True).contiguous() for name, w in weights.items()}


def export(checkpoint: Path, out: Path, *, raw: bool = False) -> dict[str, Any]:
    """Write `out`, weights (.pt, .safetensors) or a model (.onnx), and a card. Returns the card.

    Writes the EMA weights if there are any, unless `raw`. Raises ArgumentError for another ending or an
    existing file, DataError for a checkpoint that cannot be read or a full disk.
    """
    if out.suffix not in (".pt", ".onnx", SUFFIX):
        raise ArgumentError(
            f"--export must name a file that ends in .pt, {SUFFIX} or .onnx. Found: {str(out)!r}"
        )
    if out.suffix == ".onnx":
        check_onnx()
    if out.suffix == SUFFIX:
        check_safetensors()
    card_file = card_path(out)
    for path in (out, card_file):
        if path is not None and path.exists():
            raise ArgumentError(f"--export does not overwrite: {str(path)!r} exists. Name another file")
    trained = read_trained(checkpoint)
    name = "raw" if raw or not trained.averaged else "ema"
    card = _card(trained, name, _rebuild(trained, out.suffix))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(trained, trained.for_others(trained.weights()[name]), out, card)
        if card_file is not None:
            card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        clear_away(out)  # without the card nobody knows what the file is
        raise DataError(f"--export could not write {str(out)!r}: {why_not_written(error)}") from error
    return card


def _write(trained: Trained, weights: Mapping[str, Tensor], out: Path, card: Mapping[str, Any]) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if out.suffix == ".onnx":
            model = trained.model(weights, torch.device("cpu"))
            write_onnx(model, temporary, trained.config.val_resolution)
        elif out.suffix == SUFFIX:
            write_safetensors(plain_state_dict(weights), card, temporary)
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
        "task": trained.task,
        "weights": weights,
        "step": trained.step,
        "recipe": c.recipe,
        "val_resize": c.val_resize,
        "val_resolution": c.val_resolution,
        "interpolation": c.interpolation,
        "mean": list(c.mean),
        "std": list(c.std),
        "blurpool": c.blurpool,
        **_note(trained),
        "rebuild": rebuild,
        "config": card_config(c),
    }


def _note(trained: Trained) -> dict[str, str]:
    words = "" if trained.units is None else rounding_words(trained.units, trained.classes)
    return {"note": words} if words else {}


def _rebuild(trained: Trained, suffix: str) -> list[str]:
    """Lines of Python that make the model of these weights, or run it."""
    if suffix == ".onnx":
        return rebuild_onnx()
    c = trained.config
    lines = [
        "import timm, torch",
        f"model = timm.create_model({c.model!r}, num_classes={len(trained.classes)}{_sizes(c)})",
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
            f"apply_stochastic_depth(model, drop_rate={depth.drop_rate!r})",
        ]
    loading = (
        rebuild_safetensors()
        if suffix == SUFFIX
        else ["model.load_state_dict(torch.load(PATH, weights_only=True))"]
    )
    return [*lines, *loading, "model.eval()"]


def _sizes(config: TrainConfig) -> str:
    return "".join(f", {name}={value!r}" for name, value in size_arguments(config).items())

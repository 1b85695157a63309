"""The sizes of a run's images, and what a model that is built for one size is told of them.

timm's transformers are built for a fixed size. If a run has several (a larger one for validation, or small
images first), they are built for train_resolution with timm's dynamic_img_size, which interpolates the
position embeddings in every forward pass. A size that the model cannot take is refused before training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.augment import resizes_on_device, side_after_colout
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import size_function

# Enough steps for progressive resizing to pass through all of its sizes.
_STEPS = 2000
_REMEDY = {
    "train_resolution": "give another --train-resolution",
    "val_resolution": "give another --val-resolution",
    "progressive_resizing": "give --progressive-resizing null, or another initial_scale and size_increment",
    "colout": "give --colout 0",
}


def sides_of(config: TrainConfig) -> dict[int, str]:
    """The sides of a run's images in pixels, as the model sees them, each with the key that it comes from."""
    full = config.train_resolution
    resized = _resized(config)
    if resizes_on_device(config):  # after ColOut
        sides = dict.fromkeys(resized, "progressive_resizing")
    elif config.colout:
        sides = dict.fromkeys((side_after_colout(config, side) for side in resized), "colout")
    else:
        sides = {side: "train_resolution" if side == full else "progressive_resizing" for side in resized}
    return {config.val_resolution: "val_resolution", **sides}


def _resized(config: TrainConfig) -> set[int]:
    """The sizes that the loader's `resolution=` goes through."""
    steps = -(-_STEPS // config.epochs)
    size_of = size_function(config, steps)
    if size_of is None:
        return {config.train_resolution}
    return set(itertools.starmap(size_of, itertools.product(range(config.epochs), range(steps))))


def timm_with(name: str) -> Any:
    """The module timm, wanted for the model `name`. Raises MissingExtraError without it."""
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "train", f"The model {name!r}") from error
    return timm


def size_arguments(config: TrainConfig) -> dict[str, Any]:
    """Arguments of timm.create_model for the run's sizes; none for a model that takes any size."""
    known = timm_with(config.model).get_pretrained_cfg(config.model)
    if known is None or not known.fixed_input_size:
        return {}
    several = set(sides_of(config)) != {config.train_resolution}
    return {"img_size": config.train_resolution, **({"dynamic_img_size": True} if several else {})}


def check_sides(model: nn.Module, config: TrainConfig) -> None:
    """Raise ArgumentError, which names the key, for a size that `model` cannot take.

    Every size is tried in a forward pass that computes shapes only. Models that take any size are not tried.
    """
    if not size_arguments(config):
        return
    found = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patch = found if isinstance(found, int) else found[0]
    for side, key in sorted(sides_of(config).items()):
        if side % patch:
            step = math.lcm(patch, 4)  # sizes are multiples of 4
            lower = max(step, side // step * step)
            raise ArgumentError(
                f"{config.model} cuts images into patches of {patch} pixels, so {key} must give multiples of "
                f"{step}, such as {lower} or {lower + step}. Found: {side}. Or {_REMEDY[key]}"
            )
        if reason := _why_not(model, side):
            raise ArgumentError(
                f"{config.model} cannot take images of {side} pixels, which come from {key}: {reason}. "
                f"{_REMEDY[key].capitalize()}"
            )


def _why_not(model: nn.Module, side: int) -> str:
    """What timm says against images of this side; empty if it takes them."""
    tensors = dict(_shapes(model))
    was_training = model.training
    try:
        torch.func.functional_call(model.eval(), tensors, (torch.empty(2, 3, side, side, device="meta"),))
    except NotImplementedError:  # an operation whose shapes torch cannot compute: nothing is known
        return ""
    except (AssertionError, RuntimeError, ValueError) as error:
        return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    finally:
        model.train(was_training)
    return ""


def _shapes(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in itertools.chain(model.named_parameters(), model.named_buffers()):
        yield name, value.detach().to("meta")

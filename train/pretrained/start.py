"""What a run starts from: random weights, pretrained ones, or those of an earlier run.

`begin` decides it from the configuration and takes over what the weights bring along; `Start.load` copies the
weights, which a resumed run does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.train.checkpoint import is_checkpoint, load_plain
from fastpipe.train.config.groups import Task
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.pretrained.files import read_file
from fastpipe.train.pretrained.fitting import is_of_classifier, load_below_classifier
from fastpipe.train.pretrained.hub import check_has_weights, fetch, own_data_config, place_of
from fastpipe.train.pretrained.packages import PACKAGES, package_file, package_words, renamed_by_order
from fastpipe.train.pretrained.preprocessing import of_config, of_data_config, taken_over
from fastpipe.train.units import Units, restandardised
from fastpipe.train.weights import Told, Trained, card_path, read_exported, trained_of

Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The configuration to run, where its weights come from, and what they changed: key -> (before, after).

    `read` takes the model and returns weights under its names; None for random weights. `classes` are those
    that the classifier of these weights tells apart, None if they are not this run's business; `task` is what
    its outputs are, numbers by `units`, or in the labels' own ones.
    """

    config: TrainConfig
    where: str = ""
    read: Callable[[nn.Module], Mapping[str, Tensor]] | None = None
    taken: Changes = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    task: Task | None = None
    units: Units | None = None

    def load(
        self,
        model: nn.Module,
        classes: tuple[str, ...],
        *,
        task: Task = "classes",
        units: Units | None = None,
    ) -> Iterator[str]:
        """Copy the weights into `model` and say what was done. Raises DataError if they do not fit.

        The classifier is kept only if it tells apart these `classes`, in this order. units: those in which
        this run learns numbers. Raises ArgumentError for a run whose labels are of another kind than `task`.
        """
        if self.read is None:
            return
        if self.task not in (None, task):
            raise ArgumentError(
                f"init_from must name a run whose labels are {task}, as those of this data. Found: "
                f"{self.where}, whose labels are {self.task}. To take only what lies below its classifier, "
                "write its weights with --export CKPT weights.pt, and give --pretrained weights.pt"
            )
        weights = self.read(model)
        before = load_below_classifier(model, weights, self.where)
        yield f"weights: {self.where}"
        if self.classes == classes:
            own = weights if units is None else restandardised(weights, self.units, units)
            _load_classifier(model, own)
            yield "classifier: that of these weights, which has the same classes"
        else:
            was = "" if before is None else f"; that of these weights has {before} classes"
            yield f"classifier: a new one for {len(classes)} classes{was}"

    def lines(self) -> Iterator[str]:
        """What the weights brought along."""
        source = "from the model, whose weights are random" if self.read is None else "with the weights"
        for key, (before, after) in self.taken.items():
            yield f"taken over {source}: {key} {_shown(before)} -> {_shown(after)}"


def begin(config: TrainConfig, explicit: Collection[str]) -> Start:
    """What `config` starts from. `explicit`: the dotted keys set by the user, which stay as they are.

    Reads the head of things only: names, configurations, for `init_from` the file. Raises ArgumentError for
    weights that do not exist.
    """
    if config.init_from is not None:
        return _from_run(config, Path(config.init_from), explicit)
    tagged = "." in config.model
    if tagged and "pretrained" in explicit and config.pretrained is False:
        raise ArgumentError(
            f"model {config.model!r} names pretrained weights, and pretrained is false. For random weights, "
            f"give --model {config.model.partition('.')[0]}"
        )
    if not config.pretrained and not tagged:
        return _at_random(config, explicit)
    name = config.model
    if isinstance(config.pretrained, str) and config.pretrained != "package":
        path = Path(config.pretrained)
        return _taking(config, explicit, str(path), lambda _: read_file(path))
    if not tagged and (file := package_file(name)) is not None:
        where = f"the package {package_words(name)}, trained on ImageNet"
        return _taking(config, explicit, where, lambda model: _packaged(file, model))
    if config.pretrained == "package":
        raise _no_package(name)
    check_has_weights(name)
    return _taking(config, explicit, f"{name} of timm, {place_of(name)}", lambda _: fetch(name))


def _at_random(config: TrainConfig, explicit: Collection[str]) -> Start:
    if config.preprocessing != "model":
        return Start(config=config)
    taken, changes = taken_over(config, of_data_config(own_data_config(config.model)), explicit)
    return Start(config=taken, taken=changes)


def _taking(
    config: TrainConfig,
    explicit: Collection[str],
    where: str,
    read: Callable[[nn.Module], Mapping[str, Tensor]],
) -> Start:
    own = of_data_config(own_data_config(config.model))
    taken, changes = taken_over(config, own, explicit)
    return Start(config=taken, where=where, read=read, taken=changes)


def _packaged(file: Path, model: nn.Module) -> Mapping[str, Tensor]:
    return renamed_by_order(read_file(file), model.state_dict())


def _no_package(name: str) -> FastpipeError:
    if name in PACKAGES:
        return MissingExtraError(PACKAGES[name], "pretrained", f"{name!r} with --pretrained package")
    return ArgumentError(
        f"pretrained: package is possible for {', '.join(PACKAGES)}. Found: model {name!r}. Give "
        "--pretrained without a value for timm's weights from its hub, or name a file"
    )


def _from_run(config: TrainConfig, path: Path, explicit: Collection[str]) -> Start:
    """The weights that the run at `path` reports, with its model and what changes the model's graph."""
    earlier = _trained(path)
    own: dict[str, Any] = {
        "model": earlier.config.model.partition(".")[0],
        "blurpool": earlier.config.blurpool,
        **_depth(config, earlier.config),
    }
    # A saved configuration has them already, and perhaps by hand: it says so as it does for preprocessing.
    settled = config.preprocessing == "recipe" and not {"preprocessing", "init_from"} & set(explicit)
    own = {} if settled else own
    theirs = {key: value for key, value in own.items() if not _is_set(key, explicit)}
    changes = {key: (getattr(config, key), value) for key, value in theirs.items()}
    config = replace(config, **theirs)
    taken, prepared = taken_over(config, of_config(earlier.config), explicit)
    name, weights = next(iter(earlier.weights().items()))
    return Start(
        config=taken,
        where=f"{path} ({name})",
        read=lambda _: weights,
        taken={key: pair for key, pair in (changes | prepared).items() if pair[0] != pair[1]},
        classes=earlier.classes,
        task=earlier.task,
        units=earlier.units,
    )


def _depth(config: TrainConfig, earlier: TrainConfig) -> dict[str, Any]:
    """Composer's stochastic depth, which weights branches in evaluation too; timm's leaves no trace."""
    both = (config.stochastic_depth, earlier.stochastic_depth)
    weights = any(one is not None and one.kind == "composer" for one in both)
    return {"stochastic_depth": earlier.stochastic_depth} if weights else {}


def _is_set(key: str, explicit: Collection[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in explicit)


def _trained(path: Path) -> Trained:
    if not path.is_file():
        raise ArgumentError(
            f"init_from: {str(path)!r} does not exist. Name a run's last.ckpt, or a file that --export wrote"
        )
    state = load_plain(path)
    if is_checkpoint(state):
        return trained_of(state, path)
    card = card_path(path)
    if card is None or card.is_file():
        return read_exported(path, state, Told(), ())
    raise ArgumentError(
        f"init_from: {str(path)!r} must be a run's last.ckpt, or a file that --export wrote, next to "
        f"its card {card.name!r}. For weights from elsewhere, give --pretrained"
    )


@torch.no_grad()
def _load_classifier(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        if is_of_classifier(model, name):
            tensor.copy_(weights[name])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value)
    return str(value)

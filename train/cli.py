"""`fastpipe-train`: a recipe, single keys overridden on the command line, and one run.

    fastpipe-train --recipe mild --data demo --epochs 4 --model resnet18 --train-resolution 64
    --optimizer.lr 0.5

A dash and an underscore in an option's name are the same. Types, help and value checks come from
jsonargparse.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.system.output import ends_with_its_reader, put, version
from fastpipe.system.stop_signals import listening, stop_early
from fastpipe.train.augment import with_group
from fastpipe.train.commands import command_of, run_command
from fastpipe.train.config import TrainConfig, scale_schedule
from fastpipe.train.config_checks import check_from_scratch, round_to_multiple
from fastpipe.train.groups import dump_yaml, expanded, load_yaml, text_of, with_groups_read
from fastpipe.train.keys import (
    check_keys,
    config_from_dict,
    config_to_dict,
    flat_keys,
    group_classes,
    suggest,
    switches,
)
from fastpipe.train.options import OPTION_NAMES, Options, check_options
from fastpipe.train.parser import (
    DEFAULT_RECIPE,
    RECIPES,
    checked,
    make_parser,
    print_group_help,
    recipe_names,
)
from fastpipe.train.recipe_table import recipe_table

__all__ = [
    "Invocation",
    "config_from_values",
    "follow_epochs",
    "follow_train_resolution",
    "load_recipe",
    "main",
    "parse",
    "recipe_names",
    "to_yaml",
]

_OWN_OPTIONS = (
    "recipe",
    "augment",
    "print_config",
    "list_recipes",
    "help",
    "version",
    "evaluate",
    "export",
    *OPTION_NAMES,
)
# In the order of the reference text's Table 1.
_TABLE = (
    *("timm_a1", "timm_a2", "timm_a3", "pytorch_blog", "ffcv", "nvidia_mlperf", "nvidia_hparams"),
    *("mild", "medium", "hot"),
)


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A parsed command line: `explicit` holds the dotted keys that the user set himself."""

    config: TrainConfig
    explicit: frozenset[str]
    recipe_batch_size: int
    print_config: bool = False
    list_recipes: bool = False
    options: Options = field(default_factory=Options)


def load_recipe(name: str) -> TrainConfig:
    """A recipe by name, or from a .yaml file (as `--print-config` prints it and every run saves it)."""
    is_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_file else RECIPES / f"{name}.yaml"
    if not path.is_file():
        if is_file:
            raise ArgumentError(
                f"recipe file {name!r} does not exist. By name there are: {', '.join(recipe_names())}"
            )
        raise ArgumentError(f"unknown recipe {name!r}. {suggest(name, recipe_names())}")
    values = load_yaml(text_of(path, "--recipe"), where=f"recipe {str(path)!r}")
    if not isinstance(values, Mapping):
        raise ArgumentError(f"recipe {str(path)!r} must hold keys and values, as --print-config prints them")
    values = with_groups_read(values, path.parent)
    return config_from_values(values, where=f"recipe {name!r}", recipe=path.stem)


def config_from_values(values: Mapping[str, Any], *, where: str, recipe: str) -> TrainConfig:
    """The configuration in nested values of a file, checked; `recipe` is its name if they hold none.

    Raises ArgumentError, with `where`, for an unknown key or a wrong type.
    """
    check_keys(values, where=where)
    for name in group_classes():
        if not isinstance(values.get(name, {}), Mapping | None):
            raise ArgumentError(f"{name} in {where} must hold keys and values. Found: {values[name]!r}")
    recipe = str(values.get("recipe", recipe))
    typed = checked(lambda: make_parser().parse_object(_without_recipe(values))).as_dict()
    config: TrainConfig = config_from_dict(
        {k: typed[k] for k in flat_keys() if k in typed} | {"recipe": recipe}
    )
    return config


def to_yaml(config: TrainConfig) -> str:
    """The whole configuration as YAML, in the order of the documentation."""
    return dump_yaml(config_to_dict(config))


def follow_train_resolution(
    values: dict[str, Any], recipe: TrainConfig, explicit: Collection[str]
) -> dict[str, Any]:
    """`values` with validation sizes that follow the training size as the recipe's do.

    Sizes the user did not set keep the recipe's ratios (mild: 224 / 176, then 232 / 224), rounded to the
    nearest multiple of 4: 64 pixels of training give 80 and 84.
    """
    size, resize = values["val_resolution"], values["val_resize"]
    if "val_resolution" not in explicit and values["train_resolution"] != recipe.train_resolution:
        size = _near(values["train_resolution"] * recipe.val_resolution / recipe.train_resolution)
    if "val_resize" not in explicit and size != recipe.val_resolution:
        resize = max(size, _near(size * recipe.val_resize / recipe.val_resolution))
    return {**values, "val_resolution": size, "val_resize": resize}


def follow_epochs(values: dict[str, Any], recipe: TrainConfig, explicit: Collection[str]) -> dict[str, Any]:
    """`values` with a ramp of sizes given in epochs at the recipe's share of training.

    FFCV's own shorter configurations have theirs at 0.69 to 0.74 and 0.81 to 0.86 of training, likewise.
    """
    ramp = values["progressive_resizing"]
    if ramp is None or values["epochs"] == recipe.epochs:
        return values
    scaled = {
        key: round(ramp[key] * values["epochs"] / recipe.epochs, 6)
        for key in ("start_epoch", "end_epoch")
        if f"progressive_resizing.{key}" not in explicit
    }
    return {**values, "progressive_resizing": {**ramp, **scaled}}


def _near(size: float) -> int:
    return max(32, round_to_multiple(size, 4))


def parse(argv: Sequence[str]) -> Invocation:
    """The run that a command line asks for. Raises ArgumentError with the nearest known option or recipe."""
    args = expanded(_with_flags_as_values([_underscored(arg) for arg in argv]))
    explicit = frozenset(_option(arg) for arg in args if arg.startswith("--"))
    known = [*(key for key in flat_keys() if key != "recipe"), *_OWN_OPTIONS]
    of_groups = {f"{name}.help" for name in group_classes()}
    for name in sorted(explicit - set(known) - of_groups):
        raise ArgumentError(f"unknown option '--{name}'. {suggest(name, known, prefix='--')}")
    if asked := sorted(explicit & of_groups):
        print_group_help(asked[0].removesuffix(".help"))
    recipe = load_recipe(_value(args, "recipe") or DEFAULT_RECIPE)
    parser = make_parser()
    defaults = with_group(config_to_dict(recipe), _value(args, "augment"))
    parser.set_defaults(_without_recipe(defaults))
    # jsonargparse gives --print_config a meaning of its own (without our size rule): it is ours here.
    rest = [arg for arg in args if arg not in ("--print_config", "--list_recipes")]
    parsed = checked(lambda: parser.parse_args(rest)).as_dict()
    for key in ("recipe", "augment", "version", "print-config", "list-recipes"):
        del parsed[key]
    options = Options(**{name: parsed.pop(name) for name in OPTION_NAMES})
    values = follow_epochs(follow_train_resolution(parsed, recipe, explicit), recipe, explicit)
    config = scale_schedule(config_from_dict({**values, "recipe": recipe.recipe}))
    check_from_scratch(config)  # both here too, so that no process starts for nothing
    check_options(options, config)
    return Invocation(
        config=config,
        explicit=explicit,
        recipe_batch_size=recipe.batch_size,
        print_config="print_config" in explicit,
        list_recipes="list_recipes" in explicit,
        options=options,
    )


def _underscored(arg: str) -> str:
    if not arg.startswith("--"):
        return arg
    name, sign, value = arg.partition("=")
    return "--" + name[2:].replace("-", "_") + sign + value


def _with_flags_as_values(args: list[str]) -> list[str]:
    """A bare `--compile` and the like means true; all other options take their value."""
    flags = {f"--{name}" for cls in (TrainConfig, Options) for name in switches(cls)}
    following = [*args[1:], "--"]
    return [
        f"{arg}=true" if arg in flags and after.startswith("-") else arg
        for arg, after in zip(args, following, strict=False)
    ]


def _option(arg: str) -> str:
    return arg[2:].partition("=")[0]


def _value(args: Sequence[str], option: str) -> str | None:
    """The value of `--option VALUE` or `--option=VALUE`; the last one counts."""
    found = None
    for position, arg in enumerate(args):
        if arg == f"--{option}" and position + 1 < len(args):
            found = args[position + 1]
        elif arg.startswith(f"--{option}="):
            found = arg.partition("=")[2]
    return found


def _without_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "recipe"}


@listening(stop_early, command=True)
@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status.

    0, 2 (wrong argument), 1 (failed run); stopped and saved: 130 (Ctrl-C), 143 (SIGTERM), 75 (SIGUSR1).
    """
    args = sys.argv[1:] if argv is None else argv
    try:
        if "--version" in args:  # needs no extra
            put(f"fastpipe-train {version()}\n")
            return 0
        if command := command_of(args):
            return run_command(command, args)
        invocation = parse(args)
        if invocation.print_config:
            put(to_yaml(invocation.config))
            return 0
        if invocation.list_recipes:
            put(recipe_table({name: load_recipe(name) for name in _TABLE}))
            return 0
        # Imported late: printing a configuration needs neither timm nor a data set.
        from fastpipe.train.session import start

        return start(invocation, args)
    except FastpipeError as error:
        from fastpipe.train.broken import in_options

        sys.stderr.write(f"fastpipe-train: error: {in_options(error)}\n")
        return 2 if isinstance(error, ArgumentError | MissingExtraError) else 1

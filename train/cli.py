"""`fastpipe-train`: a recipe, with single keys overridden on the command line, and one run.

    fastpipe-train --recipe mild --data demo --epochs 4 --model resnet18 --train-resolution 64
    --optimizer.lr 0.5

Dashes and underscores in an option's name are equivalent. Types, help and value checks come from
jsonargparse.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.system.output import ends_with_its_reader, put, version
from fastpipe.system.stop_signals import listening, stop_early
from fastpipe.train.commands.choose import COMMANDS, command_of, run_command
from fastpipe.train.config.checks import check_arguments
from fastpipe.train.config.fit import follow_epochs, follow_train_resolution
from fastpipe.train.config.group_files import expanded
from fastpipe.train.config.keys import (
    config_from_dict,
    config_to_dict,
    flat_keys,
    group_classes,
    suggest,
    switches,
)
from fastpipe.train.config.options import OPTION_NAMES, Invocation, Options, check_options
from fastpipe.train.config.parser import (
    DEFAULT_RECIPE,
    checked,
    make_parser,
    print_group_help,
)
from fastpipe.train.config.recipe import load_recipe, to_yaml, with_augmentations, without_recipe
from fastpipe.train.config.schema import TrainConfig, scale_schedule
from fastpipe.train.recipe_table import recipe_table

__all__ = ["main"]

_OWN_OPTIONS = (
    "recipe",
    "augment",
    "print_config",
    "list_recipes",
    "help",
    "version",
    *COMMANDS,
    *OPTION_NAMES,
)
# The ten of the reference text's Table 1 in its order, then those for other models than ResNet-50.
_TABLE = (
    *("timm_a1", "timm_a2", "timm_a3", "pytorch_blog", "ffcv", "nvidia_mlperf", "nvidia_hparams"),
    *("mild", "medium", "hot"),
    *("deit", "convnext"),
)


def parse(argv: Sequence[str]) -> Invocation:
    """The run for a command line. Raises ArgumentError with the nearest known option or recipe."""
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
    defaults = with_augmentations(config_to_dict(recipe), _value(args, "augment"))
    parser.set_defaults(without_recipe(defaults))
    # jsonargparse gives --print_config a meaning of its own (without our size rule): it is ours here.
    rest = [arg for arg in args if arg not in ("--print_config", "--list_recipes")]
    parsed = checked(lambda: parser.parse_args(rest)).as_dict()
    for key in ("recipe", "augment", "version", "print-config", "list-recipes"):
        del parsed[key]
    options = Options(**{name: parsed.pop(name) for name in OPTION_NAMES})
    values = follow_epochs(follow_train_resolution(parsed, recipe, explicit), recipe, explicit)
    config = scale_schedule(config_from_dict({**values, "recipe": recipe.recipe}))
    check_options(options, config)  # here too, so that no process starts for nothing
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
    """A bare switch such as `--compile` means true; all other options take a value."""
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
        check_arguments(args)
        if args and args[0] == "study":
            # Imported late, and given the parser: it is the only room that calls back.
            from fastpipe.train.studies.command import run_study

            return run_study(args[1:], parse)
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

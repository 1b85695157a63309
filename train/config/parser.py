"""The options of `fastpipe-train` for jsonargparse: types, descriptions, help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.config.keys import group_classes
from fastpipe.train.config.options import Options
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.describe import describe_options

RECIPES = Path(__file__).parent.parent / "recipes"
DEFAULT_RECIPE = "mild"
AUGMENTED = ("none", "mild", "medium", "hot")
"""What `--augment` takes: none, or a recipe whose augmentations to use."""


def recipe_names() -> list[str]:
    """The recipes that come with fastpipe."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def make_parser() -> Any:
    """The command line of training, with a description of every option."""
    jsonargparse = _jsonargparse()
    parser = jsonargparse.ArgumentParser(
        prog="fastpipe-train",
        exit_on_error=False,
        description="Train an image classifier with a recipe. "
        "--evaluate CKPT --data DATA measures a checkpoint and shows its mistakes; "
        "--predict CKPT FILES predicts images; "
        "--report RUN writes a page about a run; "
        "--export CKPT OUT writes its weights (.pt, .safetensors) or its model (.onnx); "
        "`study NAME` repeats a table of the ResNet Deep Dive. "
        "For their options, see `--evaluate --help`, `study --help` and so on.",
    )
    parser.add_argument(
        "--recipe", type=str, default=DEFAULT_RECIPE, help=f"{', '.join(recipe_names())}, or a .yaml file"
    )
    parser.add_argument(
        "--augment",
        type=str,
        default=None,
        help=f"{', '.join(AUGMENTED)}: use the augmentations of that recipe instead of this one's",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--print-config",
        dest="print-config",
        action="store_true",
        help="print the resolved configuration and exit",
    )
    parser.add_argument(
        "--list-recipes",
        dest="list-recipes",
        action="store_true",
        help="print the published recipes side by side and exit",
    )
    parser.add_class_arguments(Options, as_group=False)
    parser.add_class_arguments(TrainConfig, as_group=False, skip={"recipe"})
    describe_options(parser, Options, TrainConfig)
    return parser


def print_group_help(name: str) -> NoReturn:
    """Print the keys of one group, then exit like --help."""
    parser = _jsonargparse().ArgumentParser(prog="fastpipe-train")
    parser.add_class_arguments(group_classes()[name].cls, name)
    describe_options(parser)
    parser.print_help()
    raise SystemExit(0)


def checked(parse_them: Callable[[], Any]) -> Any:
    """What `parse_them` returns. Raises a one-line ArgumentError instead of jsonargparse's own error."""
    jsonargparse = _jsonargparse()
    try:
        return parse_them()
    except jsonargparse.ArgumentError as error:
        raise ArgumentError(" ".join(str(error).split())) from error


def _jsonargparse() -> Any:
    try:
        import jsonargparse
    except ImportError as error:
        raise MissingExtraError("jsonargparse", "train", "The command line of fastpipe-train") from error
    return jsonargparse

"""The description of every option in `--help`: the text below each field of the option classes."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

from fastpipe.train.config.keys import group_classes


def descriptions(cls: type[Any]) -> dict[str, str]:
    """The docstring of each field of `cls`, in one line; none if there is no source to read."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:  # installed as byte code only: help without descriptions is better than no command
        return {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(body.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def describe_options(parser: Any, *classes: type[Any]) -> None:
    """Give each option of a jsonargparse `parser` the description of its field in one of `classes`."""
    known = {name: text for cls in classes for name, text in descriptions(cls).items()}
    groups = group_classes()
    known |= {
        f"{name}.{key}": text
        for name, group in groups.items()
        for key, text in descriptions(group.cls).items()
    }
    for action in parser._actions:
        name = action.dest
        if name in groups:
            action.help = _of_group(name)
        elif name in known:
            # argparse reads a percent sign as a placeholder.
            action.help = known[name].replace("%", "%%")


def _of_group(name: str) -> str:
    group = group_classes()[name]
    title = " ".join((group.cls.__doc__ or "").split("\n\n")[0].split())
    keys = ", ".join(f"--{name}.{key}" for key in group.keys)
    off = "; null: off" if group.optional else ""
    return (
        f"{title} Takes a .yaml or .json file with the keys of this group, or JSON{off}. Single keys: {keys}"
    )

"""A recipe's groups (optimizer, schedule, ema, ...) given whole: as a file, as JSON, or by a recipe's path.

On the command line `--optimizer opt.yaml` and `--optimizer '{"lr": 0.5}'` stand for `--optimizer.lr 0.5`:
order, checks and the list of keys set by the user are the same as for single keys. Keys that are not named
keep their values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.config.keys import check_keys, group_classes

_FILES = (".yaml", ".yml", ".json")
_NULL = ("null", "none", "~")


def load_yaml(text: str, *, where: str) -> Any:
    """The values in YAML or JSON text. Raises ArgumentError, with `where`, for text that is neither."""
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArgumentError(f"{where} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their own order."""
    text: str = _yaml().safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "train", "Reading a recipe") from error
    return yaml


def expanded(args: Sequence[str]) -> list[str]:
    """The arguments, with single keys in place of every group that is given whole."""
    found: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        name, sign, text = arg.removeprefix("--").partition("=")
        if not arg.startswith("--") or name not in group_classes():
            found.append(arg)
            continue
        if not sign:
            if not rest or rest[0].startswith("--"):
                raise ArgumentError(f"--{name} must be followed by {_allowed(name)}. Found: nothing")
            text = rest.pop(0)
        found += _as_keys(name, read_group(name, text))
    return found


def _as_keys(group: str, values: Mapping[str, Any] | None) -> Iterator[str]:
    if values is None:
        yield f"--{group}=null"
    elif not values and group_classes()[group].optional:
        yield f"--{group}={{}}"  # on, with its defaults
    for key, value in (values or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        yield f"--{group}.{key}={text}"


def read_group(name: str, text: str, *, folder: Path = Path()) -> dict[str, Any] | None:
    """The values that `text` names: a file (relative to `folder`), JSON, or null for a method that is off.

    A file may hold the keys themselves or the group with its name. Raises ArgumentError for anything else,
    and for a key that the group does not have.
    """
    path = folder / Path(text).expanduser()
    if text.strip().lower() in _NULL:
        values: Any = None
    elif text.lower().endswith(_FILES) or ("\n" not in text and "{" not in text and path.is_file()):
        values = load_yaml(text_of(path, f"--{name}"), where=f"--{name} {str(path)!r}")
        values = {} if values is None else values
    else:
        values = load_yaml(text, where=f"--{name} {text!r}")
    if isinstance(values, Mapping) and set(values) == {name}:
        values = values[name]
    return _checked(name, values, text)


def text_of(path: Path, option: str) -> str:
    """The text of a file that `option` names. Raises ArgumentError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ArgumentError(
            f"{option} must name a file that can be read. Found: {str(path)!r} ({reason})"
        ) from error


def _checked(name: str, values: Any, text: str) -> dict[str, Any] | None:
    group = group_classes()[name]
    if values is None and group.optional and text.strip():
        return None
    if not isinstance(values, Mapping):
        raise ArgumentError(f"--{name} must be {_allowed(name)}. Found: {text!r}")
    check_keys(values, where=f"--{name}", cls=group.cls, prefix=f"{name}.")
    return dict(values)


def _allowed(name: str) -> str:
    group = group_classes()[name]
    keys = group.keys
    off = ", null to switch it off" if group.optional else ""
    return (
        f"a .yaml or .json file with its keys ({', '.join(keys)}), or JSON such as "
        f"'{{\"{keys[0]}\": ...}}'{off}. Or give single keys such as --{name}.{keys[0]}"
    )


def with_groups_read(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a recipe file in `folder`; each group that is given as text is read."""
    return {
        key: read_group(key, value, folder=folder)
        if key in group_classes() and isinstance(value, str)
        else value
        for key, value in values.items()
    }

"""A recipe's keys: from nested values to frozen classes and back, with a suggestion for an unknown key."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.train.config.schema import TrainConfig


def suggest(wrong: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A sentence that names the nearest known word, or all of them."""
    names = sorted(known)
    near = get_close_matches(wrong, names, n=1, cutoff=0.5)
    if not near:
        by_leaf = {name.rpartition(".")[2]: name for name in names}
        near = [
            by_leaf[leaf] for leaf in get_close_matches(wrong.rpartition(".")[2], by_leaf, n=1, cutoff=0.6)
        ]
    return f"Did you mean '{prefix}{near[0]}'?" if near else f"Known: {', '.join(names)}"


def _nested(annotation: Any) -> type[Any] | None:
    """The dataclass inside `X` or `X | None`, if there is one."""
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((m for m in members if is_dataclass(m) and isinstance(m, type)), None)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A key of a recipe that has its own keys. optional: it may be null, for a method that is off."""

    cls: type[Any]
    optional: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """Its own keys."""
        return tuple(f.name for f in fields(self.cls))


@functools.cache
def group_classes() -> Mapping[str, Group]:
    """The groups of a recipe by name."""
    hints = typing.get_type_hints(TrainConfig)
    found = {name: (_nested(hint), hint) for name, hint in hints.items()}
    return {
        name: Group(cls=inner, optional=inner is not hint)
        for name, (inner, hint) in found.items()
        if inner is not None
    }


def switches(cls: type[Any], prefix: str = "") -> Iterator[str]:
    """Every key in dotted form that may be true."""
    for name, hint in typing.get_type_hints(cls).items():
        inner = _nested(hint)
        if inner is not None:
            yield from switches(inner, f"{prefix}{name}.")
        elif hint is bool or bool in typing.get_args(hint):
            yield prefix + name


def flat_keys(cls: type[Any] = TrainConfig, prefix: str = "") -> list[str]:
    """Every key in dotted form, groups before their members."""
    hints = typing.get_type_hints(cls)
    keys: list[str] = []
    for f in fields(cls):
        keys.append(prefix + f.name)
        inner = _nested(hints[f.name])
        if inner is not None:
            keys += flat_keys(inner, f"{prefix}{f.name}.")
    return keys


def check_keys(
    values: Mapping[str, Any], *, where: str, cls: type[Any] = TrainConfig, prefix: str = ""
) -> None:
    """Raise ArgumentError for a key that `cls` does not have, naming the nearest one it has."""
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            advice = suggest(f"{prefix}{key}", [prefix + name for name in hints])
            raise ArgumentError(f"unknown key {prefix + str(key)!r} in {where}. {advice}")
        inner = _nested(hints[key])
        if inner is not None and isinstance(value, Mapping):
            check_keys(value, where=where, cls=inner, prefix=f"{prefix}{key}.")


def config_from_dict(values: Mapping[str, Any], cls: type[Any] = TrainConfig) -> Any:
    """A `cls` from nested values whose keys and types were checked."""
    hints = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for key, value in values.items():
        inner = _nested(hints[key])
        built[key] = (
            config_from_dict(value, inner) if inner is not None and isinstance(value, Mapping) else value
        )
    return cls(**built)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values in the order of the fields, ready for YAML and for a checkpoint."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {k: config_to_dict(v) if is_dataclass(v) else v for k, v in values.items()}


def differing(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> (before, after) for each difference between two nested configurations.

    A group that only one of them has is one entry.
    """
    found: dict[str, Any] = {}
    for key, old in before.items():
        new = after[key]
        if isinstance(old, dict) and isinstance(new, dict):
            found |= differing(old, new, f"{prefix}{key}.")
        elif old != new:
            found[prefix + key] = (old, new)
    return found

"""A data set's pipelines, found in its attributes, and a copy of the data set with others in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets.vision import StandardTransform

from fastpipe.transforms import flatten

__all__ = ["Snapshot", "spots_of"]

_MOST_PARTS: Final = 256  # of a list of data sets, as ConcatDataset has one
_LIBRARIES: Final = ("torchvision.transforms.", "timm.data.")

# Attribute names, and positions in a list of data sets, from the data set to the pipeline.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A pipeline, and the way to it."""

    path: Path
    pipeline: Any

    @property
    def name(self) -> str:
        """The attribute that holds it."""
        return ".".join(str(key) for key in self.path)


def spots_of(dataset: Any) -> list[Spot]:
    """The pipelines of torchvision or timm in the attributes of the data set and of those that it wraps.

    That of labels stays the script's own, by torchvision's name for it.
    """
    return [
        Spot(path, value)
        for path, value in _attributes(dataset, (), set())
        if path[-1] != "target_transform" and holds_pipeline(value)
    ]


def holds_pipeline(value: Any) -> bool:
    """Whether it is a pipeline with a step of torchvision's or timm's."""
    if not callable(value) or isinstance(value, type | Dataset):
        return False
    return any(str(type(step).__module__).startswith(_LIBRARIES) for step in flatten(value))


def datasets_in(dataset: Any) -> list[Any]:
    """The data set and those that it wraps, each once."""
    found: dict[int, Any] = {id(dataset): dataset}
    for _, value in _attributes(dataset, (), set()):
        if is_dataset(value):
            found.setdefault(id(value), value)
    return list(found.values())


def _attributes(owner: Any, path: Path, seen: set[int]) -> Iterator[tuple[Path, Any]]:
    """Every attribute, with those of the data sets and torchvision's pairs of transforms among them."""
    if id(owner) in seen:
        return
    seen = {*seen, id(owner)}
    for name, value in getattr(owner, "__dict__", {}).items():
        yield (*path, name), value
        for inner, wrapped in _wrapped((*path, name), value):
            yield inner, wrapped
            yield from _attributes(wrapped, inner, seen)


def _wrapped(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if is_dataset(value) or type(value) is StandardTransform:
        yield path, value
    elif type(value) in (list, tuple) and 0 < len(value) <= _MOST_PARTS:
        yield from ((((*path, place)), part) for place, part in enumerate(value) if is_dataset(part))


def is_dataset(value: Any) -> bool:
    """Whether it is a data set of torch's."""
    return issubclass(type(value), Dataset)  # `isinstance` would ask a host half for its class


def twin_of(dataset: Any, halves: Mapping[Path, Callable[..., Any]]) -> Any:
    """A copy of the data set in which `halves` stand at these paths.

    Everything on the way is copied once, and shallowly: what else the data set holds is shared with it.
    """
    copies: dict[int, Any] = {}
    root = _copied(dataset, copies)
    for path, half in halves.items():
        original, owner = dataset, root
        for key in path[:-1]:
            original = _member(original, key)
            inner = _copied(original, copies)
            _put(owner, key, inner)
            owner = inner
        _put(owner, path[-1], half)
    return root


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    if id(value) not in copies:
        copies[id(value)] = list(value) if isinstance(value, tuple) else copy.copy(value)
    return copies[id(value)]


def _member(owner: Any, key: str | int) -> Any:
    return owner[key] if isinstance(key, int) else vars(owner)[key]


def _put(owner: Any, key: str | int, value: Any) -> None:
    if isinstance(key, int):
        owner[key] = value
    else:
        vars(owner)[key] = value  # a property or __setattr__ of the script's does not run


def fetches_several(dataset: Any) -> str | None:
    """The name of a data set with a `__getitems__` of its own, which asks for a batch at once; else None."""
    for inner in datasets_in(dataset):
        if type(inner) not in (Subset, ConcatDataset) and hasattr(inner, "__getitems__"):
            return type(inner).__name__
    return None


class Snapshot:
    """The attributes of a data set and of those that it wraps, to see whether a script has set one."""

    def __init__(self, dataset: Any) -> None:
        self._of = _state(dataset)

    def is_of(self, dataset: Any) -> bool:
        """Whether the same objects are still there. What changed inside them is not seen."""
        now = _state(dataset)
        return len(now) == len(self._of) and all(map(_same, now, self._of))

    def changed(self) -> str | None:
        """The name of an attribute that is another object now. One that was None may be opened, once."""
        for owner, was in self._of:
            now: dict[str, Any] = getattr(owner, "__dict__", was)
            for name, value in now.items():
                if was.get(name) is None:
                    was[name] = value
                elif value is not was[name]:
                    return name
            if len(now) < len(was):
                return next(name for name in was if name not in now)
        return None


def _state(dataset: Any) -> list[tuple[Any, dict[str, Any]]]:
    return [(inner, dict(getattr(inner, "__dict__", {}))) for inner in datasets_in(dataset)]


def _same(one: tuple[Any, dict[str, Any]], other: tuple[Any, dict[str, Any]]) -> bool:
    if one[0] is not other[0] or one[1].keys() != other[1].keys():
        return False
    return all(value is other[1][name] for name, value in one[1].items())

"""What a data set gets in place of its transform's image: an object that it can only pass on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from fastpipe.batch.packing import Pixels

# Python looks these up on the class, so `__getattribute__` does not see them.
_OPERATIONS: Final = (
    *("abs", "add", "and", "bool", "bytes", "call", "ceil", "complex", "contains", "copy", "deepcopy"),
    *("delitem", "dir", "divmod", "enter", "eq", "exit", "float", "floor", "floordiv", "format", "ge"),
    *("getitem", "gt", "hash", "iadd", "iand", "imul", "index", "int", "invert", "isub", "iter"),
    *("itruediv", "le", "len", "lshift", "lt", "matmul", "mod", "mul", "ne", "neg", "next", "or", "pos"),
    *("pow", "radd", "rand", "reduce", "reduce_ex", "repr", "reversed", "rmatmul", "rmul", "ror", "round"),
    *("rpow", "rshift", "rsub", "rtruediv", "rxor", "setitem", "sizeof", "str", "sub", "truediv", "xor"),
)


class Used(AttributeError, TypeError):
    """Raised where a script uses what can only be passed on; the use is noted even if this is caught."""


class Handed:
    """The pixels of one sample on their way through the script's `__getitem__`.

    Nothing can be read from it and nothing changed, so a sample that contains it contains the very pixels
    that the host half made. Every attempt is written to `uses` and raises. `isinstance` asks for `__class__`,
    and is an attempt too; `is` is not.
    """

    __slots__ = ("_pixels", "_uses")

    def __init__(self, pixels: Pixels, uses: list[str]) -> None:
        object.__setattr__(self, "_pixels", pixels)
        object.__setattr__(self, "_uses", uses)

    def __getattribute__(self, name: str) -> Any:
        _used(self, f"reads {name!r} of")

    def __setattr__(self, name: str, value: Any) -> None:
        _used(self, f"sets {name!r} of")

    def __delattr__(self, name: str) -> None:
        _used(self, f"deletes {name!r} of")


def _used(handed: Handed, how: str) -> NoReturn:
    use = f"{how} the image that its transform returned"
    object.__getattribute__(handed, "_uses").append(use)
    raise Used(f"fastpipe: the data set {use}")


def _operation(name: str) -> Callable[..., Any]:
    def use(self: Handed, *others: Any, **named: Any) -> Any:
        _used(self, f"uses {name!r} on")

    return use


for _name in _OPERATIONS:
    setattr(Handed, f"__{_name}__", _operation(_name))


def pixels_of(handed: Handed) -> Pixels:
    """uint8 [H,W,3], for fastpipe alone."""
    found: Pixels = object.__getattribute__(handed, "_pixels")
    return found

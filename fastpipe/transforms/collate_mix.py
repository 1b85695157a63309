"""Recognises a `collate_fn` that is default_collate and torchvision's v2.MixUp or CutMix, and nothing else.

torchvision's training script and its documentation write it as `lambda batch: mix(*default_collate(batch))`.
The bytecode shows what a function does: it must equal that of one of our templates, compiled here, and the
names in it must currently refer to torch's function and torchvision's objects.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final

from torch.utils.data import default_collate
from torchvision.transforms import v2

from fastpipe.transforms.mix_specs import RandomChoice, TorchvisionCutMix, TorchvisionMixUp

__all__ = ["MixingCollate", "mixers_named", "read_collate"]

_FORMS: Final = (
    "return {mix}(*{collate}({batch}))",
    "return {mix}({collate}({batch}))",
    "{batch} = {collate}({batch}); return {mix}(*{batch})",
    "{batch} = {collate}({batch}); return {mix}({batch})",
    "images, labels = {collate}({batch}); return {mix}(images, labels)",
)
# Parameters, and where mix and collate come from: a parameter, an enclosing function, the module.
_PARAMETERS: Final = (("batch",), ("mix", "batch"), ("batch", "mix"))
_CHAINS: Final = ("c0", "c0.c1", "c0.c1.c2", "c0.c1.c2.c3", "c0.c1.c2.c3.c4")
_UNLIKE: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
_BEHAVIOUR: Final = {"forward", "transform", "make_params", "__call__", "_call_kernel"}
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixingCollate:
    """What the function does after default_collate."""

    spec: TorchvisionMixUp | TorchvisionCutMix | RandomChoice
    num_classes: int


def read_collate(collate_fn: Callable[[Any], Any]) -> MixingCollate | None:
    """What follows default_collate, if it is provably v2.MixUp, CutMix or a choice of them alone."""
    function, bound = _unbound(collate_fn)
    if type(function) is not FunctionType or bound is None:
        return None
    code = function.__code__
    if code.co_flags & _UNLIKE or code.co_kwonlyargcount or code.co_exceptiontable:
        return None
    for template in _templates().get(code.co_code, ()):
        mixer = _mixer(template, function, bound)
        if mixer is not None:
            return _as_specs(mixer)
    return None


def mixers_named(collate_fn: Any) -> list[str]:
    """The class names of torchvision's mixers among the names that a function uses, for a message."""
    function, bound = _unbound(collate_fn)
    if type(function) is not FunctionType:
        return []
    values = [function.__globals__.get(name) for name in function.__code__.co_names]
    values += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    values += list((bound or {}).values())
    kinds = (v2.MixUp, v2.CutMix, v2.RandomChoice)
    return sorted({type(value).__name__ for value in values if isinstance(value, kinds)})


def _unbound(collate_fn: Any) -> tuple[Any, dict[str, Any] | None]:
    """The function inside a partial, and its parameters that have a value; None if they do not fit."""
    function: Any = collate_fn
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    if type(function) is functools.partial:
        function, args, keywords = function.func, function.args, function.keywords
    if type(function) is not FunctionType:
        return function, None
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    bound = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    given = dict(zip(names, args, strict=False)) | keywords
    free = [name for name in names if name not in given]
    # The loader's one argument goes to the first parameter without a value.
    bound = {name: value for name, value in (bound | given).items() if name != next(iter(free), None)}
    fits = len(args) <= len(names) and len(bound) == len(names) - 1
    return function, bound if fits and not (args and set(names[: len(args)]) & set(keywords)) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    code: CodeType
    mix: str
    chain: str


@functools.cache
def _templates() -> dict[bytes, tuple[_Template, ...]]:
    found: dict[bytes, tuple[_Template, ...]] = {}
    for template in _compiled():
        found[template.code.co_code] = (*found.get(template.code.co_code, ()), template)
    return found


def _compiled() -> Iterator[_Template]:
    for form, parameters in itertools.product(_FORMS, _PARAMETERS):
        mixes = ("mix",) if "mix" in parameters else ("global_mix", "free_1", "free_2")
        for mix, chain in itertools.product(mixes, (*_CHAINS, "free_1", "free_2")):
            if mix == chain:
                continue
            body = form.format(mix=mix, collate=chain, batch="batch")
            enclosing = ", ".join(name for name in ("free_1", "free_2") if name in (mix, chain))
            source = f"def outer({enclosing}):\n def made({', '.join(parameters)}):\n  {body}\n return made\n"
            # The compiler generates other code for attributes of a name that the same file imports.
            for head in ("", "import c0\n"):
                code = _inner(compile(head + source, "<template>", "exec"), 2)
                yield _Template(code=code, mix=mix, chain=chain)


def _inner(code: CodeType, depth: int) -> CodeType:
    for _ in range(depth):
        code = next(one for one in code.co_consts if isinstance(one, CodeType))
    return code


def _mixer(template: _Template, function: FunctionType, bound: dict[str, Any]) -> Any:
    """The mixer that the function calls, or None if the names in it refer to something else."""
    ours, theirs = template.code, function.__code__
    if ours.co_argcount != theirs.co_argcount or len(ours.co_names) != len(theirs.co_names):
        return None
    told = dict(zip(ours.co_names, theirs.co_names, strict=True))
    told |= dict(zip(ours.co_freevars, theirs.co_freevars, strict=True))
    told |= dict(zip(ours.co_varnames, theirs.co_varnames, strict=True))
    if told["batch"] in bound:
        return None
    first, *rest = template.chain.split(".")
    collate = _value(told[first], first, function, bound)
    for name in rest:
        collate = getattr(collate, told[name], None)
    return _value(told[template.mix], template.mix, function, bound) if collate is default_collate else None


def _value(name: str, role: str, function: FunctionType, bound: dict[str, Any]) -> Any:
    if role == "mix":
        return bound.get(name)
    if role.startswith("free_"):
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        return cells[name].cell_contents if _filled(cells[name]) else None
    return function.__globals__.get(name)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 # raises for a name that is bound later
    except ValueError:
        return False
    return True


def _as_specs(mixer: Any) -> MixingCollate | None:
    if _changed(mixer):
        return None
    if type(mixer) is v2.RandomChoice:
        parts = [_as_specs(part) for part in mixer.transforms]
        if not parts or any(part is None or isinstance(part.spec, RandomChoice) for part in parts):
            return None
        known = [part for part in parts if part is not None]
        if len({part.num_classes for part in known}) > 1:
            return None
        options: list[Any] = [part.spec for part in known]
        return MixingCollate(spec=RandomChoice(options, p=tuple(mixer.p)), num_classes=known[0].num_classes)
    kinds: dict[type, type[TorchvisionMixUp] | type[TorchvisionCutMix]] = {
        v2.MixUp: TorchvisionMixUp,
        v2.CutMix: TorchvisionCutMix,
    }
    kind = kinds.get(type(mixer))
    if kind is None or mixer.num_classes is None or mixer._labels_getter is not _default_getter():
        return None
    return MixingCollate(spec=kind(mixer.alpha), num_classes=int(mixer.num_classes))


def _changed(mixer: Any) -> bool:
    """Whether this object was given another behaviour than its class has."""
    attributes = vars(mixer) if hasattr(mixer, "__dict__") else {}
    return bool(_BEHAVIOUR & attributes.keys()) or any(attributes.get(name) for name in _HOOKS)


@functools.cache
def _default_getter() -> Any:
    return v2.MixUp(num_classes=1)._labels_getter

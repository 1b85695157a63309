"""Which backend serves a plan on this machine, and why not the others: capability first, then measurement.

Nothing here is measured twice: `fastpipe.choice.probe` keeps results per machine, data and plan.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fastpipe.backends.base import OWN, Backend, Numerics
from fastpipe.backends.registry import BACKENDS, load
from fastpipe.choice.probe import Trial, rates_of
from fastpipe.errors import BackendError
from fastpipe.types import Choice, Machine, Plan

__all__ = ["decide", "refusal"]

_log = logging.getLogger("fastpipe")

_MARGIN = 1.10  # an earlier backend keeps its place unless another is 10 % faster: below that is noise

# The resize kernel of this process's first loader over a kind of storage: its other loaders use it too.
_run_kernels: dict[tuple[str, Numerics], str] = {}


def choose(
    plan: Plan, machine: Machine, *, asked: str, numerics: Numerics, storage: str
) -> tuple[list[str], dict[str, str]]:
    """The backends that can serve the plan as asked, in the registry's order, and why not the others.

    BackendError if the requested one cannot, or if none can; it gives the reason and the remedy.
    """
    names = list(BACKENDS) if asked == "auto" else [asked]
    rejected: dict[str, str] = {}
    for name in names:
        reason = refusal(load(name), plan, machine, numerics=numerics, storage=storage)
        if reason is not None:
            rejected[name] = reason
    eligible = [name for name in names if name not in rejected]
    if not eligible:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
        raise BackendError(f"no backend can serve this plan. {reasons}")
    return eligible, rejected


def refusal(
    backend: Backend, plan: Plan, machine: Machine, *, numerics: Numerics, storage: str
) -> str | None:
    """Why this backend cannot serve the plan here, or None if it can."""
    capabilities = backend.capabilities
    if storage == OWN and not capabilities.reads(OWN):
        return "decodes files, and this data set's own __getitem__ decodes them"
    if not capabilities.reads(storage):
        return f"reads {', '.join(capabilities.storage)}, not {storage}"
    if numerics not in capabilities.numerics:
        return f"does not keep numerics={numerics!r}"
    if plan.host and not capabilities.host_steps:
        return "cannot run the steps that stay on the workers"
    available = backend.probe(machine)
    if not available.ok:
        return f"{available.reason}; {available.remedy}" if available.remedy else available.reason
    support = backend.supports(plan, numerics)
    return support.reason if support.answer == "no" else None


def decide(
    plan: Plan,
    machine: Machine,
    *,
    asked: str,
    numerics: Numerics,
    storage: str,
    saved: str | None = None,
    trial: Trial | None = None,
) -> Choice:
    """The backend that serves the plan.

    saved: the one that a resumed run used. trial: the data to measure on if several can serve; None in
    `explain()` before the first epoch, which starts nothing.
    """
    names, rejected = choose(plan, machine, asked=asked, numerics=numerics, storage=storage)
    if asked != "auto":
        chosen, reason = names[0], "asked for"
    else:
        names = _same_kernel(names, rejected, (storage, numerics))
        only = load(names[0]).supports(plan, numerics).reason
        known = _known(names, rejected, only, saved)
        chosen, reason = known or _measured(names, rejected, plan, machine, numerics, trial)
    does = load(chosen).supports(plan, numerics).reason
    if does not in reason:
        reason = f"{reason}; {does}"
    if trial is not None:
        _run_kernels.setdefault((storage, numerics), _kernel(chosen, numerics))
        _log.info("backend %s: %s", chosen, reason)
    return Choice(backend=chosen, reason=reason, rejected=rejected)


def forget_run() -> None:
    """Let the next loader choose its resize kernel freely: a new run begins in this process."""
    _run_kernels.clear()


def _kernel(name: str, numerics: Numerics) -> str:
    return "pillow" if numerics == "exact" else load(name).capabilities.fast_resize


def _same_kernel(names: list[str], rejected: dict[str, str], key: tuple[str, Numerics]) -> list[str]:
    """Training and validation images must be resized alike: leave out backends that resize differently."""
    used = _run_kernels.get(key)
    alike = [name for name in names if _kernel(name, key[1]) == used]
    if used is None or not alike:
        return names
    for name in names:
        if name not in alike:
            rejected[name] = f"resizes by {_kernel(name, key[1])}, this run's other loaders by {used}"
    return alike


def _known(
    names: Sequence[str], rejected: Mapping[str, str], only: str, saved: str | None
) -> tuple[str, str] | None:
    """A name and the reason, or None if a measurement must decide.

    only: the reason for the first name if there is no other.
    """
    if len(names) == 1:
        alike = any(why.startswith("resizes by ") for why in rejected.values())
        why = "resizes as this run's other loaders do" if alike else "the only one that can"
        return names[0], f"{only} ({why})"
    if saved is not None and saved in names:
        return saved, "the resumed run used it"
    return None


def _measured(
    names: Sequence[str],
    rejected: dict[str, str],
    plan: Plan,
    machine: Machine,
    numerics: Numerics,
    trial: Trial | None,
) -> tuple[str, str]:
    """The fastest on the loader's own data, and its rate; the first if nothing was measured."""
    if trial is None:
        return names[0], f"until the first epoch, when {', '.join(names)} are measured"
    found = rates_of(names, trial, plan=plan, machine=machine, numerics=numerics)
    if isinstance(found, str):
        return names[0], f"not measured: {found}"
    rejected.update(found.failed)
    chosen = _fastest(names, found.images_per_cpu_second)
    for name, rate in found.images_per_cpu_second.items():
        if name != chosen:
            rejected[name] = f"{rate:.0f} images per CPU-second"
    return chosen, f"{found.images_per_cpu_second[chosen]:.0f} images per CPU-second, {found.source}"


def _fastest(names: Sequence[str], rates: Mapping[str, float]) -> str:
    best = max(rates.values())
    return next(name for name in names if name in rates and rates[name] * _MARGIN >= best)

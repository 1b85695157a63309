"""One profile: every stage alone, then together, then what differs by one part, then the verdict."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from fastpipe.errors import BackendError
from fastpipe.profiling.conclude.conclude import (
    answer_question,
    basis_of,
    find_verdict,
    load_notes,
    measured_rates,
    own_notes,
    verify_fixes,
)
from fastpipe.profiling.conclude.fixes import find_fixes
from fastpipe.profiling.conclude.history import past_errors
from fastpipe.profiling.host.summary import OtherLoad, describe_host
from fastpipe.profiling.measure.explore import Explored, Timed, explore
from fastpipe.profiling.measure.inputs import Inputs, fetch
from fastpipe.profiling.measure.loaders import (
    profiled_loader,
    profiled_variant,
    time_host,
    time_loaders,
)
from fastpipe.profiling.measure.model import Step, make_step, steps_in_window, time_model
from fastpipe.profiling.measure.setting import Announce, Setting, setting_of
from fastpipe.profiling.measure.steadiness import Steadiness, probing
from fastpipe.profiling.measure.together import time_with_model
from fastpipe.profiling.measure.variants import Variant
from fastpipe.profiling.measure.workload import Workload
from fastpipe.profiling.names import OURS, PLAIN
from fastpipe.profiling.report.result import Profile

__all__ = ["profile"]

# More batches than any run reads: the iterator is closed when the time is over.
_ENDLESS = 1_000_000


def num_parts(workload: Workload) -> int:
    """How often `profile` announces a part."""
    backend = workload.backend != "torchvision"
    return 18 + (workload.workers > 0) - 4 * backend + 1 + workload.verify


def profile(workload: Workload, announce: Announce = lambda part: None) -> Profile:
    """Measure the workload on this machine: about 50 times `workload.seconds`.

    Raises what opening the data raises, ArgumentError for a model or size that cannot be run, and
    BackendError for a backend that cannot serve, and when a worker process dies.
    """
    try:
        with ExitStack() as stack:
            return _execute(setting_of(workload, announce), stack)
    except RuntimeError as error:
        # torch raises a plain RuntimeError for a worker that died, in whatever the main thread is doing.
        if "DataLoader worker" not in str(error):
            raise
        raise BackendError(
            f"a worker process died while it was timed: {str(error).strip().splitlines()[0]} "
            "Check for the out-of-memory killer (dmesg) and a small /dev/shm; --workers 0 uses no processes"
        ) from error


def _execute(setting: Setting, stack: ExitStack) -> Profile:
    """Measure everything, and conclude."""
    workload = setting.workload
    others, steadiness = OtherLoad(), Steadiness()
    setting = probing(setting, steadiness)
    setting.announce("files")
    inputs = fetch(
        workload.data,
        setting.base,
        seconds=workload.seconds,
        quick=workload.quick,
        augment=workload.augment,
    )
    variant = profiled_variant(setting, inputs, stack)
    step = make_step(setting, inputs)
    timed = _time_path(setting, inputs, variant, step, stack)

    def make(batch_size: int, batches: int) -> Any:
        return profiled_loader(setting, inputs, variant, batch_size, batches)

    explored = explore(setting, inputs, step, timed, make)
    found = _conclude(setting, inputs, timed, explored, steadiness.scatter)
    return replace(
        found,
        stages=steadiness.widened(found.stages),
        together=steadiness.widened(found.together),
        explored=replace(found.explored, details=steadiness.widened(found.explored.details)),
        notes=(*load_notes(others), *steadiness.notes(), *found.notes),
    )


def _time_path(setting: Setting, inputs: Inputs, variant: Variant, step: Step, stack: ExitStack) -> Timed:
    host_half, stages = time_host(setting, inputs, variant)
    loaders = time_loaders(setting, inputs, variant, stages, stack)
    model, model_batch = time_model(setting, step)
    window = steps_in_window(setting, model, loaders.found[OURS])
    setting.announce("loader and model")
    together = time_with_model(
        profiled_loader(setting, inputs, variant, model_batch, _ENDLESS),
        step,
        batch_size=model_batch,
        seconds=2 * setting.workload.seconds,
        window=window,
    )
    return Timed(
        host_half=host_half,
        stages=(*stages, model),
        loaders=loaders,
        model_batch=model_batch,
        together=together,
        window=window,
    )


def _conclude(setting: Setting, inputs: Inputs, timed: Timed, explored: Explored, scatter: float) -> Profile:
    workload, loaders, ours = setting.workload, timed.loaders, timed.ours
    costs = tuple(setting.cost(stage) for stage in timed.stages)
    basis = basis_of(setting, costs, loaders.curve, ours, timed.together, scatter)
    fixes = find_fixes(basis, explored, loaders.found, loaders.others, inside=setting.has_policy)
    sizes = {"asked": workload.batch_size, "loader": loaders.batch_size, "model": timed.model_batch}
    notes = own_notes(setting, loaders.batch_size, timed.model_batch)
    return Profile(
        workload=workload,
        host=describe_host(),
        data=inputs.describe(),
        batch_sizes=sizes,
        stages=timed.stages,
        together=(timed.host_half, ours, loaders.found[PLAIN], timed.together),
        verdict=find_verdict(setting, basis, measured_rates(ours, timed.together), explored, fixes),
        notes=(*inputs.notes, *workload.notes, *notes, *explored.notes),
        curve=loaders.curve,
        explored=explored,
        fixes=fixes,
        checked=verify_fixes(setting, inputs, basis, fixes, loaders.batch_size),
        past=tuple(past_errors()),
        what_if=answer_question(setting, basis, explored),
    )

"""The model's side of a profile: the step, or the demand that stands in for it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fastpipe.profiling.demand import target_timing
from fastpipe.profiling.differential import Paced
from fastpipe.profiling.inputs import Inputs
from fastpipe.profiling.model import ModelStep, fitting_batch
from fastpipe.profiling.setting import Setting
from fastpipe.profiling.stages import StageResult
from fastpipe.profiling.timing import measure

__all__ = ["Step", "make_step", "steps_in_window", "time_model"]

Step = Callable[[torch.Tensor, torch.Tensor], None]


def make_step(setting: Setting, inputs: Inputs) -> Step:
    """What takes the batches: the model, or a consumer at the demanded rate."""
    if setting.workload.target is not None:
        return Paced(setting.workload.target[0])
    return ModelStep(setting.workload, len(inputs.index.classes), setting.device)


def time_model(setting: Setting, step: Step) -> tuple[StageResult, int]:
    """The step alone on synthetic images, and the batch size that fitted the time."""
    setting.announce("model step")
    workload = setting.workload
    if not isinstance(step, ModelStep):
        assert workload.target is not None
        rate, source = workload.target
        # Steps of about 20 ms, so that a window of them fits the time.
        batch_size = max(1, min(workload.batch_size, round(0.02 * rate)))
        timing = target_timing(rate)
        return StageResult(name="model step", lane="model", what=source, timing=timing), batch_size
    batch_size = fitting_batch(step, workload.batch_size, workload.seconds / 4)
    images, labels = step.synthetic(batch_size)

    def unit() -> int:
        step(images, labels)
        return batch_size

    what = f"{workload.model}, batches of {batch_size}"
    timing = measure(unit, 1.5 * workload.seconds)
    return StageResult(name="model step", lane="model", what=what, timing=timing), batch_size


def steps_in_window(setting: Setting, model: StageResult, ours: StageResult) -> int:
    """Steps in a repeat: at least 50 ms, and where the loader is slower a multiple of the workers."""
    demand, supply = model.timing.images_per_s.median, ours.timing.images_per_s.median
    if 2 * demand < supply and not setting.apart:
        return 1
    lanes = max(1, setting.workload.workers)
    if not setting.apart:
        return lanes
    return lanes * max(1, round(0.1 * min(demand, supply) / setting.workload.batch_size / lanes))

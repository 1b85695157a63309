"""The conclusions of a profile from its measurements: verdict, verification, answer to --what-if, notes."""

from __future__ import annotations

from typing import Any

from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.history import Checked
from fastpipe.profiling.conclude.predict import Basis, predict_loader, predict_training
from fastpipe.profiling.conclude.scaling import Curve, fit
from fastpipe.profiling.conclude.verdict import Measured, StageCost, Verdict, judge
from fastpipe.profiling.conclude.verify import verify
from fastpipe.profiling.conclude.whatif import Answer, answer
from fastpipe.profiling.conclude.words import in_words
from fastpipe.profiling.host.summary import OtherLoad
from fastpipe.profiling.measure.explore import Explored
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import StageResult

_BUSY_SHARE = 0.1


def basis_of(
    setting: Setting,
    costs: tuple[StageCost, ...],
    curve: Curve | None,
    ours: StageResult,
    together: StageResult,
    scatter: float,
) -> Basis:
    """The basis of the predictions."""
    return Basis(
        costs=costs,
        curve=curve or fit({1: ours.timing.rates}),
        cpus=setting.cpus,
        workers=setting.workload.workers,
        shared=not setting.apart,
        together=together.timing.interval,
        loader_cpu_ms=ours.timing.cpu_ms.median,
        scatter=scatter,
    )


def measured_rates(ours: StageResult, together: StageResult) -> Measured:
    """The measurements that the verdict's forecasts are compared with."""
    return Measured(
        loader=ours.timing.images_per_s.median,
        together=together.timing.images_per_s.median,
        loader_cpu_ms=ours.timing.cpu_ms.median,
    )


def find_verdict(
    setting: Setting,
    basis: Basis,
    measured: Measured,
    explored: Explored,
    fixes: tuple[Fix, ...],
) -> Verdict:
    """The verdict in words, with the fix that has the largest gain for the current loader."""
    workers = setting.workload.workers
    shown: dict[str, Any] = {"cpus": setting.cpus, "workers": workers, "gpu": setting.apart}
    # With --quick the curve goes through this very loader's epochs, so predicting them would prove nothing.
    foretold = predict_loader(basis) if workers and not setting.workload.quick else None
    verdict = judge(basis.costs, measured=measured, calibrated=foretold, **shown)
    base = predict_training(basis).median
    best = next((fix for fix in fixes if fix.helps and fix.base == base), None)
    saved = explored.saved_by_device
    freed = saved * basis.demand / 1000.0 if setting.has_policy and saved is not None else None
    return in_words(verdict, basis.costs, measured, best=best, freed=freed, **shown)


def verify_fixes(
    setting: Setting, inputs: Inputs, basis: Basis, fixes: tuple[Fix, ...], batch_size: int
) -> tuple[Checked, ...]:
    """The findings of `--verify`; nothing without it."""
    if not setting.workload.verify:
        return ()
    setting.announce("verification")
    return verify(setting, inputs, fixes, basis, batch_size=batch_size)


def answer_question(setting: Setting, basis: Basis, explored: Explored) -> Answer | None:
    """The answer to `--what-if`, if it was given."""
    if setting.workload.question is None:
        return None
    return answer(
        setting.workload.question,
        basis,
        inside=setting.has_policy,
        pillow_ms=explored.pillow_randaugment_ms,
        device_ms=explored.device_ms("RandAugment"),
    )


def load_notes(others: OtherLoad) -> list[str]:
    """A warning if other programs took a noticeable share of the CPUs."""
    share = others.share()
    if share < _BUSY_SHARE:
        return []
    return [
        f"Other processes used {share:.0%} of this machine's CPUs during the profile. Rates are too low, "
        "above all the rate of the model step (its threads wait for each other), so the verdict is "
        "doubtful. Profile again when the machine is quiet."
    ]


def own_notes(setting: Setting, loader_batch: int, model_batch: int) -> list[str]:
    """The limits of the figures: no model, other files, omitted parts, smaller batches."""
    workload, notes = setting.workload, []
    if workload.target is not None:
        rate, source = workload.target
        notes.append(f"No model was run: a demand of {rate:,.0f} images/s stands in for it ({source}).")
    if workload.backend == "ffcv":
        notes.append("FFCV read a temporary .beton of the sampled files, their bytes kept.")
    if workload.quick:
        notes.append(
            "--quick omits other backends and files, the runs between model and loader, cold "
            "files beyond their reading, and interference."
        )
    if not workload.batch_size == loader_batch == model_batch:
        notes.append(
            f"Instead of batches of {workload.batch_size}, the loaders were timed with {loader_batch} and "
            f"the model with {model_batch} to fit the time (--seconds-per-stage). The loader's cost per "
            "image hardly depends on the batch size, but small batches lower a model's rate."
        )
    return notes

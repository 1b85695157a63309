"""One run to its end in this process: a training by fastpipe-train's own way, or the timing of a loader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastpipe.errors import FastpipeError
from fastpipe.train.config.fit import fit_to_data
from fastpipe.train.config.options import Invocation
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.session import start
from fastpipe.train.studies.folder import TIMED, write_object
from fastpipe.train.studies.loading import time_loading
from fastpipe.train.studies.scale import PlannedRun

Parse = Callable[[Sequence[str]], Invocation]


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Runs what a study plans on `data`. parse: the command line of fastpipe-train; nproc: GPUs of a run."""

    parse: Parse
    data: str
    held_out: float
    nproc: int | None = None

    def __call__(self, run: PlannedRun, folder: Path) -> int:
        """Returns the exit status: 0 if the run is finished."""
        if run.timed:
            assert run.arm.loading is not None
            found = time_loading(self.data, run.arm.loading, held_out=self.held_out, seed=run.seed)
            write_object(folder / TIMED, found)
            return 0
        argv = self.argv(run, folder)
        return start(self.parse(argv), argv)

    def argv(self, run: PlannedRun, folder: Path) -> list[str]:
        """The arguments of fastpipe-train for a run."""
        argv = run.argv(self.data, folder)
        return argv if self.nproc is None else [*argv, "--nproc", str(self.nproc)]

    def resolved(self, run: PlannedRun, images: int) -> TrainConfig | None:
        """What a run trains on `images` training images, without its places; None if it is no whole one."""
        if run.timed:
            return None
        told = self.parse(self.argv(run, Path(run.name)))
        if told.options.extrapolate_from is not None:
            return None
        fitted = fit_to_data(
            told.config, images, explicit=told.explicit, recipe_batch_size=told.recipe_batch_size
        )
        return replace(fitted.config, data=None, output_dir=None)

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """Parse the command line of each arm before the first run starts; raises what a wrong one raises."""
        for run in {run.arm.name: run for run in runs}.values():
            if not run.timed:
                try:
                    self.parse(self.argv(run, Path(run.name)))
                except FastpipeError as error:
                    raise type(error)(f"{run.arm.name}: {error}") from error

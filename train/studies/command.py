"""`fastpipe-train study NAME`: a table of the reference text as runs, their results and a record."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastpipe.efficiency.prices import SHIPPED, read_prices
from fastpipe.errors import ArgumentError, DataError
from fastpipe.system.files import replace_file
from fastpipe.system.machine import processor_name, this_machine
from fastpipe.system.output import put
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.studies.catalogue import EXPERIMENTS, experiment
from fastpipe.train.studies.chart import study_chart
from fastpipe.train.studies.design import SCALES, Experiment, Scale
from fastpipe.train.studies.estimate import check_prices, plan_lines
from fastpipe.train.studies.execute import Executor, Parse
from fastpipe.train.studies.folder import check_settings, data_facts, most_seeds, open_study, write_object
from fastpipe.train.studies.markdown import as_markdown
from fastpipe.train.studies.places import noted_data, record_stem
from fastpipe.train.studies.record import make_record
from fastpipe.train.studies.results import collect
from fastpipe.train.studies.scale import PlannedRun, planned
from fastpipe.train.studies.schedule import work
from fastpipe.train.studies.twins import Twins

NAME = "study"
_HELD_OUT = TrainConfig().held_out
_HARDWARE = "AWS p4d.24xlarge"

_MORE = """
Runs are done seed by seed. A finished one is never repeated, nor one of the same settings in another study of
this --output. An interrupted one continues, and several processes or machines may work on one --output. The
folder then holds record.md and record.json.

exit status: 0; 1 if a run failed or is in other hands; 2 for a wrong argument; when stopped: 130, 143, 75.

examples:
  fastpipe-train study table8 --scale small --data demo --dry-run
  fastpipe-train study table8 --scale small --data photos --output studies
  fastpipe-train study table4 --scale imagenet --data /data/imagenet --nproc 8 --output /nfs/studies
  fastpipe-train study table4 --scale imagenet --output /nfs/studies --report
"""


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog=f"fastpipe-train {NAME}",
        description="Repeat a table of MosaicML's ResNet Deep Dive, or its figure, and compare.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("experiment", metavar="NAME", help=", ".join(EXPERIMENTS))
    add(
        "--scale",
        choices=SCALES,
        required=True,
        help="imagenet: the text's settings; small: a small model, this machine's CPUs",
    )
    add("--data", help="demo, or what fastpipe-train takes as --data; --report does not read it")
    add("--output", default="studies", metavar="DIR", help="folder of studies (default: studies)")
    add("--seeds", type=int, metavar="N", help="runs of each arm (default: the text's, 3 or 5)")
    add("--only", default="", metavar="RUN,...", help="only these arms")
    add("--nproc", type=int, metavar="N", help="GPUs of each training, as in fastpipe-train")
    add("--dry-run", action="store_true", help="print the runs, their commands, time and cost; run nothing")
    add("--report", action="store_true", help="only write the record of what is finished")
    add("--record", metavar="FILE", help="also write the record to FILE.md and FILE.json")
    add("--prices", metavar="FILE", help="CSV with hardware, usd_per_hour, date and source; with --dry-run")
    add("--hardware", metavar="NAME", help=f"whose price to use, with --dry-run (default: {_HARDWARE})")
    return made


def run_study(args: Sequence[str], parse: Parse) -> int:
    """Run the command line after the word `study`. parse: that of fastpipe-train. Returns the exit status."""
    given = make_parser().parse_args(list(args))
    asked = experiment(given.experiment)
    check_prices(given.prices, given.hardware, dry_run=given.dry_run)
    runs = planned(
        asked, given.scale, seeds=given.seeds, only=[name for name in given.only.split(",") if name]
    )
    folder = Path(given.output) / f"{asked.name}-{given.scale}"
    kept = record_stem(given.record) if given.record is not None else None
    if given.report and not given.dry_run:
        noted, everything = noted_data(folder), _everything(asked, runs, given.scale, folder)
        _write_records(asked, everything, given, noted, folder, kept)
        return 0
    if given.data is None:
        raise ArgumentError("--data must name the data that the runs train on. Found: none, without --report")
    executor = Executor(parse=parse, data=given.data, held_out=_HELD_OUT, nproc=given.nproc)
    executor.check(runs)
    if given.dry_run:
        _print_plan(asked, runs, given, executor, folder)
        return 0
    name, facts = _data_name(given.data), data_facts(given.data, held_out=_HELD_OUT)
    open_study(folder, asked.name, given.scale, name, facts)
    everything = _everything(asked, runs, given.scale, folder)
    twins = Twins(
        output=Path(given.output),
        scale=given.scale,
        facts=facts,
        resolve=lambda run: executor.resolved(run, facts["train"]),
    )
    progress = work(folder, runs, executor, machine=_machine(), say=_say, twins=twins)
    _write_records(asked, everything, given, {"name": name, **facts}, folder, kept)
    return progress.stopped or int(bool(progress.failed or progress.busy))


def _everything(
    asked: Experiment, runs: Sequence[PlannedRun], scale: Scale, folder: Path
) -> list[PlannedRun]:
    """All runs of the folder: the record is of all that is there, whatever part of it a call is about."""
    found = planned(asked, scale, seeds=max(most_seeds(folder), len({run.seed for run in runs})))
    for run in found:
        check_settings(folder, run)
    return found


def _print_plan(
    asked: Experiment,
    runs: Sequence[PlannedRun],
    given: argparse.Namespace,
    executor: Executor,
    folder: Path,
) -> None:
    # ImageNet's size is known, and its folder may be on another machine.
    facts = {} if given.scale == "imagenet" else data_facts(given.data, held_out=_HELD_OUT)
    lines = plan_lines(
        asked,
        runs,
        scale=given.scale,
        data=given.data,
        facts=facts,
        cpus=this_machine().cpus,
        commands={run.name: _command(run, executor, folder) for run in runs},
        hardware=given.hardware or _HARDWARE,
        prices=read_prices(Path(given.prices) if given.prices else SHIPPED),
    )
    put("\n".join(lines) + "\n")


def _command(run: PlannedRun, executor: Executor, folder: Path) -> str:
    if run.timed:
        return f"(times a loader: {run.arm.loading})"
    return shlex.join(["fastpipe-train", *executor.argv(run, folder / run.name)])


def _write_records(
    asked: Experiment,
    runs: Sequence[PlannedRun],
    given: argparse.Namespace,
    data: dict[str, Any],
    folder: Path,
    kept: Path | None,
) -> None:
    found = collect(folder, asked, runs)
    if not found and not given.report:
        return  # stopped before the first one ended
    record = make_record(asked, found, scale=given.scale, data=data, folder=folder)
    seeds = len({run.seed for run in found})
    command = f"fastpipe-train study {asked.name} --scale {given.scale} --data {data['name']}"
    command += "" if seeds == asked.seeds else f" --seeds {seeds}"
    text, picture = as_markdown(record, command), study_chart(record)
    for stem in (folder / "record", *([kept] if kept else [])):
        write_object(stem.with_name(f"{stem.name}.json"), record)
        _write_text(stem.with_name(f"{stem.name}.md"), text)
    if picture:
        _write_text(folder / "record.svg", picture)
    put(text)


def _write_text(path: Path, text: str) -> None:
    try:
        replace_file(str(path), lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"{str(path)!r} could not be written: {error.strerror}") from error


def _data_name(data: str) -> str:
    return Path(data).resolve().name if Path(data).exists() else data


def _machine() -> dict[str, Any]:
    found = this_machine()
    gpus = {"gpus": found.cuda_devices, "gpu": found.cuda_name} if found.cuda_devices else {}
    return {"processor": processor_name(), "cpus": found.cpus, **gpus}


def _say(text: str) -> None:
    sys.stderr.write(f"fastpipe-train study: {text}\n")

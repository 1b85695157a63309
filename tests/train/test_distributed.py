"""Two and four processes against one: the same samples, crops, operations, gradients and weights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from fastpipe.errors import ArgumentError
from fastpipe.storage import open_index
from fastpipe.train import distributed
from fastpipe.train.config.checks import check_world_size
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.data import eval_loader, train_loader
from fastpipe.train.distributed import gathered, process_group, together
from fastpipe.train.errors import DivergedError, PeerError, StoppedError
from fastpipe.types import Shard

pytestmark = pytest.mark.timeout(900)  # interpreters are started: minutes on a loaded machine
PROGRAM = Path(__file__).with_name("rank_program.py")
IMAGES = 43  # ranks have 22 and 21, or 11 three times and 10; batches of 8 leave 5 full ones
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(IMAGES):
        place = root / ("red", "green")[number % 2]
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 100, (40, 48, 3))
        pixels[..., number % 2] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02d}.png")
    return root


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _run(cases: str, folder: Path, out: Path, world_size: int) -> None:
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "LOCAL_WORLD_SIZE": str(world_size),
        "FASTPIPE_CACHE": str(out / "cache"),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), cases, str(folder), str(out)],
            env={**os.environ, **shared, "RANK": str(rank), "WORLD_SIZE": str(world_size)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    said = [rank.communicate(timeout=400)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world_size, "\n".join(said)


@pytest.fixture(scope="module")
def seen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], Seen]:
    """What a rank saw, by case, world size and rank."""
    out = tmp_path_factory.mktemp("seen")
    cases, ran = {1: "equal,repeated", 2: "equal,resnet,repeated", 4: "equal,repeated"}, set()

    def read(case: str, world_size: int, rank: int) -> Seen:
        if world_size not in ran:
            _run(cases[world_size], folder, out, world_size)
            ran.add(world_size)
        found: Seen = torch.load(out / f"{case}-{world_size}-{rank}.pt", weights_only=True)
        return found

    return read


def _dealt(ranks: list[Seen]) -> list[tuple[Tensor, Tensor]]:
    """The batches of all ranks put together as the sampler dealt them: one image to each in turn."""
    return [
        tuple(torch.stack(parts, dim=1).flatten(0, 1) for parts in zip(*batches, strict=True))  # type: ignore[misc]
        for batches in zip(*(rank["batches"] for rank in ranks), strict=True)
    ]


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("case", ["equal", "repeated"])
def test_samples_crops_and_operations_are_those_of_one_process(
    case: str, world_size: int, seen: Callable[[str, int, int], Seen]
) -> None:
    one = seen(case, 1, 0)["batches"]
    dealt = _dealt([seen(case, world_size, rank) for rank in range(world_size)])
    assert len(one) == len(dealt) == (20 if case == "equal" else 5)
    for (images, labels), (those, their) in zip(one, dealt, strict=True):
        assert torch.equal(images, those) and torch.equal(labels, their)


@pytest.mark.parametrize("world_size", [2, 4])
def test_twenty_steps_equal_one_process(world_size: int, seen: Callable[[str, int, int], Seen]) -> None:
    """EMA, clipping, warmup and decay are on; there is no BatchNorm and nothing is mixed."""
    one, (first, *others) = seen("equal", 1, 0), [seen("equal", world_size, i) for i in range(world_size)]
    assert len(one["losses"]) == 20
    torch.testing.assert_close(first["losses"], one["losses"], rtol=1e-4, atol=0.0)
    for part in ("model", "ema"):
        for name, value in one[part].items():
            torch.testing.assert_close(first[part][name], value, rtol=1e-4, atol=1e-6, msg=name)
            assert all(torch.equal(first[part][name], other[part][name]) for other in others), name
    moved = max(float((one["model"][n] - v).abs().max()) for n, v in one["first"].items())
    assert moved > 1e-2  # the weights did go somewhere


@pytest.mark.parametrize("world_size", [2, 4])
def test_validation_counts_every_image_once(world_size: int, seen: Callable[[str, int, int], Seen]) -> None:
    one, ranks = seen("equal", 1, 0), [seen("equal", world_size, rank) for rank in range(world_size)]
    assert ranks[0]["counts"][:, 0].tolist() == [IMAGES // 2, IMAGES - IMAGES // 2]
    rows = [[float(rank)] * 2 for rank in range(world_size) for _ in range(3 * rank)]
    for rank in ranks:  # what torchmetrics gets, on every rank; not all ranks have as many images
        assert torch.equal(rank["counts"], ranks[0]["counts"])
        assert torch.equal(rank["labels"], ranks[0]["labels"])
        assert rank["labels"].bincount().tolist() == one["labels"].bincount().tolist()
        assert rank["values"].keys() == one["values"].keys()
        for name, value in one["values"].items():  # top-5 of two classes is None
            assert rank["values"][name] == (value and pytest.approx(value, rel=1e-4)), name
        assert rank["rows"].tolist() == rows


def test_first_gradients_of_a_resnet_are_the_mean_over_the_ranks_micro_batches(
    seen: Callable[[str, int, int], Seen], folder: Path
) -> None:
    """One process accumulates what the two ranks had, in their micro-batches and with their draws."""
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from rank_program import RESNET, made  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    ranks = [seen("resnet", 2, rank) for rank in range(2)]
    assert not torch.equal(ranks[0]["batches"][0][1], ranks[1]["batches"][0][1])
    images, labels = (torch.cat([rank["batches"][0][part] for rank in ranks]) for part in (0, 1))
    trainer = made(replace(RESNET, grad_accumulation=4), folder, Shard())
    trainer.model.load_state_dict(ranks[0]["first"])
    trainer.model.train()
    # As the ranks do: BatchNorm over two images magnifies the rounding that other thread counts bring.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer._backward(images, labels)
    finally:
        torch.set_num_threads(threads)
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert len(grads) == len(ranks[0]["grads"]) > 10
    for mine, theirs, others in zip(grads, ranks[0]["grads"], ranks[1]["grads"], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-6)
        assert torch.equal(theirs, others)


def test_ranks_agree_after_sam_steps(seen: Callable[[str, int, int], Seen]) -> None:
    """SAM's first pass is each rank's own, as are BatchNorm's statistics until rank 0's are taken."""
    first, second = (seen("resnet", 2, rank) for rank in range(2))
    assert all(np.isfinite(first["losses"]))
    weights = {name: value for name, value in first["model"].items() if name in first["names"]}
    assert len(weights) > 10
    for name, value in weights.items():
        assert torch.equal(value, second["model"][name]), name


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("repeats", [1, 3])
def test_an_epoch_has_as_many_steps_at_every_world_size(folder: Path, world_size: int, repeats: int) -> None:
    config = replace(
        load_recipe("mild"),
        batch_size=12,
        num_workers=0,
        repeated_augmentation=repeats,
        backend="torchvision",
    )
    index = open_index(folder)
    shards = [Shard(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(train_loader(config, index, shard)) for shard in shards} == {IMAGES // 12}
    ids = [list(eval_loader(config, index, shard).sampler) for shard in shards]
    assert sorted(id for rank in ids for id in rank) == list(range(IMAGES))


def test_a_batch_that_cannot_be_dealt_is_refused_with_the_nearest() -> None:
    config = replace(load_recipe("mild"), batch_size=64, grad_accumulation=2)
    check_world_size(config, 4)
    with pytest.raises(ArgumentError, match=r"3 x 2 = 6.*--batch-size 60 or 66. Found: 64"):
        check_world_size(config, 3)


@pytest.fixture(scope="module")
def splits(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose both splits are the same images."""
    root = tmp_path_factory.mktemp("splits")
    for split in ("train", "val"):
        shutil.copytree(folder, root / split, ignore=shutil.ignore_patterns(".*"))
        for place in (root / split, *(root / split).iterdir()):
            os.utime(place, (1e9, 1e9))  # a folder that has just been changed is not cached
    return root


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _leaves(item, f"{where}.{key}")
    if not items:
        yield where, value


def _logged(folder: Path) -> list[dict[str, Any]]:
    kept = ("kind", "step", "epoch", "loss", "lr", "resolution", "top1", "top1_raw", "macro_f1", "val_loss")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line.get(key) for key in kept} for line in lines]


def test_two_processes_stopped_in_mid_epoch_and_resumed_equal_undisturbed(
    splits: Path, tmp_path: Path
) -> None:
    """A signal to rank 1 alone; SAM, MixUp, EMA, stochastic depth and growing sizes; bit for bit."""
    _run("straight,stopped,resumed", splits, tmp_path, 2)
    stopped = torch.load(tmp_path / "stopped" / "previous.ckpt", weights_only=True)
    assert (stopped["step"], stopped["epoch"], stopped["epoch_so_far"]["fresh"]) == (7, 1, False)
    one, two = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("straight", "stopped")
    )
    assert one["step"] == 10 and len(one["rng"]) == 2
    for part in ("model", "ema", "optimizer", "schedule", "scaler", "rng", "step", "epoch"):
        for (where, value), (there, other) in zip(_leaves(one[part]), _leaves(two[part]), strict=True):
            same = torch.equal(value, other) if isinstance(value, Tensor) else value == other
            assert where == there and same, f"{part}{where}"
    assert _logged(tmp_path / "straight") == _logged(tmp_path / "stopped")
    best = [torch.load(tmp_path / name / "best.ckpt", weights_only=True) for name in ("straight", "stopped")]
    assert best[0]["best"] == best[1]["best"] == one["best"] and one["best"]["metric"] == "loss"
    assert all(torch.equal(value, best[1]["model"][name]) for name, value in best[0]["model"].items())


def test_ranks_that_prepare_one_data_set_at_once_make_it_once(splits: Path, tmp_path: Path) -> None:
    """Indexes and the .beton: the first rank of a machine makes what the others find made."""
    _run("prepare", splits, tmp_path, 2)
    ranks = [torch.load(tmp_path / f"prepare-2-{rank}.pt", weights_only=True) for rank in range(2)]
    assert sorted(name for rank in ranks for name in rank["made"]) == ["scan", "scan", "write"]
    assert all(rank["labels"] == rank["indexed"] == ranks[0]["labels"] for rank in ranks)
    assert len(ranks[0]["labels"]) == IMAGES and len({rank["path"] for rank in ranks}) == 1


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    """A shard that counts as one of two; its group is made of this process alone."""

    def connect() -> None:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)

    monkeypatch.setattr(distributed, "_connect", connect)
    monkeypatch.setattr(distributed, "_alone", lambda: not dist.is_initialized())
    yield Shard(rank=0, world_size=2)
    if dist.is_initialized():
        dist.destroy_process_group()


def _raises(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("leave", "parted"),
    [
        pytest.param(lambda: None, True, id="the end"),
        pytest.param(lambda: _raises(StoppedError(15)), True, id="a signal"),
        pytest.param(lambda: _raises(DivergedError("NaN", step=3)), True, id="diverged"),
        pytest.param(lambda: together(lambda: _raises(ArgumentError("wrong"))), True, id="together, first"),
        pytest.param(lambda: _raises(PeerError(0, first=1)), True, id="together, another"),
        pytest.param(lambda: _raises(PeerError(0)), False, id="a lost peer"),
        pytest.param(lambda: _raises(ArgumentError("wrong")), False, id="one rank's own error"),
        pytest.param(lambda: _raises(RuntimeError("out of memory")), False, id="a foreign error"),
    ],
)
def test_a_group_is_destroyed_where_all_ranks_leave(
    leave: Callable[[], None], parted: bool, connected: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is left at once aborts the process now and then (signal 6); one that others need blocks."""
    waits: list[float] = []
    monkeypatch.setattr(distributed.time, "sleep", waits.append)
    with contextlib.suppress(RuntimeError, ArgumentError), process_group(connected):
        assert gathered("here") == ["here"]
        leave()
    assert dist.is_initialized() is not parted
    assert bool(waits) is not parted

"""The ffcv backend as a loader's user meets it: refusals, broken images, errors, threads."""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms

from fastpipe import BackendError, DataLoader, SampleError
from fastpipe.backends import threads as backend_threads
from fastpipe.backends.ffcv.backend import FfcvBackend
from fastpipe.batch import packing
from fastpipe.errors import NoEffectWarning
from fastpipe.storage import BetonDataset
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Plan

pytestmark = pytest.mark.ffcv

CROP = transforms.RandomResizedCrop(32)
WORKERS = (0, 2)


def open_loader(path: Path | BetonDataset, **options: Any) -> DataLoader:
    if isinstance(path, Path):
        path = BetonDataset(path, transforms.Compose([CROP, transforms.ToTensor()]))
    return DataLoader(path, **{"batch_size": 4, "seed": 7, "engine": "none", "backend": "ffcv", **options})


def images_of(loader: DataLoader) -> npt.NDArray[np.uint8]:
    """By numpy: in a forked child torch.cat waits for OpenMP threads that are not there."""
    return np.concatenate([batch[0].numpy() for batch in loader])


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastpipe")]


# ---- what it serves


@pytest.mark.parametrize("name", ["nearest", "bicubic", "lanczos"])
def test_filters_unlike_area_are_refused_by_name(mixed: Path, name: str) -> None:
    crop = transforms.RandomResizedCrop(32, interpolation=getattr(transforms.InterpolationMode, name.upper()))
    loader = open_loader(BetonDataset(mixed, transforms.Compose([crop, transforms.ToTensor()])))
    with pytest.raises(BackendError, match=f"INTER_AREA, which is not close to {name}"):
        iter(loader)


def test_the_difference_from_pillow_is_named(mixed: Path) -> None:
    said = str(open_loader(mixed).explain())
    for part in ("fast IDCT", "INTER_AREA instead of Pillow's bilinear", "numerics: fast"):
        assert part in said
    backend = FfcvBackend()
    assert backend.supports(Plan(decode=RandomResizedCrop(size=(8, 8))), "fast").answer == "yes_but"
    plain = backend.supports(Plan(decode=ResizeCrop(crop=(8, 8), interpolation="nearest")), "fast")
    assert plain.answer == "yes_but" and "INTER_AREA" not in plain.reason


def test_what_it_cannot_do_is_refused(mixed: Path) -> None:
    pipeline = transforms.Compose([CROP, transforms.ColorJitter(0.4), transforms.ToTensor()])
    with pytest.raises(BackendError, match="steps that stay on the workers"):
        iter(open_loader(BetonDataset(mixed, pipeline)))


def test_arguments_without_effect_warn(mixed: Path) -> None:
    with pytest.warns(NoEffectWarning, match="worker_init_fn has no effect with backend='ffcv'"):
        iter(open_loader(mixed, num_workers=1, worker_init_fn=print))


@pytest.mark.parametrize("workers", WORKERS)
def test_subsets_and_joined_files(mixed: Path, workers: int) -> None:
    dataset = BetonDataset(mixed, transforms.Compose([CROP, transforms.ToTensor()]))
    whole = [batch[1].tolist() for batch in open_loader(dataset)]
    subset = open_loader(Subset(dataset, [3, 19, 0, 3]), num_workers=workers)
    assert next(iter(subset))[1].tolist() == [3, 19, 0, 3]
    joined = ConcatDataset([dataset, Subset(dataset, range(5))])
    labels = [batch[1].tolist() for batch in open_loader(joined, num_workers=workers, batch_size=5)]
    assert list(chain(*labels)) == [*chain(*whole), *range(5)]


@pytest.mark.parametrize("workers", WORKERS)
def test_without_a_seed_order_and_generator_are_torchs(mixed: Path, workers: int) -> None:
    """The same draws from the user's generator as the other backends make: order, crops, and what is left."""
    found = []
    for backend in ("torchvision", "ffcv"):
        generator = torch.Generator().manual_seed(5)
        options = {"seed": None, "shuffle": True, "generator": generator, "numerics": "fast"}
        loader = open_loader(mixed, num_workers=workers, backend=backend, **options)
        epochs = [(batch[1].tolist(), batch[0].float().mean()) for _ in range(2) for batch in loader]
        found.append((epochs, generator.get_state()))
    (torchs, state), (ours, our_state) = found
    assert [ids for ids, _ in torchs] == [ids for ids, _ in ours]
    assert torch.equal(state, our_state)
    for (_, expected), (_, mean) in zip(torchs, ours, strict=True):
        assert abs(float(expected - mean)) < 2.5, "other crops"


# ---- broken images


def broken(kit: Any) -> Path:
    """9 images of 3 classes; 1 is cut off, 4 has another size than the table says, 8 is no JPEG."""
    entries = [kit.as_jpeg(kit.smooth(i, 48, 40), i % 3) for i in range(9)]
    good = entries[1].payload
    entries[1] = kit.entry(payload=good[: len(good) // 2], size=(48, 40), label=1)
    entries[4] = kit.entry(payload=kit.jpeg(kit.smooth(4, 64, 80)), size=(48, 40), label=1)
    entries[8] = kit.entry(payload=b"garbage" * 50, size=(48, 40), label=2)
    path: Path = kit.write(entries)
    return path


@pytest.mark.parametrize("workers", WORKERS)
def test_a_broken_image_raises_in_its_turn(kit: Any, workers: int) -> None:
    loader = open_loader(broken(kit), num_workers=workers, batch_size=1)
    iterator = iter(loader)
    next(iterator)
    began = time.monotonic()
    with pytest.raises(SampleError, match="sample 1") as caught:
        next(iterator)
    assert caught.value.sample_id == 1 and time.monotonic() - began < 10
    assert "FFCV's decoder rejects" in str(caught.value), "both decoders' words"


@pytest.mark.parametrize("workers", WORKERS)
def test_skip_leaves_broken_images_out_and_shows_no_stale_pixels(
    kit: Any, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = broken(kit)
    options = {"on_error": "skip", "max_bad": 1.0, "quarantine": False, "batch_size": 3}
    with caplog.at_level(logging.WARNING, logger="fastpipe"):
        batches = list(open_loader(path, num_workers=workers, **options))
    assert [batch[1].tolist() for batch in batches] == [[0, 2], [0, 2], [0, 1]]
    assert sum("skipped sample" in record.message for record in caplog.records) == 3
    alone = images_of(open_loader(path, sampler=[0, 2, 3, 5, 6, 7]))
    assert np.array_equal(np.concatenate([images.numpy() for images, *_ in batches]), alone)


def test_replace_takes_another_of_the_class_at_the_same_place(kit: Any) -> None:
    path = broken(kit)
    options = {
        "on_error": "replace",
        "max_bad": 1.0,
        "quarantine": False,
        "batch_size": 3,
        "sampler": range(8),
    }
    labels = [batch[1].tolist() for batch in open_loader(path, **options)]
    assert labels == [[0, 1, 2], [0, 1, 2], [0, 1]]
    alone, again = (images_of(open_loader(path, num_workers=workers, **options)) for workers in WORKERS)
    assert np.array_equal(alone, again)


def test_a_decompression_bomb_is_refused_before_memory_is_taken(kit: Any) -> None:
    """65,500 x 65,500 pixels in 1 kB: 12 GiB, if it were believed."""
    bomb = bytearray(kit.jpeg(kit.smooth(0, 16, 16)))
    place = bomb.index(b"\xff\xc0") + 5
    bomb[place : place + 4] = (65500).to_bytes(2, "big") * 2
    path = kit.write([kit.entry(payload=bytes(bomb), size=(65500, 65500))])
    before = psutil.Process().memory_info().rss
    with pytest.raises(SampleError, match="decompression bomb"):
        images_of(open_loader(path))
    assert psutil.Process().memory_info().rss - before < 200 << 20


# ---- errors, threads, processes


class Failing:
    """A target_transform that fails for one label."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __call__(self, label: int) -> int:
        if label == 9:
            raise self.error("label 9")
        return label


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_in_a_thread_reaches_the_consumer(mixed: Path, workers: int) -> None:
    dataset = BetonDataset(mixed, transforms.Compose([CROP, transforms.ToTensor()]), Failing(KeyError))
    began = time.monotonic()
    with pytest.raises(KeyError, match="label 9"):
        images_of(open_loader(dataset, num_workers=workers))
    assert time.monotonic() - began < 10
    assert len(images_of(open_loader(mixed, num_workers=workers))) == 20


def test_a_thread_that_is_told_to_exit_does_not_end_the_script(
    mixed: Path, in_threads: Callable[[Hook], None]
) -> None:
    in_threads(Failing(SystemExit))
    with pytest.raises(RuntimeError, match="ended by SystemExit"):
        images_of(open_loader(mixed, num_workers=2))


def test_a_target_transform_that_exits_ends_the_script_as_torchs_loader_does(mixed: Path) -> None:
    """With num_workers=0; where torch has worker processes, those end, and the script gets a RuntimeError."""
    dataset = BetonDataset(mixed, transforms.Compose([CROP, transforms.ToTensor()]), Failing(SystemExit))
    with pytest.raises(SystemExit):
        images_of(open_loader(dataset, num_workers=0, seed=None))
    with pytest.raises(RuntimeError, match="target_transform was ended by SystemExit"):
        images_of(open_loader(dataset, num_workers=2))


@pytest.mark.parametrize("workers", WORKERS)
def test_a_failing_sampler_raises_after_the_batches_before_it(mixed: Path, workers: int) -> None:
    def ids() -> Any:
        yield from range(14)
        raise KeyError("my sampler")

    iterator = iter(open_loader(mixed, num_workers=workers, batch_size=2, sampler=ids()))
    assert len([next(iterator) for _ in range(7)]) == 7
    for _ in range(3):  # StopIteration would say that the epoch was complete
        with pytest.raises(KeyError, match="my sampler"):
            next(iterator)


Hook = Callable[[int], int]


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Lets a function run where a thread asks for a label: a target_transform runs in the script's thread."""

    def install(hook: Hook) -> None:
        monkeypatch.setattr(packing, "label_at", lambda request, place, leaf, label: hook(label))

    return install


class Slow:
    """Waits until told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.num_waiting = 0

    def __call__(self, label: int) -> int:
        self.num_waiting += 1
        self.go.wait(20)
        return label


class Counting:
    """Counts its samples."""

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, label: int) -> int:
        self.num += 1
        return label


@pytest.fixture
def borrowed(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that loaders of this test took: other tests' may be on their way back to the idle ones."""
    threads: list[threading.Thread] = []
    borrow = backend_threads._borrow

    def noted(num: int) -> list[backend_threads._Thread]:
        taken = borrow(num)
        threads.extend(taken)
        return taken

    monkeypatch.setattr(backend_threads, "_borrow", noted)
    return threads


def kill(threads: list[threading.Thread]) -> None:
    """Raises SystemExit in each, as soon as it runs Python's code again."""
    assert len(threads) == 2
    for thread in threads:
        number, error = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error) == 1


def expect_a_dead_thread(iterator: Iterator[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="a decoding thread"):
        list(iterator)
    assert time.monotonic() - began < 10


def test_a_thread_killed_at_work_is_noticed(
    mixed: Path, borrowed: list[threading.Thread], in_threads: Callable[[Hook], None]
) -> None:
    slow = Slow()
    in_threads(slow)
    iterator = iter(open_loader(mixed, num_workers=2, batch_size=10, prefetch_factor=1))
    deadline = time.monotonic() + 15
    while slow.num_waiting < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(borrowed)
    slow.go.set()
    expect_a_dead_thread(iterator)


def test_a_thread_killed_while_it_waits_for_work_is_noticed(
    mixed: Path, borrowed: list[threading.Thread], in_threads: Callable[[Hook], None]
) -> None:
    """It takes the next batch with it: nothing of ours catches what is raised there."""
    counting = Counting()
    in_threads(counting)
    iterator = iter(open_loader(mixed, num_workers=2, batch_size=1, prefetch_factor=1))
    seen, deadline = -1, time.monotonic() + 30
    while counting.num != seen and time.monotonic() < deadline:  # until all is made that is made ahead
        seen = counting.num
        time.sleep(0.5)
    assert 2 <= counting.num < 15
    kill(borrowed)
    expect_a_dead_thread(iterator)


def test_a_batch_that_takes_too_long_is_an_error(mixed: Path, in_threads: Callable[[Hook], None]) -> None:
    slow = Slow()
    in_threads(slow)
    iterator = iter(open_loader(mixed, num_workers=1, timeout=0.3))
    threading.Timer(1.0, slow.go.set).start()
    with pytest.raises(RuntimeError, match=r"timed out after 0.3 seconds"):
        next(iterator)


def test_two_live_loaders_do_not_disturb_each_other(mixed: Path) -> None:
    first, second = (open_loader(mixed, num_workers=2, seed=seed) for seed in (1, 2))
    alone = [images_of(open_loader(mixed, seed=seed)) for seed in (1, 2)]
    pairs = list(zip(first, second, strict=True))
    assert np.array_equal(np.concatenate([one[0].numpy() for one, _ in pairs]), alone[0])
    assert np.array_equal(np.concatenate([two[0].numpy() for _, two in pairs]), alone[1])


def broken_off(loader: DataLoader, epochs: int) -> None:
    for _ in range(epochs):
        for _ in loader:
            break
    gc.collect()


@pytest.mark.parametrize("persistent", [False, True])
def test_threads_stay_few_over_broken_off_epochs(mixed: Path, persistent: bool) -> None:
    loader = open_loader(mixed, num_workers=2, persistent_workers=persistent)
    broken_off(loader, 2)
    count = threading.active_count()
    broken_off(loader, 12)
    assert threading.active_count() <= count


@pytest.mark.slow
def test_threads_and_memory_are_flat_over_50_broken_off_epochs(kit: Any) -> None:
    path = kit.write([kit.as_jpeg(kit.smooth(i % 8, 500, 400)) for i in range(64)])
    loader = open_loader(path, num_workers=2, batch_size=8)
    broken_off(loader, 15)
    threads, memory = threading.active_count(), psutil.Process().memory_info().rss
    for _ in range(50):
        broken_off(open_loader(path, num_workers=2, batch_size=8), 1)
    assert threading.active_count() <= threads
    assert psutil.Process().memory_info().rss - memory < 16 << 20


def in_child(path: Path, expected: Any, live: Any, answer: Any) -> None:
    """In a forked child: new threads serve; an iterator of the parent says that its threads are gone."""
    try:
        same = np.array_equal(images_of(open_loader(path, num_workers=2)), expected)
        try:
            list(live)
            said = "delivered"
        except RuntimeError as error:
            said = str(error)
        answer.send((same, said))
    except BaseException as error:
        answer.send((False, repr(error)))


def test_after_a_fork_threads_are_made_anew(mixed: Path) -> None:
    loader = open_loader(mixed, num_workers=2)
    expected = images_of(loader)
    live = iter(loader)
    next(live)
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=in_child, args=(mixed, expected, live, send))
    process.start()
    assert receive.poll(60), "the child hangs"
    same, said = receive.recv()
    process.join(30)
    assert same and "thread" in said
    assert len(list(live)) == 4 and process.exitcode == 0


def test_large_outputs_after_a_fork(kit: Any) -> None:
    """OpenCV resizes over 65,536 pixels in its own threads, which a forked child does not have."""
    path = kit.write([kit.as_raw(kit.smooth(0, 900, 900))])
    dataset = BetonDataset(path, transforms.Compose([transforms.Resize((640, 640)), transforms.ToTensor()]))
    expected = images_of(open_loader(dataset))
    receive, send = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(
        target=lambda: send.send(np.array_equal(images_of(open_loader(dataset)), expected))
    )
    process.start()
    assert receive.poll(30), "the child hangs"
    assert receive.recv()
    process.join(30)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_state_of_ffcv_continues_on_torchvision(mixed: Path, workers: int) -> None:
    loader = open_loader(mixed, num_workers=workers, shuffle=True)
    iterator = iter(loader)
    delivered = [next(iterator)[1].tolist() for _ in range(2)]
    state = loader.state_dict()
    other = open_loader(mixed, shuffle=True, backend="torchvision", numerics="fast")
    other.load_state_dict(state)
    rest = [batch[1].tolist() for batch in other]
    assert delivered + rest == [batch[1].tolist() for batch in open_loader(mixed, shuffle=True)]

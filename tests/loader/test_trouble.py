"""What goes wrong on real machines: broken files, dead workers, Ctrl-C, thread and process leaks."""

import gc
import logging
import multiprocessing.process
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import weakref

import psutil
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import ArgumentError, DataLoader, EmptyDatasetError, SampleError

TAIL = [transforms.ToTensor()]
TRAIN = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), *TAIL])


@pytest.fixture
def folder(photos, tmp_path, monkeypatch):
    """A copy of the photos whose fourth file can be broken, and a cache directory of its own."""
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(photos, tmp_path / "data")
    return tmp_path / "data"


def _break(root, how="truncate"):
    path = sorted(root.glob("*/*.*"))[3]
    if how == "truncate":
        path.write_bytes(path.read_bytes()[:400])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not an image")
    else:
        path.unlink()
        path.symlink_to(path.with_name("nowhere"))
    return path


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["truncate", "empty", "text", "dangling"])
def test_a_broken_file_is_named_with_the_remedy(folder, how, workers):
    dataset = ImageFolder(str(folder), TRAIN)
    path = _break(folder, how)
    with pytest.raises(SampleError, match=path.name) as caught:
        list(DataLoader(dataset, 4, num_workers=workers))
    assert caught.value.path == str(path)
    assert caught.value.sample_id == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_skip_makes_that_batch_shorter_and_says_so(folder, workers, caplog):
    dataset = ImageFolder(str(folder), TRAIN)
    whole = list(DataLoader(dataset, 8, seed=1))
    path = _break(folder)
    with caplog.at_level(logging.WARNING, "fastpipe"):
        batches = list(DataLoader(dataset, 8, seed=1, on_error="skip", num_workers=workers))
    assert [len(images) for images, _ in batches] == [7, 8, 8]
    assert torch.equal(batches[0][0], whole[0][0][[0, 1, 2, 4, 5, 6, 7]])
    assert torch.equal(batches[1][0], whole[1][0])
    assert path.name in caplog.text and "skipped sample 3" in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_replace_takes_the_same_class_and_the_same_one_each_time(folder, workers, caplog):
    dataset = ImageFolder(str(folder), TRAIN)
    whole = list(DataLoader(dataset, 8, seed=1))
    _break(folder)
    runs = []
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "fastpipe"):
            runs.append(list(DataLoader(dataset, 8, seed=1, on_error="replace", num_workers=workers)))
    (images, labels), (again, _) = runs[0][0], runs[1][0]
    assert torch.equal(images, again)
    assert labels.tolist() == whole[0][1].tolist()
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(images[others], whole[0][0][others])
    assert "replaced sample 3 by" in caplog.text


def test_on_error_of_an_arbitrary_dataset(folder, caplog):
    class Own(ImageFolder):
        def __getitem__(self, index):
            return super().__getitem__(index)

    dataset = Own(str(folder), TRAIN)
    _break(folder)
    with caplog.at_level(logging.WARNING, "fastpipe"):
        sizes = [len(images) for images, _ in DataLoader(dataset, 8, on_error="skip")]
    assert sizes == [7, 8, 8]
    assert "skipped sample 3" in caplog.text
    with pytest.raises(ArgumentError, match="on_error='replace' cannot be honoured"):
        iter(DataLoader(dataset, 8, on_error="replace"))


def test_bad_folders(tmp_path):
    for path, words in ((tmp_path / "none", "none"), (tmp_path, tmp_path.name)):
        with pytest.raises(EmptyDatasetError, match=words):
            DataLoader(path, transform=TRAIN)
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(EmptyDatasetError, match="class"):
        DataLoader(tmp_path, transform=TRAIN)


def test_images_of_different_sizes_without_a_crop(photos):
    loader = DataLoader(photos, 4, transform=transforms.ToTensor())
    with pytest.raises(RuntimeError, match=r"stack expects each tensor to be equal size.*add Resize"):
        list(loader)
    assert next(iter(DataLoader(photos, 1, transform=transforms.ToTensor())))[0].shape[0] == 1


def test_a_random_crop_larger_than_an_image_names_the_file(photos):
    transform = transforms.Compose([transforms.RandomCrop(400), transforms.ToTensor()])
    with pytest.raises(SampleError, match=r"00\.jpg.*larger than the image"):
        list(DataLoader(photos, 4, transform=transform))


def test_a_batch_larger_than_the_data_with_drop_last(photos):
    loader = DataLoader(photos, 99, transform=TRAIN, drop_last=True)
    assert len(loader) == 0
    assert list(loader) == []


def test_an_error_in_a_users_step_keeps_its_own_type(photos):
    def broken(image):
        raise ZeroDivisionError("in the user's step")

    transform = transforms.Compose([transforms.CenterCrop(20), transforms.Lambda(broken), *TAIL])
    loader = DataLoader(ImageFolder(str(photos), transform), 4, num_workers=1)
    assert not loader.explain().lifted
    with pytest.raises(ZeroDivisionError, match="in the user's step"):
        list(loader)


def _children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


KILLED = """
    import os, psutil, signal, sys, time
    from torchvision import transforms
    from fastpipe import DataLoader
    transform = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    persistent = sys.argv[2] == "True"
    loader = DataLoader(sys.argv[1], 1, transform=transform, num_workers=1, persistent_workers=persistent)
    iterator = iter(loader)
    next(iterator)
    (worker,) = psutil.Process().children()
    started = time.monotonic()
    try:
        os.kill(worker.pid, signal.SIGKILL)
        for batch in iterator:
            time.sleep(0.01)
        print("the epoch ended as if nothing had happened")
    except RuntimeError as error:
        print(f"{time.monotonic() - started:.1f} {error}")
"""


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_an_error_within_ten_seconds(photos, persistent):
    """In a script of its own: torch raises from a signal handler, wherever the main thread happens to be."""
    script = textwrap.dedent(KILLED)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(photos), str(persistent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    seconds, _, message = done.stdout.partition(" ")
    assert "DataLoader worker" in message, done.stdout + done.stderr
    assert float(seconds) < 10


def _children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_broken_off_epochs_leave_no_thread_and_no_process(photos):
    loader = DataLoader(photos, 2, transform=TRAIN, num_workers=1)
    next(iter(loader))
    threads, children = set(threading.enumerate()), len(_children())
    for _ in range(5):
        for _ in loader:
            break
    # By name: other libraries start threads of their own when they please.
    left = [t.name for t in set(threading.enumerate()) - threads if t.name.startswith("fastpipe")]
    assert left == []
    assert len(_children()) <= children


def _fails_at_one(label):
    if label == 1:
        raise ZeroDivisionError("by a label")
    return label


def _outcomes(loader):
    """Labels of each batch or the name of its error, as a script that goes on behind errors sees them."""
    iterator, found = iter(loader), []
    while True:
        try:
            found.append(next(iterator)[1].tolist())
        except StopIteration:
            return found
        except Exception as error:
            found.append(type(error).__name__)


@pytest.mark.parametrize("options", [{}, {"seed": 1}, {"seed": 1, "backend": "torch"}])
@pytest.mark.parametrize("workers", [0, 1])
def test_behind_an_error_it_goes_on_as_torchs_does(photos, workers, options):
    dataset = ImageFolder(str(photos), TRAIN, target_transform=_fails_at_one)
    theirs = _outcomes(torch.utils.data.DataLoader(dataset, 3, num_workers=workers))
    assert theirs.count("ZeroDivisionError") == 4 and len(theirs) == 8
    assert _outcomes(DataLoader(dataset, 3, num_workers=workers, **options)) == theirs


def test_dead_workers_are_an_error_at_every_call(photos):
    """StopIteration would say that the epoch was complete."""
    before = _children()
    iterator = iter(DataLoader(ImageFolder(str(photos), TRAIN), 1, num_workers=1, timeout=20))
    next(iterator)
    for worker in _children() - before:
        os.kill(worker, signal.SIGKILL)
    errors = 0
    for _ in range(40):  # some batches were made before
        try:
            next(iterator)
        except RuntimeError as error:
            assert "DataLoader worker" in str(error)
            errors += 1
    assert errors >= 10


def _kept_error(dataset, options):
    """An error whose traceback holds this frame, and that all three: a cycle; and refs to see it go."""
    loader = DataLoader(dataset, 4, num_workers=2, **options)
    loader.worker_init_fn = _Init(loader)
    iterator = iter(loader)
    try:
        list(iterator)
    except ZeroDivisionError as error:
        kept = error
    return kept, [weakref.ref(loader), weakref.ref(iterator)]


class _Init:
    """A method of a trainer that knows its loader, say."""

    def __init__(self, loader):
        self.loader = loader

    def __call__(self, worker):
        pass


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("options", [{}, {"seed": 1}, {"backend": "torch"}])
def test_collecting_an_error_does_not_wait_for_the_workers(photos, options, persistent, monkeypatch):
    """Collected with torch's queues, its iterator cannot tell the workers to end, and waits 5 s for each."""
    in_vain, join = [], multiprocessing.process.BaseProcess.join

    def noted(process, timeout=None):
        join(process, timeout)
        if process.exitcode is None:
            in_vain.append(timeout)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "join", noted)
    dataset = ImageFolder(str(photos), TRAIN, target_transform=_fails_at_one)
    before = _children()
    error, gone = _kept_error(dataset, {**options, "persistent_workers": persistent})
    assert len(_children() - before) >= 2
    del error
    gc.collect()
    gc.collect()
    assert in_vain == []
    assert not _children() - before
    assert [ref() for ref in gone] == [None, None]


SCRIPT = """
    import sys, torch
    from torchvision import transforms
    from fastpipe import DataLoader
    transform = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    # One epoch without an end: within os.fork Python itself drops a KeyboardInterrupt.
    order = torch.utils.data.RandomSampler(range(24), replacement=True, num_samples=10**8)
    batches = iter(DataLoader(sys.argv[1], 2, sampler=order, transform=transform, num_workers=2, seed=1))
    next(batches)
    print("ready", flush=True)
    for batch in batches:
        pass
"""


def test_ctrl_c_ends_the_script_and_its_workers(photos):
    script = textwrap.dedent(SCRIPT)
    command = [sys.executable, "-W", "ignore", "-c", script, str(photos)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            workers = psutil.Process(process.pid).children(recursive=True)
            assert len(workers) >= 2
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_started_afresh(photos, method):
    dataset = ImageFolder(str(photos), TRAIN)
    ours = DataLoader(dataset, 12, seed=1, num_workers=1, multiprocessing_context=method)
    expected = DataLoader(dataset, 12, seed=1)
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a[0], b[0])

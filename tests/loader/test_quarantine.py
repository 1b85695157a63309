"""Broken samples: the same result on every backend and in every run, a list of them, and a limit."""

import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import ArgumentError, DataError, DataLoader, FolderDataset, SampleError
from fastpipe.batch.locate import labels_of
from fastpipe.batch.mend import Mender, Policy, first_that_decodes
from fastpipe.batch.quarantine import Quarantine, default_quarantine
from fastpipe.errors import NoEffectWarning
from fastpipe.storage import FolderLeaf
from fastpipe.types import Incident, Request

TRAIN = transforms.Compose(
    [transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)


@pytest.fixture
def folder(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(photos, tmp_path / "data")
    return tmp_path / "data"


def _files(root):
    return sorted(root.glob("*/*.*"))


def _break(root, *places):
    files = _files(root)
    for place in places:
        files[place].write_bytes(files[place].read_bytes()[:300])
    return [str(files[place]) for place in places]


def _loader(root, **options):
    return DataLoader(ImageFolder(str(root), TRAIN), 8, seed=1, **{"on_error": "replace", **options})


def _entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _list_of(root):
    return default_quarantine(ImageFolder(str(root)))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_the_next_run_does_not_try_listed_files_and_gives_the_same_batches(
    folder, workers, on_error, monkeypatch, caplog
):
    broken = _break(folder, 0, 11, 23)  # first, middle and last place
    first = list(_loader(folder, on_error=on_error, num_workers=workers))
    path = _list_of(folder)
    assert f"Listed in {path}" in caplog.text
    entries = _entries(path)
    assert [entry["path"] for entry in entries] == broken
    assert {entry["action"] for entry in entries} == {"skipped" if on_error == "skip" else "replaced"}
    caplog.clear()
    opened = []
    monkeypatch.setattr(FolderLeaf, "rgb", _recording(FolderLeaf.rgb, opened))
    second = list(_loader(folder, on_error=on_error, num_workers=workers))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a[0], b[0]) and a[1].tolist() == b[1].tolist()
    if workers == 0:
        assert opened and not {0, 11, 23} & set(opened)
    assert "3 samples are in the quarantine list" in caplog.text
    assert _entries(path) == entries, "known samples are not listed twice"


def _recording(real, opened):
    def read(leaf, index):
        opened.append(index)
        return real(leaf, index)

    return read


def test_a_repaired_file_and_a_deleted_list_are_tried_again(folder, caplog):
    original = {place: _files(folder)[place].read_bytes() for place in (3, 4)}
    _break(folder, 3, 4)
    list(_loader(folder, on_error="skip"))
    _files(folder)[3].write_bytes(original[3])
    sizes = [len(images) for images, _ in _loader(folder, on_error="skip")]
    assert sizes == [7, 8, 8]
    _files(folder)[4].write_bytes(original[4])
    _list_of(folder).unlink()
    assert [len(images) for images, _ in _loader(folder, on_error="skip")] == [8, 8, 8]


def test_a_file_that_cannot_be_read_now_is_tried_by_the_next_run(folder):
    """A mount that fails is no broken picture."""
    path = _files(folder)[3]
    dataset = ImageFolder(str(folder), TRAIN)
    data = path.read_bytes()
    path.unlink()
    assert len(next(iter(DataLoader(dataset, 8, on_error="skip", seed=1)))[0]) == 7
    assert [entry["lasting"] for entry in _entries(_list_of(folder))] == [False]
    path.write_bytes(data)
    assert len(next(iter(DataLoader(dataset, 8, on_error="skip", seed=1)))[0]) == 8


def test_a_crop_that_does_not_fit_lists_no_file_for_ever(folder):
    big = transforms.Compose([transforms.RandomCrop(140), transforms.ToTensor()])
    loader = DataLoader(ImageFolder(str(folder), big), 24, on_error="skip", seed=1, max_bad=1.0)
    kept = len(next(iter(loader))[0]) if _fits(folder, 140) else 0
    assert kept == _fits(folder, 140)
    assert Quarantine(_list_of(folder), given=False).listed() == frozenset()


def _fits(root, size):
    return sum(min(image.size) >= size for image, _ in ImageFolder(str(root)))


def test_a_list_of_ones_own(folder, tmp_path, caplog):
    """Named by the user, with lines by hand and lines that a crash cut short."""
    files = [str(path) for path in _files(folder)]
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"path": files[5]}) + '\n[]\n{"path": 3}\nnonsense\n{"path": "' + files[6])
    sizes = [len(images) for images, _ in _loader(folder, on_error="skip", quarantine=mine)]
    assert sizes == [7, 8, 8]
    assert "line 4 of the quarantine list" in caplog.text
    _break(folder, 9)
    list(_loader(folder, quarantine=mine))
    last = mine.read_text().splitlines()[-1]
    assert json.loads(last)["path"] == files[9], "an entry begins on a line of its own"
    assert not _list_of(folder).exists()
    _loader(folder, quarantine=False)
    with pytest.raises(ArgumentError, match="quarantine must be a file in a folder that exists"):
        list(_loader(folder, quarantine=tmp_path / "none" / "a.jsonl"))
    with pytest.raises(ArgumentError, match="quarantine must be a path, None"):
        _loader(folder, quarantine=True)
    with pytest.warns(NoEffectWarning, match="quarantine has no effect with on_error='raise'"):
        _loader(folder, quarantine=mine, on_error="raise")


def test_a_cache_that_cannot_be_written_says_so_and_a_named_list_raises(folder, tmp_path, caplog):
    _break(folder, 3)
    (tmp_path / "cache").write_text("no folder")
    assert len(list(_loader(folder))) == 3
    assert "cannot be written" in caplog.text and "Listed in" not in caplog.text
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match=r"cannot be read .*Name another file"):
        list(_loader(folder, quarantine=tmp_path / "taken"))


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_files_are_an_error(folder, workers):
    _break(folder, 0, 4, 8, 12, 16, 20)
    with pytest.raises(DataError, match=r"6 samples of this epoch .*max_bad=0.01 allows 5"):
        list(_loader(folder, num_workers=workers))
    with pytest.raises(DataError, match="6 samples"):
        list(_loader(folder, num_workers=workers))  # listed ones count as well
    assert len(list(_loader(folder, num_workers=workers, max_bad=0.5))) == 3
    for value in (0, 1.5, True, "1%"):
        with pytest.raises(ArgumentError, match="max_bad must be a share"):
            _loader(folder, max_bad=value)


def test_the_limit_is_for_each_epoch(folder):
    _break(folder, 0, 8, 16)
    loader = _loader(folder)
    for _ in range(3):
        assert len(list(loader)) == 3


def _append(path, name):
    quarantine = Quarantine(path, given=True)
    for number in range(200):
        key = f"{name}-{number}" + "x" * 300
        quarantine.add([Incident(sample_id=number, key=key, action="skipped", reason="r" * 5000)])


def test_processes_append_whole_lines(tmp_path):
    """Ranks share one list: lines longer than a pipe's atomic 4096 bytes must not mix."""
    context = multiprocessing.get_context("fork")
    path = tmp_path / "list.jsonl"
    ranks = [context.Process(target=_append, args=(path, rank)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0, 0]
    assert len({entry["path"] for entry in _entries(path)}) == 600


def _request(ids):
    ids = np.array(ids, dtype=np.int64)
    return Request(seed=1, epoch=0, batch=2, ids=ids, repeats=np.zeros_like(ids))


def test_a_replacement_is_of_the_class_is_never_the_broken_one_and_is_spread(photos):
    dataset = FolderDataset(photos)
    mender = Mender(dataset, Policy(on_error="replace"))
    taken = []
    for repeat in range(400):
        request = _request([9])
        request.repeats[:] = repeat
        taken.append(next(mender.substitutes(request, 0)))
    counts = np.bincount(taken, minlength=24)
    assert counts[[8, *range(10, 16)]].min() > 30  # 400 / 7 = 57 each, s.d. 7
    assert counts.sum() == counts[8:16].sum() and counts[9] == 0


def test_no_readable_replacement_is_an_error(folder):
    first = _files(folder)[0].parent
    for path in sorted(first.iterdir()):
        path.write_bytes(b"nothing")
    with pytest.raises(SampleError, match="No readable replacement of its class"):
        list(_loader(folder, max_bad=1.0))


def test_mending_is_for_any_order_and_any_thread(photos):
    """As a threaded backend uses it: decode all places, then mend the failed ones."""
    dataset = FolderDataset(photos)
    mending = Mender(dataset, Policy(on_error="skip")).batch(_request([4, 5, 6]))
    mending.rescued(2, SampleError("turbo says no", path="x"))
    mending.mend(1, SampleError("broken"), lambda place, sample_id: None)
    kept, request, incidents = mending.finish()
    assert kept.tolist() == [0, 2] and request.ids.tolist() == [4, 6]
    assert [(one.action, one.sample_id) for one in incidents] == [("skipped", 5), ("rescued", 6)]
    assert incidents[0].key == dataset.samples[5][0]


def test_a_chain_of_decoders_takes_the_first_that_can():
    def fail(words):
        def attempt():
            raise SampleError(words, path="a.jpg")

        return attempt

    assert first_that_decodes([("turbo", lambda: 1), ("pillow", fail("no"))]) == (1, None)
    value, why = first_that_decodes([("turbo", fail("CMYK")), ("pillow", lambda: 2)])
    assert value == 2 and "CMYK" in str(why)
    with pytest.raises(SampleError, match=r"truncated \(turbo: CMYK\)") as caught:
        first_that_decodes([("turbo", fail("CMYK")), ("pillow", fail("truncated"))])
    assert caught.value.path == "a.jpg"


def test_labels_of_nested_data(photos):
    folder, listed = FolderDataset(photos), ImageFolder(str(photos))
    assert labels_of(folder).tolist() == labels_of(listed).tolist() == listed.targets
    assert labels_of(ConcatDataset([Subset(folder, [23, 0]), listed])).tolist() == [2, 0, *listed.targets]
    listed.samples = [(path, 9) for path, _ in listed.samples]
    assert set(labels_of(listed).tolist()) == {9}, "__getitem__ reads samples, not targets"


def test_each_data_set_has_a_list_of_its_own(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path))
    here = default_quarantine(ImageFolder(str(photos)))
    assert here.parent == tmp_path / "quarantine" and here.name.startswith(photos.name)
    assert default_quarantine(Subset(FolderDataset(photos), [1])) == here
    os.symlink(photos, tmp_path / "other")
    assert default_quarantine(FolderDataset(tmp_path / "other")) != here
    assert default_quarantine(torch.utils.data.TensorDataset(torch.arange(3))) is None

"""on_error="skip" where nothing is left of a batch: it is not delivered, and the run goes on."""

import json
import logging
import subprocess
import sys
import textwrap

import pytest
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import DataError, DataLoader

PLAIN = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
JITTER = transforms.Compose([transforms.Resize((16, 16)), transforms.ColorJitter(0.1), transforms.ToTensor()])


class Own(ImageFolder):
    """Not lifted."""

    def __getitem__(self, index):
        return super().__getitem__(index)


KINDS = {
    "lifted": lambda root: ImageFolder(root, PLAIN),
    "host steps": lambda root: ImageFolder(root, JITTER),
    "own": lambda root: Own(root, PLAIN),
}
BACKENDS = ["torchvision", pytest.param("dali", marks=pytest.mark.dali)]


def _folder(root, broken, num=9):
    (root / "c").mkdir(parents=True)
    from PIL import Image

    for i in range(num):
        path = root / "c" / f"{i}.png"
        Image.new("RGB", (40, 40), (i, 0, 0)).save(path)
        if i in broken:
            path.write_bytes(b"junk")
    return str(root)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "broken", "sizes"),
    [
        (1, {8}, [1] * 8),
        (1, {0, 4, 5}, [1] * 6),
        (4, {8}, [4, 4]),
        (4, {0, 1, 2, 3}, [4, 1]),
        (3, {3, 4, 5, 7}, [3, 2]),
    ],
)
def test_a_batch_without_samples_is_not_delivered(tmp_path, kind, workers, size, broken, sizes):
    dataset = KINDS[kind](_folder(tmp_path / "data", broken))
    loader = DataLoader(dataset, size, on_error="skip", num_workers=workers)
    assert [len(images) for images, _ in loader] == sizes
    assert len(loader) == -(-9 // size), "len stays"
    state = loader.state_dict()
    assert (state["delivered"], state["finished"]) == (len(loader), True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workers", [0, 1])
def test_on_every_backend_the_ids_are_listed_and_the_next_run_skips_the_same(
    tmp_path, backend, workers, caplog
):
    dataset = ImageFolder(_folder(tmp_path / "data", {3, 4, 5}), PLAIN)
    runs, listed = [], tmp_path / "list.jsonl"
    for _ in range(2):
        options = dict(on_error="skip", quarantine=listed, backend=backend, num_workers=workers)
        runs.append([len(labels) for _, labels in DataLoader(dataset, 3, **options)])
    assert runs == [[3, 3], [3, 3]]
    assert [json.loads(line)["sample_id"] for line in listed.read_text().splitlines()] == [3, 4, 5]


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_behind_a_batch_that_was_not_delivered(tmp_path, workers):
    dataset = ImageFolder(_folder(tmp_path / "data", {3, 4, 5}), PLAIN)
    options = dict(on_error="skip", quarantine=False, num_workers=workers, seed=1)
    whole = [images[:, 0, 0, 0].tolist() for images, _ in DataLoader(dataset, 3, **options)]
    loader = DataLoader(dataset, 3, **options)
    iterator = iter(loader)
    next(iterator)
    first = loader.state_dict()
    next(iterator)
    second = loader.state_dict()
    assert (first["delivered"], second["delivered"]) == (1, 3)
    for state, rest in ((first, whole[1:]), (second, [])):
        resumed = DataLoader(dataset, 3, **options)
        resumed.load_state_dict(state)
        assert [images[:, 0, 0, 0].tolist() for images, _ in resumed] == rest


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_that_delivers_nothing_raises(tmp_path, kind):
    dataset = KINDS[kind](_folder(tmp_path / "data", {0, 1, 2}, num=3))
    loader = DataLoader(dataset, 2, on_error="skip", quarantine=False)
    iterator = iter(loader)
    with pytest.raises(DataError, match="no sample of epoch 0 can be read"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    assert list(DataLoader(dataset, batch_sampler=[], on_error="skip")) == [], "an empty order is no fault"


def test_max_bad_still_ends_the_run(tmp_path, caplog):
    dataset = ImageFolder(_folder(tmp_path / "data", set(range(7))), PLAIN)
    with caplog.at_level(logging.ERROR, "fastpipe"), pytest.raises(DataError, match="max_bad"):
        list(DataLoader(dataset, 1, on_error="skip", quarantine=False))


@pytest.mark.parametrize("kind", KINDS)
def test_replace_keeps_its_batches_and_raise_raises(tmp_path, kind):
    dataset = KINDS[kind](_folder(tmp_path / "data", {8}))
    with pytest.raises(Exception, match=r"8\.png"):
        list(DataLoader(dataset, 1))
    if kind != "own":
        batches = DataLoader(dataset, 1, on_error="replace", quarantine=False)
        assert [len(images) for images, _ in batches] == [1] * 9


GROUP = """
    import sys, torch.distributed
    from torchvision import transforms
    from fastpipe import ArgumentError, DataLoader
    transform = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
    loader = DataLoader(sys.argv[1], 2, transform=transform, on_error="skip")
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=0, world_size=1)
    for act in (lambda: iter(loader), lambda: DataLoader(sys.argv[1], transform=transform, on_error="skip")):
        try:
            act()
        except ArgumentError as error:
            print(error)
    torch.distributed.destroy_process_group()
"""


def test_skip_is_refused_where_a_process_group_exists_also_one_made_later(tmp_path):
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(GROUP),
        _folder(tmp_path / "data", set()),
        tmp_path / "join",
    ]
    out = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=True).stdout
    assert out.count("hangs collectives") == 2

"""Continuing with exactly the next sample: at every position, at another worker count, on another backend."""

import pytest
import torch

from fastpipe.backends import registry


def _same(a, b):
    assert len(a) == len(b)
    for (images, labels), (pixels, numbers) in zip(a, b, strict=True):
        assert labels.tolist() == numbers.tolist()
        assert torch.equal(images, pixels)


def _state_after(loader, delivered):
    iterator = iter(loader)
    for _ in range(delivered):
        next(iterator)
    return loader.state_dict()


def test_resume_at_every_position(lab, saved):
    """resume at every position of a short epoch, and the epoch after it"""
    whole = lab.loader(shuffle=True)
    epochs = [list(whole) for _ in range(2)]
    for delivered in range(5):
        loader = lab.loader(shuffle=True)
        state = saved(_state_after(loader, delivered))
        assert state["delivered"] == delivered
        resumed = lab.loader(shuffle=True)
        resumed.load_state_dict(state)
        assert len(resumed) == 4
        _same(list(resumed), epochs[0][delivered:])
        if delivered in (0, 2):
            _same(list(resumed), epochs[1])


@pytest.mark.parametrize("workers", [1])
@pytest.mark.parametrize("other", [0, 3])
def test_resume_at_another_worker_count(lab, saved, other):
    """resume at another worker count"""
    whole = list(lab.loader(shuffle=True, num_workers=0))
    state = saved(_state_after(lab.loader(shuffle=True), 2))
    resumed = lab.loader(shuffle=True, num_workers=other)
    resumed.load_state_dict(state)
    _same(list(resumed), whole[2:])


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_on_another_backend(lab, saved):
    """resume on every other backend that reads these files: the next sample, the same crops"""
    state = saved(_state_after(lab.loader(shuffle=True), 2))
    order = lab.order()
    for name in registry.BACKENDS:
        claims = registry.load(name).capabilities
        if name == lab.backend or lab.storage not in claims.storage:
            continue
        numerics = lab.numerics if lab.numerics in claims.numerics else claims.numerics[0]
        resumed = lab.loader(shuffle=True, backend=name, numerics=numerics)
        resumed.load_state_dict(state)
        rest = list(resumed)
        assert [i for _, labels in rest for i in labels.tolist()] == order[12:]
        fresh = list(lab.loader(shuffle=True, backend=name, numerics=numerics))
        _same(rest, fresh[2:])


def test_resume_after_a_finished_epoch(lab, saved):
    """the state of a finished epoch starts the next one"""
    loader = lab.loader(shuffle=True)
    list(loader)
    state = saved(loader.state_dict())
    resumed = lab.loader(shuffle=True)
    resumed.load_state_dict(state)
    _same(list(resumed), list(loader))


def test_state_counts_delivered_not_prefetched(lab):
    """the state counts what was delivered, not what was prefetched"""
    loader = lab.loader(batch_size=2, shuffle=True)
    for number, _ in enumerate(loader, start=1):
        assert loader.state_dict()["delivered"] == number


KILLED = """
    import os, signal
    ours = loader(4, shuffle=True)
    for number, (images, labels) in enumerate(ours):
        torch.save(ours.state_dict(), sys.argv[2] + ".new")
        os.replace(sys.argv[2] + ".new", sys.argv[2])
        print(labels.tolist(), flush=True)
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_kill_nine_and_resume(lab, tmp_path):
    """kill -9 in mid-epoch, then the next sample on every backend"""
    path = tmp_path / "state.pt"
    killed = lab.run(KILLED, str(path))
    assert killed.returncode == -9, killed.stderr
    seen = [int(i) for line in killed.stdout.splitlines() for i in line.strip("[]").split(",")]
    for name in registry.BACKENDS:
        claims = registry.load(name).capabilities
        if lab.storage not in claims.storage:
            continue
        resumed = lab.loader(shuffle=True, batch_size=4, backend=name, numerics=claims.numerics[0])
        resumed.load_state_dict(torch.load(path, weights_only=True))
        rest = [i for _, labels in resumed for i in labels.tolist()]
        assert seen + rest == lab.order()

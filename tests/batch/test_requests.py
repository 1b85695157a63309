"""The stream of requests: keys, repeats, replay without decoding, and asking again."""

import itertools
import threading

import numpy as np
import pytest

from fastpipe.batch import Ahead, Drawer, RequestStream


def _drawer(batches, **options):
    defaults = dict(seed=1, epoch=2, resolution=lambda epoch, batch: None)
    return Drawer(batches, **{**defaults, **options})


def _stream(batches, **options):
    return RequestStream(_drawer(batches, **options))


def test_a_request_carries_all_that_a_draw_depends_on():
    requests = list(_stream([[3, 1], [2]], resolution=lambda epoch, batch: 100 * epoch + batch))
    assert [(r.seed, r.epoch, r.batch, r.ids.tolist(), r.size) for r in requests] == [
        (1, 2, 0, [3, 1], 200),
        (1, 2, 1, [2], 201),
    ]


def test_repeats_count_occurrences_within_the_order():
    requests = list(_stream([[5, 5], [6, 5], [6]]))
    assert [r.repeats.tolist() for r in requests] == [[0, 1], [0, 2], [1]]


def test_known_repeats_are_cut_to_the_batches():
    requests = list(_stream([[0, 1], [2]], repeats=np.array([0, 0, 4])))
    assert [r.repeats.tolist() for r in requests] == [[0, 0], [4]]


def test_skipped_batches_are_drawn_but_not_sent():
    requests = list(_stream([[7], [7], [7], [8]], skip=2))
    assert [(r.batch, r.ids.tolist(), r.repeats.tolist()) for r in requests] == [(2, [7], [2]), (3, [8], [0])]


def test_rewind_sends_what_was_not_delivered_again_at_the_new_size():
    size = [64]
    drawer = _drawer([[0], [1], [2], [3]], resolution=lambda epoch, batch: size[0])
    stream = RequestStream(drawer)
    sent = [next(stream) for _ in range(3)]
    drawer.delivered(0)
    size[0] = 96
    stream.refill(drawer.pending())
    again = list(stream)
    assert [r.batch for r in sent] == [0, 1, 2]
    assert [(r.batch, r.size) for r in again] == [(1, 96), (2, 96), (3, 96)]
    drawer.delivered(1)
    stream.refill(drawer.pending())
    assert [r.batch for r in stream] == [2, 3]


def test_ahead_keeps_order_and_raises_the_sources_error_in_the_consumer():
    def source():
        yield from range(5)
        raise KeyError("the fifth")

    ahead = Ahead(source(), depth=1)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError, match="the fifth"):
        next(ahead)


def test_ahead_runs_no_further_ahead_than_asked_and_stops_when_closed():
    taken, leads, full = 0, [], threading.Event()

    def source():
        for number in itertools.count():
            leads.append(number - taken)  # how many wait when this one is asked for
            if leads[-1] == 2:
                full.set()
            yield number

    ahead = Ahead(source(), depth=2)
    for number in range(50):
        assert full.wait(30)
        full.clear()
        taken += 1  # before it is taken: the next may be asked for as soon as it is
        assert next(ahead) == number
    assert max(leads) == 2  # two in the queue; this one waits in the thread's hand
    thread = ahead._thread
    ahead.close()
    assert not thread.is_alive()


def test_ahead_is_collected_with_its_consumer():
    ahead = Ahead(iter(range(1000)), depth=1)
    next(ahead)
    thread = ahead._thread
    del ahead
    thread.join(5)
    assert not thread.is_alive()

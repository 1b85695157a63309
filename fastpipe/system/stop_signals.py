"""Signals that ask a program to stop, handled by a separate thread.

Every other thread has them blocked, and the processes it starts inherit that: data workers, compilers, ranks.
So a signal to a whole process group ends nothing before the program has saved its state. The thread receives
signals at any moment, even while the main thread is in a C call, so a second signal can end the program at
once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import parent_process, resource_tracker
from types import FrameType

__all__ = ["asked", "before_the_end", "end_at_once", "exit_status", "listening", "note_only", "stop_early"]

# `timeout` sends its signal to the program and then to the group, a scheduler to the launcher and the ranks,
# and the launcher passes it on: within this time the two count as one.
_SAME_S = 1.0
_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h
_LAST_S = 5.0  # time for workers to stop at the end of the program, and for last words to a server


def exit_status(number: int) -> int:
    """The status of a program that a signal stopped: 128 + n, or 75 for SIGUSR1, which means start again."""
    return _REQUEUE if number == signal.SIGUSR1 else 128 + number


_last_acts: list[Callable[[], None]] = []


@contextlib.contextmanager
def before_the_end(act: Callable[[], None]) -> Iterator[None]:
    """If a signal ends the program at once inside the block, `act` runs before, for 5 s at most."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def _act_for_the_last_time() -> None:
    # In threads: the main one may be in the middle of anything, and a server may never answer.
    threads = [threading.Thread(target=_quietly, args=(act,), daemon=True) for act in _last_acts]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _LAST_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _quietly(act: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        act()


def end_at_once(number: int) -> None:
    """Kill the processes started from here, and end this one without further output."""
    try:
        _act_for_the_last_time()
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    finally:
        os._exit(exit_status(number))


def stop_early(number: int) -> None:
    """Exit while there is nothing yet to save."""
    os.write(2, _line(f"stopped by {_name(number)}"))
    end_at_once(number)


def note_only(number: int) -> None:
    """Leave it to the program, which calls `asked()` at points where it can stop."""


def _name(number: int) -> str:
    return signal.Signals(number).name


def _line(text: str) -> bytes:
    return f"fastpipe-train: {text}\n".encode()


class _Listener:
    """The thread, the signals it has received, and its response to them."""

    def __init__(self, respond: Callable[[int], None], *, command: bool) -> None:
        self.respond, self.command = respond, command
        self.number = 0
        self._heard_at: dict[int, float] = {}
        self._closed = self._interrupt = False
        _prepare()
        # nohup ignores SIGHUP intentionally.
        hangup = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        self.signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *((signal.SIGHUP,) * hangup))
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        # For a signal that reaches a thread with it unblocked: an older thread, or a library's.
        self._handlers = {number: signal.signal(number, self._delivered) for number in self.signals}
        self._thread = threading.Thread(target=self._take, name="stop-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Restore the signals' handlers; pending signals are dropped."""
        self._closed = True
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, signal.SIGUSR1)
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _take(self) -> None:
        while True:
            number = signal.sigwait(self.signals)
            if self._closed:
                return
            self._note(number)

    def _delivered(self, number: int, frame: FrameType | None) -> None:
        if self._interrupt:
            raise KeyboardInterrupt
        if not self._closed:
            self._note(number)

    def _note(self, number: int) -> None:
        now = time.monotonic()
        if number not in self._heard_at:
            self._heard_at[number] = now
            self.number = max(self.number, number)
            self.respond(number)
        elif now - self._heard_at[number] > _SAME_S and number != signal.SIGUSR1:
            self._again(number)

    def _again(self, number: int) -> None:
        if number == signal.SIGINT and not self.command:  # a notebook continues
            self._interrupt = True
            interrupt_main(signal.SIGINT)
            return
        os.write(2, _line(f"ended at once by a second {_name(number)}; the last checkpoint is complete"))
        end_at_once(number)

    def poll(self) -> None:
        """Take signals sent only to the main thread, as by `signal.raise_signal`; block all again."""
        if threading.current_thread() is threading.main_thread():
            if pending := signal.sigpending() & set(self.signals):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, pending)
            signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)


_active: _Listener | None = None


@functools.cache
def _prepare() -> None:
    """Call it once in a program, before the signals are blocked."""
    atexit.register(_end_workers)
    if multiprocessing.get_all_start_methods()[0] != "fork":  # the first one is the default
        # The thread that starts multiprocessing's tracker has SIGTERM and SIGINT unblocked afterwards.
        resource_tracker.ensure_running()


def _end_workers() -> None:
    """Kill workers that a SIGTERM from here does not end; multiprocessing would wait for them forever.

    Such a worker hangs, or was sent another SIGTERM before and sees only that one.
    """
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + _LAST_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()


def obey_parent_alone(signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    """In a process started with `signals` blocked: only SIGTERM from its parent ends it.

    So `Process.terminate` still works. Without sigwaitinfo, which names the sender (macOS), the signals get
    their usual handlers back.
    """
    if not hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        return
    threading.Thread(target=_obey, args=(signals,), name="stop-signals", daemon=True).start()


def _obey(signals: Iterable[int]) -> None:
    while True:
        heard = signal.sigwaitinfo(signals)
        parent = parent_process()  # multiprocessing's parent: a server may have started this process
        if heard.si_signo == signal.SIGTERM and heard.si_pid in (os.getppid(), parent and parent.pid):
            os._exit(0)


def _forked() -> None:
    global _active
    if _active is not None:
        signals, _active = _active.signals, None  # its thread stayed with the parent
        _last_acts.clear()
        obey_parent_alone(signals)


os.register_at_fork(after_in_child=_forked)


def listen_from_now_on(respond: Callable[[int], None]) -> None:
    """Do what `listening(command=True)` does, until the program ends."""
    global _active
    if _active is None and threading.current_thread() is threading.main_thread():
        _active = _Listener(respond, command=True)


@contextlib.contextmanager
def listening(respond: Callable[[int], None], *, command: bool = False) -> Iterator[None]:
    """Inside the block the first signal of a kind calls `respond(number)`, and a second ends the program.

    A second SIGUSR1 does not, and a second SIGINT raises KeyboardInterrupt unless this is a `command`. In a
    nested block only `respond` is new, and after it signals are only recorded. Outside the main thread Python
    allows no handlers, so signals keep their meaning.
    """
    global _active
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _active is not None:
        _active.respond = respond
        try:
            yield
        finally:
            _active.respond = note_only
        return
    _active = _Listener(respond, command=command)
    try:
        yield
    finally:
        _active.close()
        _active = None


def asked() -> int:
    """The number of the signal that asks to stop, the largest of several; 0 for none."""
    if _active is None:
        return 0
    _active.poll()
    return _active.number

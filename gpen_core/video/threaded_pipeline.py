"""Work in stages, each in a thread of its own, a few items ahead of the next."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import Interrupted
from ..progress import StageTimer

Item = TypeVar("Item")

BEAT = 0.1  # seconds after which whoever waits looks whether it is over: Windows' locks cannot be interrupted


@dataclass(frozen=True, eq=False)
class _Given(Generic[Item]):
    """What goes from thread to thread: an item, or how it ended."""

    items: tuple[Item, ...] = ()
    error: BaseException | None = None


class Stages:
    """Threads that make items ahead of whoever takes them. As a context it ends them all, whatever happens.

    What a stage raises is raised where its items are taken. `check` raises `Interrupted` in a stage that works on while
    the others have ended. Where the thread that made this waits for an item, it calls `pulse` every tenth of a second, which
    may end it all by raising."""

    def __init__(self, pulse: Callable[[], None] | None = None) -> None:
        self._pulse, self._home = pulse, threading.get_ident()
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        if self._is_over.is_set():
            raise Interrupted("The work has ended.")

    def ahead(self, items: Iterable[Item], depth: int) -> Iterator[Item]:
        """The same items, made in a thread, at most `depth` of them before they are taken."""
        waiting: queue.Queue[_Given[Item]] = queue.Queue(depth)
        thread = threading.Thread(target=self._make, args=(items, waiting), name="gpen-video", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._take(waiting)

    def _make(self, items: Iterable[Item], waiting: queue.Queue[_Given[Item]]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                self._put(waiting, _Given((item,)))
        except BaseException as raised:
            error = raised
        finally:
            if isinstance(items, Generator):
                items.close()
        with contextlib.suppress(Interrupted):
            self._put(waiting, _Given((), error))

    def _put(self, waiting: queue.Queue[_Given[Item]], given: _Given[Item]) -> None:
        while True:
            self.check()
            with contextlib.suppress(queue.Full):
                waiting.put(given, timeout=BEAT)
                return

    def _take(self, waiting: queue.Queue[_Given[Item]]) -> Iterator[Item]:
        while True:
            self.check()
            if self._pulse is not None and waiting.empty() and threading.get_ident() == self._home:
                self._pulse()
            with contextlib.suppress(queue.Empty):
                given = waiting.get(timeout=BEAT)
                if given.error is not None:
                    raise given.error
                if not given.items:
                    return
                yield given.items[0]
                del given  # else its pixels stay until the next


def timed(items: Iterable[Item], watch: StageTimer, stage: str) -> Iterator[Item]:
    """The same items; the time that each took to come is the stage's."""
    source = iter(items)
    while True:
        start = time.perf_counter()
        try:
            item = next(source)
        except StopIteration:
            return
        finally:
            watch.seconds[stage] = watch.seconds.get(stage, 0.0) + time.perf_counter() - start
        yield item
        del item

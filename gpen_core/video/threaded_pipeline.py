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

POLL_SECONDS = 0.1  # seconds after which whoever waits looks whether it is over: Windows' locks cannot be interrupted


@dataclass(frozen=True, eq=False)
class _QueueItem(Generic[Item]):
    """What goes from thread to thread: an item, or how it ended."""

    items: tuple[Item, ...] = ()
    error: BaseException | None = None


class ThreadedPipeline:
    """Threads that make items ahead of whoever takes them. As a context it ends them all, whatever happens.

    What a stage raises is raised where its items are taken. `raise_if_stopped` raises `Interrupted` in a stage that works on
    while the others have ended. Where the thread that made this waits for an item, it calls `on_tick` every tenth of a
    second, which may end it all by raising."""

    def __init__(self, on_tick: Callable[[], None] | None = None) -> None:
        self._on_tick, self._owner_thread = on_tick, threading.get_ident()
        self._stop_event = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ThreadedPipeline:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop_event.set()
        for thread in self._threads:
            thread.join()

    def raise_if_stopped(self) -> None:
        if self._stop_event.is_set():
            raise Interrupted("The work has ended.")

    def prefetch(self, items: Iterable[Item], depth: int) -> Iterator[Item]:
        """The same items, made in a thread, at most `depth` of them before they are taken."""
        item_queue: queue.Queue[_QueueItem[Item]] = queue.Queue(depth)
        thread = threading.Thread(target=self._produce, args=(items, item_queue), name="gpen-video", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._consume(item_queue)

    def _produce(self, items: Iterable[Item], item_queue: queue.Queue[_QueueItem[Item]]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                self._put(item_queue, _QueueItem((item,)))
        except BaseException as raised:
            error = raised
        finally:
            if isinstance(items, Generator):
                items.close()
        with contextlib.suppress(Interrupted):
            self._put(item_queue, _QueueItem((), error))

    def _put(self, item_queue: queue.Queue[_QueueItem[Item]], entry: _QueueItem[Item]) -> None:
        while True:
            self.raise_if_stopped()
            with contextlib.suppress(queue.Full):
                item_queue.put(entry, timeout=POLL_SECONDS)
                return

    def _consume(self, item_queue: queue.Queue[_QueueItem[Item]]) -> Iterator[Item]:
        while True:
            self.raise_if_stopped()
            if self._on_tick is not None and item_queue.empty() and threading.get_ident() == self._owner_thread:
                self._on_tick()
            with contextlib.suppress(queue.Empty):
                entry = item_queue.get(timeout=POLL_SECONDS)
                if entry.error is not None:
                    raise entry.error
                if not entry.items:
                    return
                yield entry.items[0]
                del entry  # else its pixels stay until the next


def timed(items: Iterable[Item], timer: StageTimer, stage: str) -> Iterator[Item]:
    """The same items; the time that each took to come is the stage's."""
    source = iter(items)
    while True:
        start = time.perf_counter()
        try:
            item = next(source)
        except StopIteration:
            return
        finally:
            timer.seconds[stage] = timer.seconds.get(stage, 0.0) + time.perf_counter() - start
        yield item
        del item

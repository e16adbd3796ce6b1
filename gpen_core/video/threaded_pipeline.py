"""Runs work in stages. Each stage has its own thread and works a few items ahead of the next."""

from __future__ import annotations

import atexit
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

POLL_SECONDS = 0.1  # between checks whether the pipeline was stopped, because Windows' locks cannot be interrupted


@dataclass(frozen=True, eq=False)
class _QueueItem(Generic[Item]):
    """An entry of a queue between threads: an item, the end, or an error."""

    items: tuple[Item, ...] = ()
    error: BaseException | None = None


class ThreadedPipeline:
    """Threads that produce items ahead of their consumers. Use it as a context manager, which ends all threads. They also
    end before the interpreter does, because a thread in C++ code would then abort the process.

    An exception of a stage is raised again where its items are consumed. `raise_if_stopped` raises `Interrupted` in a stage
    that still runs after the pipeline ended. While the thread that created the pipeline waits for an item, `on_tick` is
    called every tenth of a second. It may raise to end the pipeline."""

    def __init__(self, on_tick: Callable[[], None] | None = None) -> None:
        self._on_tick, self._owner_thread = on_tick, threading.get_ident()
        self._stop_event = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ThreadedPipeline:
        atexit.register(self._stop)  # for a generator that is neither consumed nor closed
        return self

    def __exit__(self, *raised: object) -> None:
        atexit.unregister(self._stop)
        self._stop()

    def _stop(self) -> None:
        self._stop_event.set()
        for thread in self._threads:
            thread.join()

    def raise_if_stopped(self) -> None:
        if self._stop_event.is_set():
            raise Interrupted("The pipeline was stopped.")

    def prefetch(self, items: Iterable[Item], depth: int) -> Iterator[Item]:
        """Produce the items in a thread, up to `depth` of them ahead, and return an iterator of them."""
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
                del entry  # so that its pixels are freed before the next item


def timed(items: Iterable[Item], timer: StageTimer, stage: str) -> Iterator[Item]:
    """Yield the items, and add the time to produce each to the stage."""
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

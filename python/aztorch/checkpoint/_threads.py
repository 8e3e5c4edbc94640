"""Tasks in threads, with a limit on the memory that their results take."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Callable, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_T = TypeVar("_T")
UNLIMITED = 2**63


def run(
    tasks: Sequence[tuple[int, Callable[[], _T]]],
    *,
    thread_count: int,
    limit: int = UNLIMITED,
    cancel: Callable[[], None] = lambda: None,
) -> Generator[_T, None, None]:
    """Run tasks in threads, and yield each result on the caller's thread as soon as it is there, in any order.

    A result counts until the caller asks for the next one. A task starts when the sizes of all tasks that run and of
    all results that wait are below `limit` together, or when there are none. So one task may be larger than the limit.

    At the end all threads have ended. The first exception of a task is raised. Then, and if the caller stops early, no
    further task starts, and `cancel` is called to end the running ones.

    :param tasks: each with the size in bytes of its result.
    """
    # Plain threads: an executor refuses tasks while Python ends, and asynchronous saves finish just then.
    pending = list(reversed(tasks))
    changed = threading.Condition()
    results: queue.SimpleQueue[tuple[int, list[_T], BaseException | None]] = queue.SimpleQueue()
    in_use = 0
    stopped = False

    def may_go_on() -> bool:
        return stopped or not pending or in_use == 0 or in_use + pending[-1][0] <= limit

    def work() -> None:
        nonlocal in_use
        while True:
            with changed:
                changed.wait_for(may_go_on)
                if stopped or not pending:
                    return
                size, task = pending.pop()
                in_use += size
                # The others may have nothing left to wait for.
                changed.notify_all()
            try:
                results.put((size, [task()], None))
            except BaseException as error:  # noqa: BLE001 # it is raised by the caller's thread
                results.put((0, [], error))
                return
            del task

    threads = [threading.Thread(target=work, name="aztorch-checkpoint") for _ in range(min(thread_count, len(tasks)))]
    finished = False
    try:
        for thread in threads:
            thread.start()
        for _ in range(len(tasks)):
            size, result, failure = results.get()
            if failure is not None:
                raise failure
            # Popped, so that only the caller refers to it.
            yield result.pop()
            with changed:
                in_use -= size
                changed.notify_all()
        finished = True
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        if not finished:
            cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

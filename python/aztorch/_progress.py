"""Progress of reads and writes, for a function or for a bar of tqdm."""

from __future__ import annotations

from typing import Any, Callable

from aztorch._library import UNKNOWN_SIZE, check, ffi, lib, note_exception


class ProgressReport:
    """Passes the library's progress to a function, or to a bar of tqdm."""

    def __init__(self, report: bool | Callable[[int, int | None], object]) -> None:
        if report is not True and not callable(report):
            raise TypeError(f"progress must be True or a function, not: {type(report)}")
        self._report = None if report is True else report
        self._bar: Any = None
        self._callback: Any = None

    def attach(self, handle: Any, name: str) -> None:
        if self._report is None:
            self._bar = _new_bar(name)
            if self._bar is None:
                return
        if self._callback is None:
            self._callback = ffi.callback("azt_progress_callback", self._on_progress, onerror=note_exception)
        check(lib.azt_blob_set_progress, handle, self._callback, ffi.NULL, ffi.NULL)

    def _on_progress(self, _user_data: Any, done: int, total: int) -> None:
        known = None if total == UNKNOWN_SIZE else total
        if self._report is not None:
            self._report(done, known)
        elif self._bar is not None:
            self._bar.total = known
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _new_bar(name: str) -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=name.rpartition("/")[2])

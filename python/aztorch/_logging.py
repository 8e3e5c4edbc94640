"""The library's log as messages of the module `logging`: loggers ``aztorch`` and, for each part, ``aztorch.PART``."""

from __future__ import annotations

import atexit
import logging
from typing import Any

from aztorch._library import check, ffi, lib, text

logger = logging.getLogger("aztorch")

_LEVELS = {
    lib.AZT_LOG_LEVEL_ERROR: logging.ERROR,
    lib.AZT_LOG_LEVEL_WARN: logging.WARNING,
    lib.AZT_LOG_LEVEL_INFO: logging.INFO,
    lib.AZT_LOG_LEVEL_DEBUG: logging.DEBUG,
    lib.AZT_LOG_LEVEL_TRACE: logging.DEBUG - 5,
}
_current: int = lib.AZT_LOG_LEVEL_OFF
_stopped = False


def _on_message(_user_data: Any, level: int, target: Any, message: Any) -> None:
    part = text(target)
    name = f"aztorch.{part.rpartition('::')[2]}" if part else "aztorch"
    logging.getLogger(name).log(_LEVELS.get(level, logging.DEBUG), "%s", text(message))


_CALLBACK = ffi.callback("azt_log_callback", _on_message)


def follow() -> None:
    """Ask the library for the messages that the logger ``aztorch`` wants now.

    Called whenever a client is used, so that a level that is set later counts from the next blob or dataset on.
    """
    global _current
    effective = logger.getEffectiveLevel()
    wanted = max((level for level, of_python in _LEVELS.items() if of_python >= effective), default=0)
    if wanted == _current or _stopped:
        return
    if _current == lib.AZT_LOG_LEVEL_OFF:
        atexit.unregister(stop)
        atexit.register(stop)
    check(lib.azt_log_set_callback, wanted, _CALLBACK if wanted else ffi.NULL, ffi.NULL, ffi.NULL)
    _current = wanted


def stop() -> None:
    """End the messages, and wait for those that are being delivered."""
    global _stopped
    _stopped = True
    check(lib.azt_log_set_callback, lib.AZT_LOG_LEVEL_OFF, ffi.NULL, ffi.NULL, ffi.NULL)

"""The checkpoints of a run: which is the newest, and which can be deleted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aztorch.checkpoint._folder import Folder
from aztorch.checkpoint._format import DATA_FILE, METADATA, RANK_METADATA

if TYPE_CHECKING:
    from aztorch._client import Credential

_NUMBER = re.compile(r"[0-9]+")
_LAST_NUMBER = re.compile(r"([^0-9]*)([0-9]+)")


def latest(url: str, *, credential: Credential = None) -> str | None:
    """Return the URL of the newest complete checkpoint of a run.

    :param url: the URL of the run, the folder that has the checkpoints as folders: ``…/run`` has ``…/run/step-100`` and
        ``…/run/step-200``. The one with the highest number at the end of its name is the newest. If a name has several
        numbers, as ``2026-11-30`` or ``epoch=1-step=100``, the first that differs decides. Names that do not end in a
        number, such as ``best``, are ignored; if there are only such names, the last in alphabetical order is the
        newest.
    :param credential: as for :class:`aztorch.BlobIO`.
    :returns: the URL, with the query of `url`, or None if there is no complete checkpoint.
    :raises ValueError: for a bad URL.
    :raises aztorch.exceptions.StorageError: if the folder cannot be listed. A SAS needs the permission to list.
    """
    run = Folder(url, credential)
    complete = [found for found in _checkpoints(run) if found.complete]
    return run.child(complete[-1].name).full_url if complete else None


def keep_last(url: str, n: int, *, incomplete: bool = False, credential: Credential = None) -> int:
    """Delete all but the newest `n` complete checkpoints of a run. One rank calls it, and not while one is loaded.

    Of each one, ``.metadata`` is deleted first, so if this is interrupted, none is there in part. Only folders whose
    names differ from the newest one's in their numbers are deleted: beside ``step-10``, ``best-5`` stays. Folders that
    have no data files of a checkpoint stay, too.

    :param url: the URL of the run, as for :func:`latest`, which also says what is newer.
    :param n: how many to keep, at least 1.
    :param incomplete: whether to delete incomplete ones too, which killed saves left, if they are older than all that
        are kept. Only while nothing is saved: a save that was resumed from an earlier step would lose its files.
    :param credential: as for :class:`aztorch.BlobIO`.
    :returns: how many checkpoints were deleted.
    :raises ValueError: if `n` is less than 1, and for a bad URL.
    :raises aztorch.exceptions.StorageError: if the folder cannot be listed, or a file cannot be deleted. A later call
        goes on, with `incomplete`.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not: {n}")
    run = Folder(url, credential)
    found = _checkpoints(run)
    newest = next((checkpoint for checkpoint in reversed(found) if checkpoint.complete), None)
    if newest is None:
        return 0
    found = [checkpoint for checkpoint in found if checkpoint.text == newest.text]
    kept = [index for index, checkpoint in enumerate(found) if checkpoint.complete][-n:]
    obsolete = [checkpoint for checkpoint in found[: kept[0]] if checkpoint.complete or incomplete]
    for checkpoint in obsolete:
        folder = run.child(checkpoint.name)
        if checkpoint.complete:
            folder.delete(METADATA)
        folder.delete_all(name for name in checkpoint.files if name != METADATA)
    return len(obsolete)


class _Checkpoint:
    """A folder of a run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.files: list[str] = []

    @property
    def complete(self) -> bool:
        return METADATA in self.files

    @property
    def text(self) -> str:
        """The name without its numbers."""
        return _NUMBER.sub("#", self.name)

    @property
    def has_number(self) -> bool:
        """Whether the name ends in a number."""
        return self.name[-1] in "0123456789"

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is one: complete, or what a killed save left. What was saved without collectives is left alone."""
        if any(RANK_METADATA.fullmatch(name) for name in self.files):
            return False
        return self.complete or any(DATA_FILE.fullmatch(name) for name in self.files)


def _checkpoints(run: Folder) -> list[_Checkpoint]:
    """Return the checkpoints of a run, complete and incomplete, the newest last."""
    folders: dict[str, _Checkpoint] = {}
    for path in run.names():
        name, slash, file = path.partition("/")
        if slash and name:
            folders.setdefault(name, _Checkpoint(name)).files.append(file)
    found = [folder for folder in folders.values() if folder.is_checkpoint]
    numbered = any(folder.complete and folder.has_number for folder in found)
    found = [folder for folder in found if folder.has_number == numbered]
    if all(_LAST_NUMBER.fullmatch(folder.name) for folder in found):
        return sorted(found, key=lambda folder: (int(_NUMBER.findall(folder.name)[0]), folder.name))
    return sorted(found, key=lambda folder: _natural(folder.name))


def _natural(name: str) -> tuple[Any, ...]:
    """Return a sort key that compares the numbers in names as numbers."""
    texts = _NUMBER.split(name)
    numbers = [int(number) for number in _NUMBER.findall(name)]
    return (*(part for pair in zip(texts, numbers) for part in pair), texts[-1])

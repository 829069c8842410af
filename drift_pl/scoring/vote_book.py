"""Votes of people on groups of images: what waits for a vote, what was said, and the scores that follow."""

import errno
import hashlib
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line

Mode = Literal["ranking", "clicks"]
BEGINNING = b'{"group": "'
"""Of each line of the file."""


@dataclass(frozen=True)
class Group:
    """Images of one prompt that are voted on together.

    Attributes:
        prompt: as the model got it.
        images: PNG files.
    """

    prompt: str
    images: tuple[bytes, ...]

    @property
    def key(self) -> str:
        """A digest of prompt and images: a run that is resumed draws the same ones, and finds its votes."""
        digest = hashlib.sha256(self.prompt.encode())
        for image in self.images:
            digest.update(hashlib.sha256(image).digest())
        return digest.hexdigest()[:32]


class VoteBook:
    """Keeps every vote in a file as soon as it is given. Used by several threads.

    Args:
        path: of the votes, in JSON lines; made if there is none, and read if there is one. Votes of the other mode stay
            in it and do not count.
        mode: `ranking`: an order from the best on, of all images or of some; `clicks`: a choice of images.
        voters: how many people must have voted on a group, at least 1.

    Raises:
        UserError: the file cannot be read or written, a line of it is no vote, or nobody is to vote.
    """

    def __init__(self, path: Path, mode: Mode = "ranking", voters: int = 1) -> None:
        if voters < 1:
            raise UserError(f"voters={voters}: somebody must vote on each group; give 1 or more")
        self.path, self.mode, self.voters = path, mode, voters
        self._orders: dict[str, dict[str, list[int]]] = {}
        self._open: dict[str, Group] = {}
        self._waiters: Counter[str] = Counter()  # by key; requests for the same images may overlap
        self._changed = threading.Condition()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                content = file.read()
        except OSError as error:
            raise UserError(
                f"votes={path}: it cannot be read and written ({first_line(error)}); give a file in a folder of yours, "
                "such as votes.jsonl"
            ) from error
        *lines, end = content.split(b"\n")  # at nothing else: U+2028 and the like stand in prompts
        for number, line in enumerate(lines, 1):
            self._recall(line, number)
        if end:
            self._mend_end(end, len(lines) + 1, len(content))

    def _mend_end(self, end: bytes, number: int, size: int) -> None:
        """A last line without a line end: a kill has cut it off, which removes it, or an editor has left it so.

        Raises:
            UserError: it is neither the beginning of a vote nor one.
        """
        try:
            json.loads(end)
        except (ValueError, RecursionError):
            if end.startswith(BEGINNING):
                with self.path.open("ab") as file:
                    file.truncate(size - len(end))
                return
        self._recall(end, number)
        with self.path.open("ab") as file:
            file.write(b"\n")

    def _recall(self, line: bytes, number: int) -> None:
        """Takes one line of the file in.

        Raises:
            UserError: it is no vote, of this mode or the other.
        """
        try:
            vote = json.loads(line)
            group, voter, order = vote["group"], vote["voter"], vote["order"]
            refuse_order(order, vote.get("images", math.inf))
            if vote.get("mode", self.mode) == self.mode:  # clicks have no order, and rankings name what nobody liked
                self._orders.setdefault(group, {})[voter] = order
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"votes={self.path}, line {number}: it is no vote; mend or remove it") from error

    def scores(self, groups: Sequence[Group], deadline: float) -> list[list[float]] | None:
        """Waits for the votes of groups, and gives a score in [0, 1] to each image; None if they are not all there.

        Args:
            deadline: of `time.monotonic`.
        """
        with self._changed, self._opened(groups) as keys:
            while not all(map(self._complete, keys)):
                if time.monotonic() >= deadline:
                    return None
                self._changed.wait(0.2)  # short: signals are only handled in between
            counts = [len(group.images) for group in groups]
            return [
                mean_scores(self._orders[key].values(), count, self.mode)
                for key, count in zip(keys, counts, strict=True)
            ]

    @contextmanager
    def _opened(self, groups: Sequence[Group]) -> Iterator[list[str]]:
        """Shows groups to voters, and gives their keys; each is hidden again once the last of its requests is done."""
        keys = [group.key for group in groups]
        self._open.update(zip(keys, groups, strict=True))
        self._waiters.update(keys)
        try:
            yield keys
        finally:
            self._waiters.subtract(keys)
            for key in set(keys):
                if not self._waiters[key]:
                    del self._waiters[key]
                    self._open.pop(key, None)

    def waiting(self, voter: str) -> list[Group]:
        """Groups that this voter has not seen and that need votes, in the order in which they were asked."""
        with self._changed:
            return [
                group
                for key, group in self._open.items()
                if not self._complete(key) and voter not in self._orders.get(key, {})
            ]

    def image(self, key: str, index: int) -> bytes | None:
        with self._changed:
            group = self._open.get(key)
            return group.images[index] if group and 0 <= index < len(group.images) else None

    def vote(self, key: str, voter: str, order: Sequence[int]) -> None:
        """Keeps a voter's order of a group's images, in place of an earlier one, and wakes who waits for votes.

        Raises:
            ValueError: nobody asks for this group, or the order is none of its images.
        """
        with self._changed:
            group = self._open.get(key)
            if group is None:
                raise ValueError("nobody waits for a vote on this group")
            refuse_order(order, len(group.images))
            if self.mode == "ranking" and not order:
                raise ValueError("a ranking names at least the best image")
            self._keep({"group": key, "voter": voter, "order": list(order), "images": len(group.images),
                        "mode": self.mode, "prompt": group.prompt, "time": time.time()})  # fmt: skip
            self._orders.setdefault(key, {})[voter] = list(order)
            self._changed.notify_all()

    def _keep(self, vote: Mapping[str, Any]) -> None:
        line = (json.dumps(vote, ensure_ascii=False) + "\n").encode()
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:  # the next vote is not to be joined to half of this one
                file.truncate(before)
                raise

    def _complete(self, key: str) -> bool:
        return len(self._orders.get(key, {})) >= self.voters


def refuse_order(order: Any, count: float) -> None:
    """Checks an order of images from a request or a file of votes.

    Raises:
        ValueError: it does not name some of `count` images by their numbers, each once.
    """
    known = isinstance(order, list | tuple) and all(type(index) is int and 0 <= index < count for index in order)
    if not known or len(set(order)) != len(order):
        raise ValueError(f"an order names images 0 to {count - 1}, each once")


def mean_scores(orders: Any, count: int, mode: Mode) -> list[float]:
    """Mean over voters, in [0, 1], of each of `count` images.

    A ranking counts as Borda has it: (count - 1 - place) / (count - 1); images that it leaves out share the mean of the
    places that are left. A click counts as 1.
    """
    totals, voters = [0.0] * count, 0
    for order in orders:
        voters += 1
        left = (count - len(order) - 1) / 2 / max(count - 1, 1) if mode == "ranking" else 0.0
        given = dict.fromkeys(range(count), max(left, 0.0))
        for place, index in enumerate(order):
            given[index] = (count - 1 - place) / max(count - 1, 1) if mode == "ranking" else 1.0
        totals = [total + given[index] for index, total in enumerate(totals)]
    return [total / voters for total in totals]

"""Votes of people on groups of images: what waits for a vote, what was said, and the scores that follow."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line

Mode = Literal["ranking", "clicks"]


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
        path: of the votes, in JSON lines; made if there is none, and read if there is one.
        mode: `ranking`: an order from the best on, of all images or of some; `clicks`: a choice of images.
        voters: how many people must have voted on a group.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path, mode: Mode = "ranking", voters: int = 1) -> None:
        self.path, self.mode, self.voters = path, mode, voters
        self._orders: dict[str, dict[str, list[int]]] = {}
        self._open: dict[str, Group] = {}
        self._changed = threading.Condition()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = _without_cut_end(path)
        except OSError as error:
            raise UserError(f"votes={path}: it cannot be read and written ({first_line(error)})") from error
        for number, line in enumerate(lines, 1):
            self._recall(line, number)

    def _recall(self, line: str, number: int) -> None:
        try:
            vote = json.loads(line)
            self._orders.setdefault(vote["group"], {})[vote["voter"]] = [int(index) for index in vote["order"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"votes={self.path}, line {number}: it is no vote; mend or remove it") from error

    def scores(self, groups: Sequence[Group], deadline: float) -> list[list[float]] | None:
        """Waits for the votes of groups, and gives a score in [0, 1] to each image; None if they are not all there.

        Args:
            deadline: of `time.monotonic`.
        """
        with self._changed:
            self._open.update({group.key: group for group in groups})
            try:
                while any(not self._complete(group.key) for group in groups):
                    if time.monotonic() >= deadline:
                        return None
                    self._changed.wait(0.2)  # short: signals are only handled in between
                return [mean_scores(self._orders[g.key].values(), len(g.images), self.mode) for g in groups]
            finally:
                for group in groups:
                    self._open.pop(group.key, None)

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
        """
        Raises:
            ValueError: nobody asks for this group, or the order is none of its images.
        """
        with self._changed:
            group = self._open.get(key)
            if group is None:
                raise ValueError("nobody waits for a vote on this group")
            if len(set(order)) != len(order) or not all(0 <= index < len(group.images) for index in order):
                raise ValueError(f"an order names images 0 to {len(group.images) - 1}, each once")
            if self.mode == "ranking" and not order:
                raise ValueError("a ranking names at least the best image")
            self._keep({"group": key, "voter": voter, "order": list(order), "images": len(group.images),
                        "mode": self.mode, "prompt": group.prompt, "time": time.time()})  # fmt: skip
            self._orders.setdefault(key, {})[voter] = list(order)
            self._changed.notify_all()

    def _keep(self, vote: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write((json.dumps(vote, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def _complete(self, key: str) -> bool:
        return len(self._orders.get(key, {})) >= self.voters


def _without_cut_end(path: Path) -> list[str]:
    """The lines of a file, which is made if there is none; what a kill left of the last one is removed."""
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        whole = content.rpartition(b"\n")[0]
        kept = len(whole) + 1 if whole else 0
        if kept < len(content):
            file.truncate(kept)
    return whole.decode("utf-8", errors="replace").splitlines()


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

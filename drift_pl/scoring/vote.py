"""People as the reward: a run shows each group of images on a local page and waits for votes."""

import sys
import threading
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path
from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.pixels import png, to_bytes
from drift_pl.scoring.vote_book import Group, VoteBook
from drift_pl.scoring.vote_server import VoteServer


class Vote:
    """Scores in [0, 1] by people: the mean over voters of an image's place in their rankings, or of their clicks.

    The run waits for votes; it can be stopped at any time, every vote is in a file already, and a resumed run, which
    draws the same images, does not ask again. Evaluations ask as well: keep evaluation.max_prompts small.

    Args:
        votes: the file of the votes, in JSON lines.
        mode: ranking (best first, all images or some) or clicks (every image that is liked).
        voters: how many people must have voted on each group.
        host: where the page listens; 0.0.0.0 lets other machines reach it.
        name: the name or address by which other machines reach this one; the page answers to no other.
        port: of the page; 0 takes a free one.
        deadline_s: seconds for the votes of one iteration.

    Raises:
        UserError: a setting cannot be used; when called, the votes are not all there in time.
    """

    groupwise = True

    def __init__(
        self,
        votes: str = "votes.jsonl",
        mode: str = "ranking",
        voters: Count = 1,
        host: str = "127.0.0.1",
        name: str | None = None,
        port: int = 0,
        deadline_s: Positive = 86400.0,
    ) -> None:
        if mode != "ranking" and mode != "clicks":
            raise UserError(f"rewards.args.mode={mode} must be ranking or clicks")
        if not 0 <= port < 65536:
            raise UserError(f"rewards.args.port={port} must lie in [0, 65535], such as 8002; 0 takes a free one")
        self._file, self._listen, self.deadline_s = local_path(votes), (host, port), deadline_s
        self._names = () if name is None else (name,)
        self._mode, self._voters = mode, voters
        self._server: VoteServer | None = None

    def __call__(self, images_PG3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        server = self._running()
        groups = [
            Group(prompt, tuple(map(png, to_bytes(images_G3HW).cpu())))
            for images_G3HW, prompt in zip(images_PG3HW, prompts, strict=True)
        ]
        waiting = "1 group waits" if len(groups) == 1 else f"{len(groups)} groups wait"
        print(f"{waiting} for votes at {server.address}", file=sys.stderr, flush=True)
        scores = server.book.scores(groups, time.monotonic() + self.deadline_s)
        if scores is None:
            raise UserError(
                f"rewards.args.deadline_s={self.deadline_s:g}: the votes on {len(groups)} groups were not all given "
                f"in time; those that were are in {self._file}: resume the run, with a larger deadline_s"
            )
        return torch.tensor(scores, dtype=torch.float32, device=images_PG3HW.device)

    def to(self, device: torch.device | str) -> "Vote":
        return self

    def _running(self) -> VoteServer:
        """The server, which begins with the first group.

        Raises:
            UserError: the port is taken, or the file cannot be used.
        """
        if self._server is None:
            host, port = self._listen
            book = VoteBook(self._file, self._mode, self._voters)  # type: ignore[arg-type]
            try:
                self._server = VoteServer(book, host, port, self._names)
            except OSError as error:
                raise UserError(
                    f"rewards.args.port={port}: the page cannot listen on {host} ({error.strerror}); use port: 0"
                ) from error
            threading.Thread(target=self._server.serve_forever, daemon=True, name="vote").start()
        return self._server

"""Encoded prompts: bounded in main memory, kept on disk by what encoded them.

Oracle: the policy's own encoding of each text by itself, bit for bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from drift_pl.core.types import Condition
from drift_pl.policies.protocol import Offloadable
from drift_pl.sampling.prompt_cache import PromptStore
from drift_pl.sampling.prompts import PromptEncoder


class Counting:
    """A policy whose encodings say which text they are of.

    Attributes:
        asked: the texts that were encoded, with their branch.
    """

    def __init__(self, lengths: bool = False) -> None:
        self.asked: list[tuple[str, bool]] = []
        self._lengths = lengths

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        self.asked += [(text, negative) for text in prompts]
        tokens = torch.stack([torch.full((3, 4), float(len(text)) + 100 * negative) for text in prompts])
        counts = torch.tensor([len(text) for text in prompts]) if self._lengths else None
        return Condition(tokens.bfloat16(), None if self._lengths else tokens[:, 0], torch.tensor([4, 4, 2]), counts)


def same(one: Condition, other: Condition) -> bool:
    ours, theirs = vars(one), vars(other)
    return all(
        ours[name] is theirs[name] if ours[name] is None else torch.equal(ours[name], theirs[name]) for name in ours
    )


ROW = Counting().encode(["a"]).nbytes
"""Bytes of one encoded text: 12 tokens of 2, 4 pooled of 4, 3 channels of 8."""


def test_what_was_used_longest_ago_is_encoded_again() -> None:
    """Room for two. Catches in sampling/prompts.py: a cache without a limit; the newest text dropped first."""
    policy = Counting()
    encode = PromptEncoder(policy, limit=2 * ROW)
    assert ROW == 12 * 2 + 4 * 4 + 3 * 8
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        assert same(encode([text]), Counting().encode([text]))
    assert [text for text, _ in policy.asked] == ["a", "bb", "ccc", "bb"]


def test_more_than_the_limit_can_be_asked_for_at_once() -> None:
    policy = Counting()
    encode = PromptEncoder(policy, limit=0)
    together = encode(["a", "bb", "a", "ccc"])
    assert together.tokens_BLE[:, 0, 0].tolist() == [1, 2, 1, 3]
    encode(["a"])
    assert [text for text, _ in policy.asked] == ["a", "bb", "ccc", "a"]


@pytest.mark.parametrize("lengths", [False, True])
def test_another_process_reads_what_was_encoded(tmp_path: Path, lengths: bool) -> None:
    """Catches in sampling/prompt_cache.py: negative prompts in the file of prompts; missing parts read as zeros."""
    first, second = Counting(lengths), Counting(lengths)
    texts = ["a", "ünïcode 图", "a" * 5000]
    for policy in (first, second):
        encode = PromptEncoder(policy, limit=0, store=PromptStore(tmp_path, "abc"))
        assert same(encode(texts), Counting(lengths).encode(texts))
        assert same(encode(["a"], negative=True), Counting(lengths).encode(["a"], negative=True))
    assert len(first.asked) == 4
    assert second.asked == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_text_encoders_come_for_unknown_texts_alone(tmp_path: Path) -> None:
    """Catches in sampling/prompts.py: they come to the accelerator for texts that are on the disk."""

    class Parked(Counting):
        text_device = torch.device("cpu")
        came = 0

        @contextmanager
        def encoding(self) -> Iterator[None]:
            self.came += 1
            yield

        def rest(self) -> "Parked":
            return self

    policy = Parked()
    assert isinstance(policy, Offloadable)
    PromptEncoder(policy, store=PromptStore(tmp_path, "abc"))(["a", "bb"])
    encode = PromptEncoder(policy, store=PromptStore(tmp_path, "abc"))
    encode(["bb", "a"])
    assert policy.came == 1
    assert same(encode(["a", "ccc", "bb"]), Counting().encode(["a", "ccc", "bb"]))
    assert (policy.came, [text for text, _ in policy.asked]) == (2, ["a", "bb", "ccc"])


def test_another_encoder_and_another_precision_share_nothing(tmp_path: Path) -> None:
    """Catches in sampling/prompts.py: the first caller's precision decides for all."""
    policy = Counting()
    PromptEncoder(policy, store=PromptStore(tmp_path, "abc"))(["a"])
    PromptEncoder(policy, store=PromptStore(tmp_path, "abd"))(["a"])
    encode = PromptEncoder(policy, store=PromptStore(tmp_path, "abc"))
    with torch.autocast("cpu", torch.bfloat16):
        encode(["a"])
    encode(["a"])
    assert len(policy.asked) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "other text", "noise"])
def test_a_damaged_file_is_written_again(tmp_path: Path, damage: str) -> None:
    """Catches in sampling/prompt_cache.py: a file is believed whatever text it is of."""
    store = PromptStore(tmp_path, "abc")
    PromptEncoder(Counting(), store=store)(["a"])
    (path,) = tmp_path.rglob("*.safetensors")
    content = path.read_bytes()
    if damage == "other text":
        PromptEncoder(Counting(), store=store)(["bb"])
        path.write_bytes(next(other for other in tmp_path.rglob("*.safetensors") if other != path).read_bytes())
    else:
        path.write_bytes({"cut": content[:-5], "empty": b"", "noise": bytes(200)}[damage])
    policy = Counting()
    for _ in range(2):
        encode = PromptEncoder(policy, limit=0, store=store)
        assert same(encode(["a"]), Counting().encode(["a"]))
    assert policy.asked == [("a", False)]
    assert len(path.read_bytes()) == len(content)


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    encode = PromptEncoder(Counting(), store=PromptStore(taken, "abc"))
    with pytest.warns(UserWarning, match="prompts.cache_dir=.*are not kept") as seen:
        encode(["a", "bb"])
    assert len(seen) == 1

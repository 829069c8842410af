"""Prompt files, the order of prompts, the cache of encoded texts."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from drift_pl.core.errors import UserError, naming
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.prompts import PromptEncoder, prompts_of_iteration, read_prompts


def test_a_file_holds_one_prompt_per_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    text = "# animals\na red cat\n\n  ünïcode 图  \n   # not a prompt\na dog # not a comment\n"
    path.write_text(text, encoding="utf-8")
    assert read_prompts(str(path)) == ("a red cat", "ünïcode 图", "a dog # not a comment")


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    """Catches in sampling/prompts.py: byte order mark kept in the first prompt."""
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfa red cat\r\na dog\r\n")
    assert read_prompts(str(path)) == ("a red cat", "a dog")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.txt", None, "no such file"),
        ("empty.txt", b"\n# only a comment\n", "holds no prompt"),
        ("binary.txt", b"a cat\n\xff\xfe", r"is not a UTF-8 text file \(byte 6 cannot be read\)"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with naming("prompts.test"), pytest.raises(UserError, match=rf"^prompts\.test={name}.*{says}"):
        read_prompts(name)


def test_a_folder_is_not_a_prompt_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; give a text file"):
        read_prompts(str(tmp_path))


@pytest.mark.parametrize(("num_prompts", "per_iteration"), [(10, 4), (6, 6), (3, 8), (7, 1)])
def test_every_prompt_is_seen_equally_often(num_prompts: int, per_iteration: int) -> None:
    """After a common multiple of both numbers each prompt was seen as often as any other, and never by more before.

    Catches in sampling/prompts.py: prompts drawn with replacement.
    """
    seen: Counter[int] = Counter()
    for iteration in range(num_prompts):
        seen.update(prompts_of_iteration(num_prompts, per_iteration, iteration, seed=3))
        counts = [seen[prompt] for prompt in range(num_prompts)]
        assert max(counts) - min(counts) <= 1
    assert set(counts) == {per_iteration}


def test_an_iterations_prompts_are_a_function_of_seed_and_iteration() -> None:
    """Catches in sampling/prompts.py: the same order of prompts in every round."""
    walk = [prompts_of_iteration(10, 4, iteration, seed=3) for iteration in range(6)]
    assert [prompts_of_iteration(10, 4, iteration, seed=3) for iteration in reversed(range(6))] == walk[::-1]
    assert [prompts_of_iteration(10, 4, iteration, seed=4) for iteration in range(6)] != walk
    joined = sum(walk[:5], [])
    assert sorted(joined[:10]) == sorted(joined[10:]) == list(range(10))  # two rounds, each a permutation
    assert joined[:10] != joined[10:]  # and not the same one


def test_each_text_is_encoded_once_and_in_the_order_asked_for(tiny_policy: StableDiffusion3Policy) -> None:
    """Catches in sampling/prompts.py: cached encodings in the order of arrival."""
    calls: list[tuple[list[str], bool]] = []

    class Watched:
        def encode(self, prompts: list[str], negative: bool = False) -> object:
            calls.append((list(prompts), negative))
            return tiny_policy.encode(prompts)

    encode = PromptEncoder(Watched())
    first = encode(["a cat", "sky", "a cat"])
    again = encode(["sky", "sea", "a cat"])
    encode(["sky"], negative=True)  # some families treat a negative prompt in another way
    assert calls == [(["a cat"], False), (["sky"], False), (["sea"], False), (["sky"], True)]
    for ours, texts in ((first, ["a cat", "sky", "a cat"]), (again, ["sky", "sea", "a cat"])):
        expected = [tiny_policy.encode([text]) for text in texts]
        assert torch.equal(ours.tokens_BLE, torch.cat([one.tokens_BLE for one in expected]))
        assert torch.equal(ours.pooled_BE, torch.cat([one.pooled_BE for one in expected]))
        assert torch.equal(ours.num_channels_L, expected[0].num_channels_L)

"""A CLIP tokenizer with its own vocabulary: one token for each word that a caption can contain."""

from __future__ import annotations

from transformers import CLIPTextConfig, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from drift_pl.builtin.captions import vocabulary

MAX_TOKENS = 16
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def _split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word under the given merges."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in ranks]
        if not pairs:
            return pieces
        best = min(pairs, key=ranks.__getitem__)
        position = next(i for i in range(len(pieces) - 1) if (pieces[i], pieces[i + 1]) == best)
        pieces[position : position + 2] = ["".join(best)]


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make each word one token.

    A word's merges come after those of earlier words, so later words never change how earlier ones are tokenized.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        while len(pieces := _split(word, ranks)) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
    return list(ranks)


def build_tokenizer(words: list[str] | None = None, length: int = MAX_TOKENS) -> CLIPTokenizer:
    """The tokenizer of every built-in text encoder of a world.

    The vocabulary starts with the byte alphabet, so that any text can be encoded: without it an unknown character
    becomes the end token, and CLIP pools at the first end token.

    Args:
        words: of the world's captions; None: those of the world of shapes.
        length: tokens of a text; longer ones are cut.
    """
    alphabet = list(bytes_to_unicode().values())
    merges = _merges(vocabulary() if words is None else words)
    symbols = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(pair) for pair in merges), BOS, EOS]
    table = {symbol: index for index, symbol in enumerate(dict.fromkeys(symbols))}
    return CLIPTokenizer(vocab=table, merges=merges, model_max_length=length)


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int, projection: int) -> CLIPTextConfig:
    """A CLIP text configuration with this tokenizer's special token ids (the defaults are CLIP's own)."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        projection_dim=projection,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )

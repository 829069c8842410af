"""Protocol 2's test prompts, `prompts/shapes.txt` and `emoji.txt`: `python benchmarks/fronts/prompts_of_worlds.py`.

64 prompts per world that no study has met. Shapes: the pairs of attributes that are in no shipped list, and triples.
Pictograms: the things and groups that are in the shipped test list only, in two other wordings, 56 in all: what the
world has beside them is trained on, and a style in the prompt would leave nothing open.
"""

import random
from itertools import combinations, product
from pathlib import Path

from drift_pl.builtin import captions
from drift_pl.builtin.emoji import PROMPTS as EMOJI_PROMPTS
from drift_pl.builtin.emoji.captions import OPENINGS
from drift_pl.builtin.world import ATTRIBUTES

FOLDER = Path(__file__).with_name("prompts")
COUNT, SEED = 64, 200


def shapes() -> list[str]:
    """Pairs first, then triples of attributes, each group in random order."""
    generator, lists = random.Random(SEED), captions.prompt_lists().values()
    met = {tuple(sorted(captions.parse(prompt).items())) for prompts in lists for prompt in prompts}
    chosen: list[str] = []
    for size in (2, 3):
        scenes = [
            dict(zip(names, values, strict=True))
            for names in combinations(ATTRIBUTES, size)
            for values in product(*(ATTRIBUTES[name] for name in names))
        ]
        scenes = [scene for scene in scenes if tuple(sorted(scene.items())) not in met]
        generator.shuffle(scenes)
        chosen += [captions.plain_caption(scene) for scene in scenes[: COUNT - len(chosen)]]
    return chosen


def emoji() -> list[str]:
    """The shipped test prompts, as pictures and as drawings."""
    prompts = (EMOJI_PROMPTS / "test.txt").read_text().splitlines()
    return [opening + prompt for opening in dict.fromkeys(OPENINGS) if opening for prompt in prompts]


if __name__ == "__main__":
    for name, prompts in {"shapes": shapes(), "emoji": emoji()}.items():
        (FOLDER / f"{name}.txt").write_text("\n".join(prompts) + "\n")

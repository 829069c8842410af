"""GenEval's rule on made-up detections; every answer is worked out by hand from the paper's section 3."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from drift_pl.scoring import geneval_server
from drift_pl.scoring.geneval import COLOURS, CONFIDENCE, Detection, judge, relations
from drift_pl.scoring.geneval_server import Examiner, examiner_of

LEFT, RIGHT, TOP, BOTTOM = (0, 40, 20, 60), (80, 40, 100, 60), (40, 0, 60, 20), (40, 80, 60, 100)


def dog(score: float = 0.8, box: tuple[float, float, float, float] = LEFT, colour: str | None = None) -> Detection:
    return Detection("dog", score, box, colour)


def cup(score: float = 0.8, box: tuple[float, float, float, float] = RIGHT, colour: str | None = None) -> Detection:
    return Detection("cup", score, box, colour)


def ask(label: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": label, "count": count, **more}


COUNTING = {"tag": "counting", "include": [ask("dog", 3)], "exclude": [ask("dog", 4)]}
COLOUR = {"include": [ask("dog", color="red")]}
TWO_COLOURS = {"include": [ask("dog", color="red"), ask("cup", color="blue")]}
PLACE = {"include": [ask("cup"), ask("dog", position=["left of", 0])]}


@pytest.mark.parametrize(
    ("detections", "wanted", "correct", "share"),
    [
        ([dog()], {"include": [ask("dog")]}, True, 1),
        ([], {"include": [ask("dog")]}, False, 0),
        ([dog(0.3)], {"include": [ask("dog")]}, False, 0),  # not above 0.3
        ([dog(), dog(0.7, RIGHT)], {"include": [ask("dog")]}, True, 0),  # one is enough for GenEval, 1 - 1 / 1 is not
        ([dog()], {"include": [ask("dog"), ask("cup")]}, False, 0.5),
        ([dog(0.95)] * 3, COUNTING, True, 1),
        ([dog(0.95)] * 4, COUNTING, False, 1 - 1 / 3),
        ([dog(0.95)] * 2 + [dog(0.85)], COUNTING, False, 2 / 3),  # a count takes confidence above 0.9
        ([dog(0.95)] * 9, COUNTING, False, 0),
        ([dog(0.95)] * 20, {"include": [ask("dog", 16)], "exclude": [ask("dog", 17)]}, True, 1),  # 16 are looked at
        ([dog(colour="red")], COLOUR, True, 1),
        ([dog(colour="blue")], COLOUR, False, 0.5),
        ([dog()], COLOUR, False, 0.5),  # nobody has looked at its colour
        ([dog(0.5, colour="red"), dog(0.9, colour="blue")], COLOUR, False, 0),  # the more confident one is blue
        ([dog(0.9, colour="red"), dog(0.5, colour="blue")], COLOUR, True, 0),  # the blue one is not looked at
        ([dog(colour="red"), cup(colour="red")], TWO_COLOURS, False, 0.75),
        ([dog(colour="red")] * 2, {"include": [ask("dog", 2, color="red")]}, True, 1),
        ([dog(colour="red"), dog(colour="blue")], {"include": [ask("dog", 2, color="red")]}, False, 0.75),
        ([dog(), cup()], PLACE, True, 1),
        ([dog(box=RIGHT), cup(box=LEFT)], PLACE, False, 2 / 3),
        ([dog()], PLACE, False, (0 + 1 + 0) / 3),  # no cup to be left of
        (
            [cup(box=TOP), cup(box=RIGHT), dog()],
            {"include": [ask("cup", 2), ask("dog", position=["left of", 0])]},
            True,  # 45 degrees below the first cup, so left of it as well
            1,
        ),
        (
            [cup(box=(0, 0, 20, 20)), cup(box=RIGHT), dog()],
            {"include": [ask("cup", 2), ask("dog", position=["left of", 0])]},
            False,  # of one cup, not of the one above
            (1 + 1 + 0.5) / 3,
        ),
    ],
)
def test_an_image_is_judged_by_hand(
    detections: list[Detection], wanted: dict[str, Any], correct: bool, share: float
) -> None:
    """Catches in scoring/geneval.py: one threshold for all tags; a threshold that counts; every object looked at for
    colour; colours of a group that is not there; one pair enough for a relation; nothing excluded; a count too high
    with credit; more than 16 objects."""
    verdict = judge(detections, wanted)
    assert verdict.correct is correct
    assert verdict.share == pytest.approx(share)
    assert bool(verdict.reasons) is not correct


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (LEFT, RIGHT, {"left of"}),
        (RIGHT, LEFT, {"right of"}),
        (TOP, BOTTOM, {"above"}),
        (BOTTOM, TOP, {"below"}),
        (LEFT, LEFT, set()),
        # centres 40 apart along both axes: 40 - 0.1 * 40 = 36 > 0.5 * 56.6
        ((0, 0, 20, 20), (40, 40, 60, 60), {"left of", "above"}),
        # 10 apart along x, less 0.1 * (60 + 60) = -2: boxes that overlap by much
        ((0, 0, 60, 60), (10, 0, 70, 60), set()),
        # 14 apart, less 12 = 2, which is not more than 0.5 * 14
        ((0, 0, 60, 60), (14, 0, 74, 60), set()),
        # 30 apart along x, 60 along y: 30 - 4 = 26 < 0.5 * 67.1, 56 > 33.5
        ((0, 0, 20, 20), (30, 60, 50, 80), {"above"}),
    ],
)
def test_relations_by_hand(one: Any, other: Any, expected: set[str]) -> None:
    """Catches in scoring/geneval.py: y upwards; overlap of one box only; the distance along the axis for the whole."""
    assert relations(dog(box=one), cup(box=other)) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"include": []},
        {"include": {"class": "dog", "count": 1}},
        {"include": [{"class": "dog"}]},
        {"include": [ask("dog", 0)]},
        {"include": [ask("dog", position=["left of", 0])]},
        {"include": [ask("cup"), ask("dog", position=["beside", 0])]},
        {"include": [ask("cup"), ask("dog", position="left of")]},
        {"include": [ask("dog")], "exclude": [3]},
    ],
)
def test_metadata_of_another_form_are_refused(wanted: dict[str, Any]) -> None:
    """Catches in scoring/geneval.py: a relation to a later group."""
    with pytest.raises(ValueError, match=r"(include|exclude)' is not a list like \[\{\"class\": \"dog\", \"count\": 1"):
        judge([dog()], wanted)


def test_the_examiner_asks_for_what_it_needs() -> None:
    """COCO's names become GenEval's; colours are named of crops of the classes that need one; no metadata, no score.

    Catches in scoring/geneval_server.py: images without metadata shown; another box cropped; COCO's names kept.
    """
    crops: list[tuple[tuple[int, int], str]] = []

    def detect(images: list[Image.Image], threshold: float) -> list[list[dict[str, Any]]]:
        assert threshold == 0.3
        box = {"xmin": 2.4, "ymin": -1.0, "xmax": 12.0, "ymax": 8.0}
        found = [{"label": "mouse", "score": 0.9, "box": box}, {"label": "cup", "score": 0.8, "box": box}]
        return [found for _ in images]

    def name_colour(crop: Image.Image, candidate_labels: list[str], hypothesis_template: str) -> list[dict[str, Any]]:
        crops.append((crop.size, hypothesis_template))
        assert len(candidate_labels) == 10
        return [{"label": "red", "score": 0.6}, {"label": "blue", "score": 0.4}]

    red_mouse = {"include": [ask("computer mouse", color="red"), ask("dog")]}
    images, prompts = [Image.new("RGB", (16, 16))] * 3, ["a", "b", "c"]
    asked = [red_mouse, None, {"include": [ask("cup")]}]
    assert Examiner(detect, name_colour)(images, prompts, asked) == [2 / 3, None, 1.0]
    assert crops == [((10, 8), "a photo of a {} computer mouse")]
    assert Examiner(detect, name_colour, strict=True)(images, prompts, asked) == [0, None, 1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A detector of two classes and a CLIP model, small and random, in the formats that the server is given."""
    root = tmp_path_factory.mktemp("geneval")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    names = {0: "dog", 1: "mouse"}
    config = YolosConfig(**small, image_size=[32, 32], patch_size=8, num_detection_tokens=4, id2label=names)
    YolosForObjectDetection(config).save_pretrained(root / "detector")
    YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(root / "detector")
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 77
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**small, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    clip = CLIPConfig(text_config=text, vision_config={**small, "patch_size": 8, "image_size": 32}, projection_dim=8)
    CLIPModel(clip).save_pretrained(root / "clip")
    side = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side), tokenizer).save_pretrained(
        root / "clip"
    )
    return str(root / "detector"), str(root / "clip")


def test_pipelines_of_transformers_are_what_it_asks(folders: tuple[str, str]) -> None:
    """Against the detector's own boxes, cut and coloured by the CLIP model itself; one image, and several.

    Catches in scoring/geneval_server.py: a list of one image asked as an image.
    """
    pixels = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    images = [Image.fromarray(each) for each in pixels]
    wanted = {"include": [ask("dog", color="red"), ask("computer mouse", color="blue")]}
    examiner = examiner_of(*folders, "cpu", strict=False)
    expected = [judge(detections(image, *folders), wanted).share for image in images]
    assert examiner(images, ["a", "b", "c"], [wanted, None, wanted]) == [expected[0], None, expected[2]]
    assert examiner(images[1:2], ["b"], [wanted]) == expected[1:2]
    assert any(detections(image, *folders) for image in images)


def detections(image: Image.Image, detector: str, clip: str) -> list[Detection]:
    model, processor = YolosForObjectDetection.from_pretrained(detector), YolosImageProcessor.from_pretrained(detector)
    judge_model, words = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    found = []
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
        sizes = torch.tensor([[image.height, image.width]])
        (boxes,) = processor.post_process_object_detection(outputs, threshold=CONFIDENCE, target_sizes=sizes)
        for score, label, box in zip(boxes["scores"], boxes["labels"], boxes["boxes"], strict=True):
            name = {0: "dog", 1: "computer mouse"}[int(label)]
            corners = tuple(int(side) for side in box)
            left, top, right, bottom = max(0, corners[0]), max(0, corners[1]), min(64, corners[2]), min(48, corners[3])
            colour = None
            if right > left and bottom > top:
                texts = [f"a photo of a {colour} {name}" for colour in COLOURS]
                crop = image.crop((left, top, right, bottom))
                given = words(text=texts, images=crop, return_tensors="pt", padding=True)
                colour = COLOURS[int(judge_model(**given).logits_per_image.argmax())]
            found.append(Detection(name, float(score), tuple(map(float, corners)), colour))
    return found


def test_a_folder_that_is_no_detector_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in scoring/geneval_server.py: a traceback for a wrong folder."""
    arguments = ["--detector", str(tmp_path), "--colours", str(tmp_path), "--port", "0"]
    monkeypatch.setattr("sys.argv", ["geneval_server", *arguments])
    with pytest.raises(SystemExit) as ended:
        geneval_server.main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"geneval_server: error: --detector {tmp_path} --colours {tmp_path}: ")
    )

"""A reward server with GenEval's rule: `python -m drift_pl.scoring.geneval_server --detector FOLDER --colours FOLDER`.

The detector is yours: any object detection model of transformers that knows COCO's classes, by folder or hub id (DETR,
RT-DETR, YOLOS, ...); likewise a CLIP model, which names the colours. GenEval itself uses a Mask2Former of mmdetection,
and shows CLIP an object without its background: its figures compare with figures of its own detector only.
docs/http_judge.md has the settings of a run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from drift_pl.core.locate import first_line
from drift_pl.scoring.example_server import Parser, add_arguments, answer, listen
from drift_pl.scoring.geneval import COLOURS, CONFIDENCE, Detection, judge

NAMES = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
"""COCO's name -> GenEval's, where they differ."""
UNUSABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, AssertionError)
"""What loading models raises for arguments: some detectors need a package (timm); torch asserts that it has CUDA."""


@dataclass(frozen=True)
class Examiner:
    """Scores images by what a detector finds in them.

    Attributes:
        detect: images and `threshold` -> for each image a list of {label, score, box: {xmin, ymin, xmax, ymax}}.
        name_colour: an image, `candidate_labels` and `hypothesis_template` -> a list of {label, score}, best first.
        strict: GenEval's verdict, 0 or 1; else the partial credit, from which more is learnt.
    """

    detect: Callable[..., Any]
    name_colour: Callable[..., Any]
    strict: bool = False

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[str], metadata: Sequence[Mapping[str, Any] | None]
    ) -> list[float | None]:
        """One score per image; None for a prompt without metadata.

        Raises:
            ValueError: metadata of another form.
        """
        rows = [row for row, wanted in enumerate(metadata) if wanted]
        found = self.detect([images[row] for row in rows], threshold=CONFIDENCE) if rows else []
        scores: list[float | None] = [None] * len(images)
        for row, boxes in zip(rows, found, strict=True):
            scores[row] = self._score(images[row], boxes, metadata[row] or {})
        return scores

    def _score(self, image: Image.Image, boxes: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> float:
        coloured = {entry.get("class") for entry in wanted.get("include", []) if "color" in entry}
        detections = []
        for each in boxes:
            label = NAMES.get(each["label"], each["label"])
            box = tuple(float(each["box"][side]) for side in ("xmin", "ymin", "xmax", "ymax"))
            colour = self._colour(image, box, label) if label in coloured else None
            detections.append(Detection(label, each["score"], box, colour))  # type: ignore[arg-type]
        verdict = judge(detections, wanted)
        return float(verdict.correct) if self.strict else verdict.share

    def _colour(self, image: Image.Image, box: Sequence[float], label: str) -> str | None:
        left, top = (max(0, int(side)) for side in box[:2])
        right, bottom = min(image.width, round(box[2])), min(image.height, round(box[3]))
        if right <= left or bottom <= top:
            return None
        crop = image.crop((left, top, right, bottom))
        text = f"a photo of a {{}} {label}"
        best: str = self.name_colour(crop, candidate_labels=list(COLOURS), hypothesis_template=text)[0]["label"]
        return best


def examiner_of(detector: str, colours: str, device: str, strict: bool) -> Examiner:
    """From two folders or hub ids."""
    from transformers import pipeline  # late: wrong arguments are refused at once

    detect = pipeline("object-detection", model=detector, device=device)
    name_colour = pipeline("zero-shot-image-classification", model=colours, device=device)
    return Examiner(detect, name_colour, strict)


def main() -> None:
    parser = Parser(description="Reward server: GenEval's rule on what a detector finds.")
    parser.add_argument("--detector", required=True, help="an object detection model, by folder or hub id")
    parser.add_argument("--colours", required=True, help="a CLIP model, by folder or hub id")
    parser.add_argument("--strict", action="store_true", help="0 or 1 per image, as GenEval; else partial credit")
    parser.add_argument("--device", default="cpu", help="such as cuda:0")
    options = add_arguments(parser).parse_args()
    server = listen(parser, options, lambda *asked: examiner(*asked))
    try:
        examiner = examiner_of(options.detector, options.colours, options.device, options.strict)
    except UNUSABLE as error:
        server.server_close()
        parser.error(f"--detector {options.detector} --colours {options.colours}: {first_line(error)}")
    answer(server, options)


if __name__ == "__main__":
    main()

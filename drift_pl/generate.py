"""The command that draws pictures: `python -m drift_pl.generate ckpt_path=RUN_FOLDER prompt="..." [KEY=VALUE ...]`.

Base model and fine-tuned model on the same noise, each image a PNG, and one grid with the two side by side.
"""

import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drift_pl.builders.quiet import quieten
from drift_pl.builders.restore import find_checkpoint, load_tuned
from drift_pl.config.checkpoints import CONFIG
from drift_pl.config.command import run_command
from drift_pl.config.command_options import (
    Command,
    Request,
    asks_for_help,
    checkpoint_key,
    help_text,
    key,
    parse_request,
    pretrained_key,
    weights_key,
)
from drift_pl.core.files import free_name, refuse_taken


@dataclass
class GenerateOptions:
    """What a command line asks for; None leaves it to the run's own config."""

    ckpt_path: str = checkpoint_key()
    prompt: str = key("", "what the images are to show", "a red circle", required=True)
    n: int = key(16, "images of each model", "16", least=1)
    seed: int = key(0, "of the noise; image k of a seed has the same noise for every prompt, run and method", "1")
    aig: float | None = key(
        None,
        "power of annealed importance guidance: 0 is the tuned model, the larger the more of the base; null: the run's "
        "sampler.eval_importance_power",
        "1",
        sets="sampler.eval_importance_power",
    )
    lora_scale: float | None = key(
        None,
        "factor of the adapter's output, or of the weights' change; null: the run's sampler.eval_lora_scale",
        "0.5",
        sets="sampler.eval_lora_scale",
    )
    steps: int | None = key(
        None, "deterministic steps; null: the run's sampler.eval_steps", "20", sets="sampler.eval_steps"
    )
    guidance_scale: float | None = key(
        None, "classifier-free guidance; null: as the run evaluates", "4.5", sets="sampler.eval_guidance_scale"
    )
    out: str | None = key(
        None, "folder to write, new or empty; null: a new one in the run's folder, generated/PROMPT-sSEED", "pictures"
    )
    weights: str = weights_key()
    measure: bool = key(False, "also print mean reward and diversity, by the run's judges and encoder", "true")
    pretrained: str | None = pretrained_key()
    accelerator: str | None = key(
        None, "auto, cpu, gpu; null: the run's trainer.accelerator", "cpu", sets="trainer.accelerator"
    )
    micro_batch: int | None = key(
        None, "images per forward pass; null: the run's objective.micro_batch", "4", sets="objective.micro_batch"
    )


COMMAND = Command(
    "generate",
    "Draw images of a prompt with a run's base model and its fine-tuned model, on the same noise.",
    'ckpt_path=runs/shapes_div-bf23135e-s0 prompt="a red circle"',
    GenerateOptions,
)


def generate(request: Request[GenerateOptions]) -> Path:
    """Writes the pictures' folder, whole or not at all, prints what was measured, and returns the folder.

    Raises:
        UserError: something cannot be used; nothing has been written then.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `fit`
    options = request.options
    run_dir, path = find_checkpoint(options.ckpt_path)
    if options.out:
        refuse_taken(Path(options.out).expanduser())
    config = request.config(run_dir / CONFIG)
    quieten()
    from drift_pl.builders.bench import build_picture_evaluator, build_sampling
    from drift_pl.builders.hardware import choose_device
    from drift_pl.evaluation.drawing import draw, label, measure, save_pictures
    from drift_pl.evaluation.sampling import Model

    device, autocast = choose_device(config)
    evaluator = build_picture_evaluator(config) if options.measure else None
    tuned = load_tuned(config, run_dir, path, options.weights)
    plan, checkpoint, micro_batch = build_sampling(config), tuned.checkpoint, config.objective.micro_batch
    if evaluator is not None:
        evaluator.to(device)
    model = Model.on(tuned.policy, device, autocast)
    pictures = draw(model, plan, options.prompt, options.n, options.seed, micro_batch)
    measured = measure(evaluator, pictures, options.prompt, device) if evaluator else {}
    default = run_dir / "generated" / f"{_slug(options.prompt)}-s{options.seed}"
    out = Path(options.out).expanduser() if options.out else free_name(default)
    facts: dict[str, Any] = {"checkpoint": str(path), "weights": checkpoint.weights, "digest": checkpoint.digest}
    facts |= {"prompt": options.prompt, "n": options.n, "seed": options.seed, **asdict(plan)}
    facts |= {"micro_batch": micro_batch, "measured": measured}
    save_pictures(pictures, out, label(plan, checkpoint.iteration, checkpoint.weights), options.prompt, facts)
    for name, values in measured.items():
        print(f"{name:<9}" + "  ".join(f"{which} {value:.4f}" for which, value in values.items()))
    return out


def _slug(prompt: str) -> str:
    """A prompt as a folder's name, whatever letters it is written in."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:40].rstrip("-_") or "prompt"


def _run(argv: list[str]) -> None:
    if asks_for_help(argv):
        print(help_text(COMMAND), end="")
        return
    request = parse_request(COMMAND, argv)
    out = generate(request)
    for which in ("base", "tuned"):
        names = sorted(file.name for file in out.glob(f"{which}-*.png"))
        print(f"{which + ':':<9}{out / names[0]}" + (f" to {names[-1]}" if len(names) > 1 else ""))
    print(f"{'grid:':<9}{out / 'base_and_tuned.png'}")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

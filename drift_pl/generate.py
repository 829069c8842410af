"""The command that draws pictures: `python -m drift_pl.generate ckpt_path=RUN_FOLDER prompt="..." [KEY=VALUE ...]`."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drift_pl.builders.quiet import quieten
from drift_pl.config.batches import sampling_micro_batch
from drift_pl.config.checkpoints import CONFIG, find_checkpoint
from drift_pl.config.command import run_command
from drift_pl.config.fields import Flag, setting
from drift_pl.config.options import Options, Weights, checkpoint_key, trust_key, weights_key
from drift_pl.config.schema import Config
from drift_pl.core.files import free_name, local_path, refuse_taken
from drift_pl.core.progress import Display


class GenerateOptions(Options):
    """Draw images of a prompt with a run's base model and its fine-tuned model, on the same noise.

    Each image is a PNG, and a grid shows both models side by side.
    """

    program = "python -m drift_pl.generate"
    example = 'ckpt_path=runs/shapes_div-d738dcc0-s0 prompt="a red circle"'
    run_keys = {
        "aig": "sampler.eval_importance_power",
        "lora_scale": "sampler.eval_lora_scale",
        "steps": "sampler.eval_steps",
        "guidance_scale": "sampler.eval_guidance_scale",
        "accelerator": "trainer.accelerator",
        "micro_batch": "sampler.micro_batch",
        "policy.pretrained": "policy.pretrained",
    }

    ckpt_path: str = checkpoint_key()
    prompt: str = setting(..., "what the images are to show", example="a red circle")
    n: int = setting(16, "images of each model", ge=1, le=4096)
    seed: int = setting(
        0,
        "of the noise; image k of a seed has the same noise for every prompt, run and method",
        ge=-(2**63),
        le=2**63 - 1,
        example="1",
    )
    out: str | None = setting(
        None,
        "folder to write, new or empty; null: a new one in the run's folder, generated/PROMPT-sSEED",
        example="pictures",
    )
    weights: Weights = weights_key()
    trust: Flag = trust_key()
    measure: Flag = setting(
        False, "also print mean reward and diversity, by the run's rewards and encoder", example="true"
    )

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), *(("rewards", "evaluation.encoder") if self.measure else ()))


def generate(options: GenerateOptions) -> Path:
    """Writes the folder of pictures, completely or not at all, prints what was measured, and returns the folder.

    Raises:
        UserError: an input cannot be used; nothing has been written then.
    """
    run_dir, path = find_checkpoint(options.ckpt_path)
    default = run_dir / "generated" / f"{_slug(options.prompt)}-s{options.seed}"
    out = local_path(options.out) if options.out else free_name(default)
    refuse_taken(out)
    config = options.config(run_dir / CONFIG)
    with Display("auto") as display:
        with display.stage("importing libraries"):
            quieten()
            import drift_pl.builders.bench
            import drift_pl.evaluation.drawing  # noqa: F401
        measured = _draw(options, config, run_dir, path, out, display)
    for name, values in measured.items():
        print(f"{name:<9}" + "  ".join(f"{which} {value:.4f}" for which, value in values.items()))
    return out


def _draw(
    options: GenerateOptions, config: Config, run_dir: Path, path: Path, out: Path, display: Display
) -> dict[str, dict[str, float]]:
    """Writes the folder of pictures, and returns what was measured of them."""
    from drift_pl.builders.bench import build_picture_evaluator, build_sampling
    from drift_pl.builders.checkpoint_weights import load_tuned
    from drift_pl.builders.early import refuse_unfit
    from drift_pl.builders.hardware import choose_device
    from drift_pl.evaluation.drawing import draw, measure, save_pictures
    from drift_pl.evaluation.points import trained_point
    from drift_pl.evaluation.sampling import Model

    device, autocast = choose_device(config)
    refuse_unfit(config, options.needs())
    with display.stage(f"loading {config.published.policy.pretrained}"):
        evaluator = build_picture_evaluator(config) if options.measure else None
        tuned = load_tuned(config, run_dir, path, options.weights)
        if evaluator is not None:
            evaluator.to(device)
        model = Model.on(tuned.policy, device, autocast)
    plan, checkpoint, micro_batch = build_sampling(config), tuned.checkpoint, sampling_micro_batch(config)
    sample = options.prompt, options.n, options.seed
    with display.stage("drawing", 2 * options.n, "images"):
        pictures = draw(model, plan, *sample, micro_batch, display.advance_by)
    with display.stage("measuring" if evaluator else "writing"):
        measured = measure(evaluator, pictures, options.prompt, device) if evaluator else {}
        facts: dict[str, Any] = {"checkpoint": str(path), "weights": checkpoint.weights, "digest": checkpoint.digest}
        facts |= {"prompt": options.prompt, "n": options.n, "seed": options.seed, **asdict(plan)}
        facts["negative_prompt"] = config.published.policy.negative_prompt
        facts |= {"micro_batch": micro_batch, "measured": measured}
        point = trained_point(path.name, checkpoint.digest, checkpoint.iteration, 0, checkpoint.weights, plan)
        title = point.title(with_weights=checkpoint.weights == "live")
        save_pictures(pictures, out, title, options.prompt, facts, config.policy.frames)
    return measured


def _slug(prompt: str) -> str:
    """A prompt as a folder's name, in any script."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:40].rstrip("-_") or "prompt"


def _run(argv: list[str]) -> None:
    options = GenerateOptions.read(argv)
    if options is None:
        return
    out = generate(options)
    for which in ("base", "tuned"):
        names = sorted(file.name for file in out.glob(f"{which}-*.png"))
        print(f"{which + ':':<9}{out / names[0]}" + (f" to {names[-1]}" if len(names) > 1 else ""))
    print(f"{'grid:':<9}{out / 'base_and_tuned.png'}")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

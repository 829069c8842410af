"""The command that shares weights: `python -m drift_pl.export ckpt_path=RUN_FOLDER out=FOLDER [KEY=VALUE ...]`.

Writes a LoRA that stock diffusers loads, or a whole pipeline, and a model card that is filled from the run.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from drift_pl.builders.quiet import quieten
from drift_pl.builders.restore import TunedPolicy, find_checkpoint, load_tuned
from drift_pl.config.checkpoints import CONFIG, recorded_identity
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
from drift_pl.config.schema import Config
from drift_pl.core.files import new_folder, refuse_taken, write_text


@dataclass
class ExportOptions:
    """What a command line asks for."""

    ckpt_path: str = checkpoint_key()
    out: str = key("", "folder to write; it must be new or empty", "exports/my-lora", required=True)
    weights: str = weights_key()
    format: str = key(
        "lora", "lora (the adapter alone) or full (the pipeline, merged)", "full", choices=("lora", "full")
    )
    pretrained: str | None = pretrained_key()


COMMAND = Command(
    "export",
    "Write a run's weights for diffusers: a LoRA for load_lora_weights, or a whole pipeline, with a model card.",
    "ckpt_path=runs/shapes_div-bf23135e-s0 out=exports/my-lora",
    ExportOptions,
)


def export(request: Request[ExportOptions]) -> Path:
    """Writes the folder, whole or not at all, and returns it.

    Raises:
        UserError: something cannot be used; nothing has been written then.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `fit`
    options = request.options
    out = Path(options.out).expanduser()
    refuse_taken(out)
    run_dir, path = find_checkpoint(options.ckpt_path)
    config = request.config(run_dir / CONFIG)
    quieten()
    from drift_pl.policies.export import save_full, save_lora

    tuned = load_tuned(config, run_dir, path, options.weights)
    card = _card(config, run_dir, out, options.format, tuned)
    save = save_lora if options.format == "lora" else save_full
    with new_folder(out) as folder:
        save(tuned.policy, folder)
        write_text(folder / "README.md", card)
    return out


def _card(config: Config, run_dir: Path, out: Path, form: str, tuned: TunedPolicy) -> str:
    from drift_pl.core.locate import locate
    from drift_pl.policies.export import describe_pipeline
    from drift_pl.reports.card_facts import Base, Weights, evaluation_table
    from drift_pl.reports.model_card import Export, model_card

    name, checkpoint, facts = config.policy.pretrained, tuned.checkpoint, describe_pipeline(tuned.policy)
    location = Path(locate(name))
    weights = Weights(checkpoint.iteration, checkpoint.weights, checkpoint.digest)
    exported = Export(
        folder=out.absolute().name,
        form=form,
        weights=weights,
        base=Base(name, location if location.exists() else None),
        class_name=facts.class_name,
        absent=facts.absent,
        call_arguments=facts.call_arguments,
        process=facts.process,
        evaluation=evaluation_table(run_dir, weights),
        guidance_offset=facts.guidance_offset,
    )
    return model_card(config, recorded_identity(run_dir / CONFIG).rpartition("-s")[0], exported)


def _run(argv: list[str]) -> None:
    if asks_for_help(argv):
        print(help_text(COMMAND), end="")
        return
    request = parse_request(COMMAND, argv)
    out = export(request)
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    print(f"written: {out}: {', '.join(files)}")
    print(f"load:    see {out / 'README.md'}")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

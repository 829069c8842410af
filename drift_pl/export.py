"""The command that shares weights: `python -m drift_pl.export ckpt_path=RUN_FOLDER out=FOLDER [KEY=VALUE ...]`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from drift_pl.builders.quiet import quieten
from drift_pl.config.checkpoints import CONFIG, find_checkpoint
from drift_pl.config.command import run_command
from drift_pl.config.fields import Flag, setting
from drift_pl.config.options import Options, Weights, checkpoint_key, trust_key, weights_key
from drift_pl.config.schema import Config
from drift_pl.core.files import local_path, new_folder, refuse_taken, write_text
from drift_pl.core.progress import Display
from drift_pl.reports.publish import check_hub, push_folder

if TYPE_CHECKING:  # `--help` and wrong keys answer without torch
    from drift_pl.builders.checkpoint_weights import TunedPolicy


class ExportOptions(Options):
    """Write a run's weights for diffusers: a LoRA for load_lora_weights or a whole pipeline, and a model card."""

    program = "python -m drift_pl.export"
    example = "ckpt_path=runs/shapes_div-d738dcc0-s0 out=exports/my-lora"
    run_keys = {"policy.pretrained": "policy.pretrained"}

    ckpt_path: str = checkpoint_key()
    out: str = setting(..., "folder to write; it must be new or empty", example="exports/my-lora")
    weights: Weights = weights_key()
    trust: Flag = trust_key()
    format: Literal["lora", "full"] = setting("lora", "lora (the adapter alone) or full (the pipeline, merged)")
    push_to_hub: str | None = setting(
        None,
        "also upload the folder to this repository of the Hugging Face hub; null: nowhere",
        example="me/my-lora",
    )
    private: Flag = setting(True, "whether a repository that is made by push_to_hub is private")


class Exported(NamedTuple):
    """The folder that was written, and what a stock pipeline leaves out of it: one line, empty for most models."""

    folder: Path
    note: str


def export(options: ExportOptions) -> Exported:
    """Writes the folder, completely or not at all.

    Raises:
        UserError: an input cannot be used; nothing has been written then.
    """
    out = local_path(options.out)
    refuse_taken(out)
    if options.push_to_hub:
        check_hub(options.push_to_hub, options.private)
    run_dir, path = find_checkpoint(options.ckpt_path)
    config = options.config(run_dir / CONFIG)
    with Display("auto") as display:
        with display.stage("importing libraries"):
            quieten()
            import drift_pl.policies.export  # noqa: F401
        _write(options, config, run_dir, path, out, display)
    from drift_pl.reports.model_card import family_note

    return Exported(out, family_note(config.published))


def _write(options: ExportOptions, config: Config, run_dir: Path, path: Path, out: Path, display: Display) -> None:
    from drift_pl.builders.checkpoint_weights import load_tuned
    from drift_pl.builders.early import refuse_unfit
    from drift_pl.policies.export import save_full, save_lora

    refuse_unfit(config, options.needs())
    # what is merged is merged into weights as published, and written in one precision
    exact = {"dtype": "float32"} if options.format == "full" and config.policy.quantisation is None else {}
    whole = config.policy.model_copy(update={"storage": None, **exact})
    with display.stage(f"loading {config.published.policy.pretrained}"):
        tuned = load_tuned(config.model_copy(update={"policy": whole}), run_dir, path, options.weights)
    card = _card(config, run_dir, out, options.format, tuned)
    save = save_lora if options.format == "lora" else save_full
    with (
        display.stage(f"writing {'the adapter' if options.format == 'lora' else 'the pipeline'}"),
        new_folder(out) as new,
    ):
        save(tuned.policy, new)
        write_text(new / "README.md", card)


def _card(config: Config, run_dir: Path, out: Path, form: str, tuned: "TunedPolicy") -> str:
    from drift_pl.core.locate import locate
    from drift_pl.policies.export import describe_pipeline
    from drift_pl.reports.card_facts import Base, Weights, evaluation_table
    from drift_pl.reports.model_card import Export, model_card

    location, config = Path(locate(config.policy.pretrained)), config.published
    name, checkpoint = config.policy.pretrained, tuned.checkpoint
    weights = Weights(checkpoint.iteration, checkpoint.weights, checkpoint.digest)
    base = Base(name, location if location.exists() else None)
    pipeline, evaluation = describe_pipeline(tuned.policy), evaluation_table(run_dir, weights)
    exported = Export(out.absolute().name, form, weights, base, pipeline, evaluation)
    return model_card(config, checkpoint.config_hash, exported)


def _run(argv: list[str]) -> None:
    options = ExportOptions.read(argv)
    if options is None:
        return
    out, note = export(options)
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    print(f"written: {out}: {', '.join(files)}")
    print(f"load:    see {out / 'README.md'}")
    if note:
        print(f"note:    {note}")
    if options.push_to_hub:
        size = sum((out / file).stat().st_size for file in files) / 1e6
        with Display("auto") as display, display.stage(f"uploading {len(files)} files, {size:.1f} MB"):
            url = push_folder(out, options.push_to_hub, options.private)
        print(f"pushed:  {url}")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

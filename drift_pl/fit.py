"""The command that fine-tunes: `python -m drift_pl.fit experiment=NAME [KEY=VALUE ...] [ckpt_path=last]`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from drift_pl.builders.quiet import quieten
from drift_pl.config.batches import derive_batches
from drift_pl.config.checkpoints import refuse_other_settings
from drift_pl.config.command import INTERRUPTED, TERMINATED, leaving_at_second_sigterm, run_command
from drift_pl.config.command_line import asks_for_help
from drift_pl.config.loading import config_help, config_yaml, parse
from drift_pl.config.publishing import with_names
from drift_pl.config.run_folder import SUMMARY_MEASURES, choose_run_folder, is_first_process
from drift_pl.config.schema import Config
from drift_pl.config.trust import register
from drift_pl.core.errors import UserError
from drift_pl.core.files import probe_folder, write_text
from drift_pl.core.locate import first_line


def fit(config: Config, tree: dict[str, Any] | None = None) -> Path:
    """Runs a fine-tuning from beginning or checkpoint to end, and returns the run's folder.

    Args:
        tree: the settings as they were written, for config.yaml; None: as they are.

    Raises:
        UserError: something that the config names cannot be used; nothing has been written then.
    """
    # Read when torch is loaded: threads that wait by spinning make a run many times slower beside any other program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = choose_run_folder(config)
    if is_first_process():
        probe_folder(folder.path)
    quieten()
    # Imported late: `--help` and wrong keys answer at once.
    from drift_pl.builders.run import build_run
    from drift_pl.training.checkpoint_content import RestoredShapes, damaged, raised_while_restoring
    from drift_pl.training.checkpointing import checkpoint_iteration, read_checkpoint

    restored, done = None, 0
    if folder.resume_from is not None:
        content = read_checkpoint(folder.resume_from)
        refuse_other_settings(content, folder.resume_from, config)
        done = checkpoint_iteration(content)
        _refuse_finished(config, done)
        restored = RestoredShapes.of(content)
        del content  # of a whole network it is large
    run = build_run(config, folder.path, done)
    if restored and folder.resume_from:
        restored.refuse_others(run.module, folder.resume_from)
    if is_first_process():
        write_text(folder.path / "config.yaml", config_yaml(config, tree))
        register(with_names(tree or config.published.model_dump()), folder.path)
        print(f"experiment {config.experiment}, seed {config.seed}: {derive_batches(config).describe()}")
        print(f"run folder {folder.path}", flush=True)
    try:
        with leaving_at_second_sigterm():
            run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=folder.resume_from)
    except SystemExit as stop:  # Lightning's answer to SIGTERM, without an exit status, and to Ctrl-C
        print(f"stopped after iteration {run.datamodule.iteration}; resume with ckpt_path=last", file=sys.stderr)
        raise SystemExit(INTERRUPTED if isinstance(stop.__context__, KeyboardInterrupt) else TERMINATED) from stop
    except Exception as error:
        if folder.resume_from and not isinstance(error, UserError) and raised_while_restoring(error):
            raise damaged(folder.resume_from, f"it cannot be restored ({first_line(error)})") from error
        raise
    return folder.path


def summary_table(summary: dict) -> str:
    """Base against tuned on the held-out prompts, as text."""
    lines = [f"{'':24}{'base':>10}{'tuned':>10}{'change':>10}"]
    for name in SUMMARY_MEASURES:
        if name in summary["base"]:
            base, tuned = summary["base"][name], summary["tuned"][name]
            lines.append(f"{name:24}{base:10.4f}{tuned:10.4f}{(tuned - base) / abs(base):+10.1%}")
    return "\n".join(lines)


def _refuse_finished(config: Config, done: int) -> None:
    if done >= config.trainer.iterations:
        raise UserError(
            f"ckpt_path: this run already has {done} of trainer.iterations={config.trainer.iterations}; extend it with "
            f"e.g. trainer.iterations={done + config.trainer.save_every}"
        )


def _close(run_dir: Path, config: Config) -> None:
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    print(f"\n{summary['test_prompts']} held-out prompts x {summary['images_per_prompt']} images")
    print(summary_table(summary))
    print(f"\nimages:  {run_dir / 'samples' / 'base_and_tuned.png'}")
    print(f"watch:   tensorboard --logdir {run_dir}")
    print(
        f"resume:  python -m drift_pl.fit experiment={config.experiment} seed={config.seed} "
        f"run_dir={run_dir} ckpt_path=last trainer.iterations={2 * config.trainer.iterations}"
    )


def _run(argv: list[str]) -> None:
    if asks_for_help(argv):
        print(config_help(), end="")
        return
    request = parse(argv)
    if request.ignored and is_first_process():
        print(f"warning: without effect: {', '.join(request.ignored)}", file=sys.stderr)
    if request.print_config:
        print(config_yaml(request.config, request.tree), end="")
    else:
        run_dir = fit(request.config, request.tree)
        if is_first_process():
            _close(run_dir, request.config)


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

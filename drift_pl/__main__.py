"""One command for all: `drift-pl COMMAND ...`, or `python -m drift_pl COMMAND ...`."""

import difflib
import sys
from importlib import import_module

from drift_pl.config.command import run_command
from drift_pl.config.command_line import FLAGS
from drift_pl.config.help import help_text, table
from drift_pl.core.errors import UserError

COMMANDS = {
    "fit": "fine-tune a model on rewards, or resume a run",
    "evaluate": "measure a run's checkpoints and its base model on held-out prompts",
    "generate": "draw pictures of a prompt with the base model and the tuned one",
    "export": "write a run's weights for diffusers, with a model card",
    "report": "show finished runs side by side",
    "pareto": "compare methods by their reward-diversity fronts",
    "plan": "count a run's memory and speed on a device, without its weights",
    "runs": "list runs: state, iteration, reward, diversity, and what differs from the experiment",
    "sweep": "train every combination of values, here or as a SLURM array",
}
"""Name, which is a module of this package with a function `main`, and what it does."""

HELP = ("--help", "-h", "help")


def _run(argv: list[str]) -> None:
    if argv[1:] and argv[0] in HELP:  # of a command, or of what a word names
        command, *words = argv[1:]
        argv = [command, "--help", *words] if command in COMMANDS else ["fit", "--help", command, *words]
    if not argv or argv[0] in HELP:
        blocks = {"commands": table(COMMANDS), "flags": table(FLAGS), "example": ["  drift-pl fit --help sampler"]}
        purpose = "Fine-tune text-to-image models on rewards and keep their diversity. COMMAND --help explains one."
        print(help_text("drift-pl COMMAND", purpose, blocks), end="")
        return
    command, *arguments = argv
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}: {_remedy(command, arguments)}")
    status = import_module(f"drift_pl.{command}").main(arguments)
    if status:
        raise SystemExit(status)


def _remedy(word: str, arguments: list[str]) -> str:
    if "=" in word or word.startswith("-"):
        wanted = next((argument for argument in arguments if argument in COMMANDS), "fit")
        return f"the command comes first, e.g. drift-pl {wanted} {word}"
    close = difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    listed = f"the commands are {', '.join(COMMANDS)}"
    return f"did you mean {close[0]!r}? {listed}" if close else listed


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

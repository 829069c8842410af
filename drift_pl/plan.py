"""The command that counts what a run takes: `python -m drift_pl.plan experiment=NAME device=24GB [KEY=VALUE ...]`."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from drift_pl.builders.devices import device_of
from drift_pl.builders.quiet import quieten
from drift_pl.config.command import run_command
from drift_pl.config.command_line import FLAGS, asks_for_help
from drift_pl.config.fields import setting
from drift_pl.config.loading import parse
from drift_pl.config.options import Options
from drift_pl.config.schema import Config


class PlanOptions(Options):
    """Count the memory and time of a run without its weights: nothing is downloaded or trained.

    Every setting of fit may follow. Works for local folders and for the models of the shipped experiments.
    """

    program = "python -m drift_pl.plan"
    example = "experiment=pickscore_div device=24GB"

    device: str = setting("24GB", "memory in GB, e.g. 24GB, or a device, e.g. rtx4090, a100, h100", example="24GB")
    utilisation: float = setting(
        0.4, "share of the device's peak that the networks reach, for the images per second", gt=0, le=1
    )
    tflops: float | None = setting(
        None, "the device's dense peak in bfloat16, in TFLOP/s; null: its maker's figure", gt=0, lt=1e9, example="165"
    )
    out: str | None = setting(None, "also write a JSON file", example="plan.json")


def plan(config: Config, change: Any, options: PlanOptions) -> tuple[list[str], dict[str, Any]]:
    """The lines that are shown, and the record.

    Raises:
        UserError: the device is none, or the model's configuration is not known.
    """
    quieten()
    from drift_pl.builders.planning import CONTEXT, MARGIN, as_record, plan_of
    from drift_pl.builders.remedies import advice, remedies

    name, device = device_of(options.device, options.tflops)
    found = plan_of(config)
    record = as_record(found, name, device, options.utilisation)
    lines = [f"{config.experiment}: counted, not measured; one of {found.processes} process(es)", ""]
    lines += [f"{part:78}{size / 1e9:8.2f} GB" for part, size in found.parts.items()]
    lines += ["", "on top of it, in the phase"]
    for phase, size in found.phases.items():
        mark = "  <- peak" if phase == found.peak_phase else ""
        lines.append(f"  {phase:76}{size / 1e9:8.2f} GB{mark}")
    lines += ["", f"peak {found.peak / 1e9:.2f} GB; with {MARGIN:.0%} for gaps and {CONTEXT / 1e9:.1f} GB for CUDA"]
    lines[-1] += (
        f" {found.needed / 1e9:.1f} of {device.gigabytes:g} GB: {'fits' if found.fits(device) else 'does not fit'}"
    )
    if not found.fits(device):
        with warnings.catch_warnings():  # of what is only tried
            warnings.simplefilter("ignore")
            changed = remedies(config, device, change)
        record["remedies"] = changed
        lines.append(advice(changed))
    lines.append(
        f"{record['images_per_s']:.3g} images/s at {options.utilisation:.0%} of {device.tflops:g} TFLOP/s ({name}): "
        f"{found.flops / 1e15:.3g} PFLOP for {found.images} images"
    )
    lines += [f"not counted: {each}" for each in found.unknown]
    return lines, record


def _run(argv: list[str]) -> None:
    if not argv or asks_for_help(argv):
        PlanOptions.read(argv or ["--help"])
        return
    own = [item for item in argv if item.partition("=")[0] in PlanOptions.model_fields]
    rest = [item for item in argv if item not in own]
    options = PlanOptions.parse(own)

    def change(values: Mapping[str, str]) -> Config:
        return parse([*rest, *(f"{key}={value}" for key, value in values.items())], FLAGS).config

    lines, record = plan(parse(rest, FLAGS).config, change, options)
    if options.out is not None:
        from drift_pl.builders.planning import write_record

        write_record(options.out, record)
    print("\n".join(lines))


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())

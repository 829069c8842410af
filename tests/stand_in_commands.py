"""A plan of three methods and two seeds, and a stand-in for the commands that the fronts' queue calls."""

import time
from pathlib import Path
from typing import Any

from made_up_evaluations import make_point, write_file

PLAN_TEXT: dict[str, Any] = {
    "frozen": {"fit": ["experiment=shapes_flowgrpo"], "evaluate": ["prompts=test"], "pareto": []},
    "tiers": {
        "A": {
            "title": "first",
            "seeds": [7, 8],
            "baseline": "plain",
            "fit": ["trainer.iterations=3"],
            "methods": {
                "plain": None,
                "levers": {"fit": ["experiment=shapes_div"]},
                "swept": {"source": "plain", "evaluate": ["lora_scale=[0.5]"]},
            },
        }
    },
}


class Commands:
    """Stands in for fit, evaluate and pareto: writes what they write and remembers how they were called."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[list[str]] = []
        self.fail = fail

    def __call__(self, arguments: list[str], log: Path) -> int:
        self.calls.append(arguments)
        if self.fail and any(self.fail in argument for argument in arguments):
            return 1
        given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        if arguments[0] == "drift_pl.fit":
            time.sleep(0.05)  # long enough for another worker to begin
            Path(given["run_dir"]).mkdir(parents=True)
            (Path(given["run_dir"]) / "summary.json").write_text("{}")
        if arguments[0] == "drift_pl.evaluate":
            assert (Path(given["ckpt_path"]) / "summary.json").is_file(), "evaluated before it was trained"
            out = Path(given["out"])
            (out.parent / "pictures").mkdir(parents=True, exist_ok=True)
            (out.parent / "pictures" / "base.png").write_bytes(b"png")
            seed = int(Path(given["ckpt_path"]).name.rpartition("-s")[2])
            points = [make_point(0, 1.0, picture="pictures/base.png"), make_point(3, 2.0 + seed)]
            made = write_file(out.parent / "made", given["method"], seed, points)
            (made / "evaluation.json").rename(out)
        return 0

    def named(self, module: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == module]

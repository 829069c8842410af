"""The study's results: single results of a running study in `runs/`, and one committed file per tier.

A result is in TIER/METHOD-sSEED/ until every method of its tier has the seed; then the whole seed goes into the tier's
file, docs/results/fronts/TIER/evaluations.json.xz. A result in either place counts as done. One that another tier's
file has already is not kept twice: `taken_over.json` beside the tiers' folders names that tier.
"""

import json
import os
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plan import Job, Tier

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json
from drift_pl.core.json_files import read_json, read_keys
from drift_pl.evaluation.bundle import SUFFIX, name_of, read_bundle, read_evaluations, read_jobs, write_bundle
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation, write_evaluation

FILE_NAME = "evaluation.json"
TAKEN_OVER = "taken_over.json"
"""{tier: {METHOD-sSEED: the tier whose file has it}}, beside the tiers' folders."""


@dataclass
class Store:
    """Single results and tiers' files.

    Attributes:
        singles: folder of TIER/METHOD-sSEED/ with evaluation.json, pictures of the first seed, and job.json.
        tiers: folder of TIER/evaluations.json.xz and taken_over.json.
        made_by: what every result must have been made by, such as the protocol and the commit; kept in job.json.
        notes: what is kept beside it, and may differ between results, such as the device.
    """

    singles: Path
    tiers: Path
    made_by: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    _jobs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _taken: dict[str, dict[str, str]] | None = None
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def file(self, tier: str) -> Path:
        return self.tiers / tier / f"evaluations{SUFFIX}"

    def own(self, tier: str) -> dict[str, dict[str, Any]]:
        """METHOD-sSEED -> job.json's content, for the results in a tier's file."""
        if tier not in self._jobs:
            self._jobs[tier] = read_jobs(self.file(tier)) if self.file(tier).is_file() else {}
        return self._jobs[tier]

    def held(self, tier: str) -> dict[str, dict[str, Any]]:
        """The same for all results that a tier keeps, those taken over from other tiers' files included.

        Raises:
            UserError: a tier's file lacks what another takes over from it.
        """
        taken = self._taken_over(tier)
        for name, home in taken.items():
            if name not in self.own(home):
                raise UserError(
                    f"{self.tiers / TAKEN_OVER}: tier {tier} takes {name} over from {home}, whose file has no such "
                    "result; get both files from where they came from"
                )
        return self.own(tier) | {name: self.own(home)[name] for name, home in taken.items()}

    def where(self, tier: str, name: str) -> str:
        """FILE#METHOD-sSEED of a result that a tier keeps."""
        return f"{self.file(self._taken_over(tier).get(name, tier))}#{name}"

    def paths(self, tier: Tier, names: Sequence[str], root: Path) -> list[str]:
        """The arguments of a comparison: the tier's file if it is just these results, else each of them.

        Relative to the folder that commands run in, because comparisons contain the names of their files.
        """
        whole = set(names) == set(self.own(tier.name)) == set(self.held(tier.name))
        paths = [str(self.file(tier.name))] if whole else [self.where(tier.name, name) for name in names]
        return [os.path.relpath(path, root) for path in paths]

    def evaluations(self, tier: Tier) -> list[Evaluation]:
        """All results that a tier keeps, in the order of the report."""
        taken = self._taken_over(tier.name)
        found = self._read(tier.name, self.own(tier.name))
        for home in set(taken.values()):
            found += self._read(home, [name for name, other in taken.items() if other == home])
        return sorted(found, key=lambda each: _place(each, tier))

    def _read(self, tier: str, names: Collection[str]) -> list[Evaluation]:
        return [each for each in read_bundle(self.file(tier)) if name_of(each) in names] if names else []

    def _taken_over(self, tier: str) -> dict[str, str]:
        """METHOD-sSEED -> the tier whose file has it, for what a tier does not keep itself.

        Raises:
            UserError: the file is damaged.
        """
        if self._taken is None:
            path = self.tiers / TAKEN_OVER
            try:
                self._taken = read_json(path) if path.is_file() else {}
                names = [name for taken in self._taken.values() for pair in taken.items() for name in pair]
                if not all(isinstance(name, str) for name in names):
                    raise ValueError("a tier is no name")
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path} is damaged: {error}; get it again from where it came from") from error
        return self._taken.get(tier, {})

    def job_of(self, job: Job) -> dict[str, Any] | None:
        """job.json's content if there is a result of this job; else None.

        Raises:
            UserError: there is a result of another plan, which must not be mixed with this one.
        """
        path = self.singles / job.name / "job.json"
        where: Path | str
        if path.is_file():
            content, where, remedy = read_keys(path), path.parent, "remove the folder to run it again"
        elif job.key in self.held(job.tier):
            content, where = self.held(job.tier)[job.key], self.where(job.tier, job.key)
            remedy = "call the changed method by another name, or remove the file to run the tier again"
        else:
            return None
        if not isinstance(content.get("digest"), str) or not isinstance(content.get("minutes"), int | float):
            raise UserError(f"{where} is damaged: its job has no digest or no minutes; {remedy}")
        if content["digest"] != job.digest:
            raise UserError(
                f"{where} is a result of another plan (digest {content['digest']}, the plan's is {job.digest}): "
                f"figures of two plans are not mixed; {remedy}"
            )
        for name, value in self.made_by.items():
            if content.get(name) != value:
                raise UserError(
                    f"{where} is a result of {name} {content.get(name, '(none)')}, and this is {name} {value}: a tier "
                    f"has one {name}; {remedy}"
                )
        return content

    def complete_seeds(self, tier: Tier) -> list[int]:
        """Seeds that every method of the tier has."""
        return [seed for seed in tier.seeds if all(self.job_of(job) for job in tier.jobs if job.seed == seed)]

    def keep(self, job: Job, evaluation: Path, minutes: float, resumed: bool = False) -> None:
        """Keeps a single result, with pictures of one seed; a result without job.json, written last, is ignored.

        Args:
            minutes: that it took.
            resumed: the run had begun earlier, so that its minutes are too few.
        """
        folder = self.singles / job.name
        folder.mkdir(parents=True, exist_ok=True)
        measured = json.loads(evaluation.read_text())
        for point in measured["points"]:
            if point["picture"] and job.pictures:
                target = folder / point["picture"]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(evaluation.parent / point["picture"], target)
            else:
                point["picture"] = None
        (folder / FILE_NAME).write_text(json.dumps(measured) + "\n")
        content = {"job": job.name, "digest": job.digest, "fit": job.overrides, "evaluate": job.evaluation}
        content |= {"minutes": minutes, **({"resumed": True} if resumed else {})}
        write_json(folder / "job.json", {**content, **self.made_by, **self.notes})

    def take_over(self, job: Job) -> bool:
        """Copies the result of the same job, made by the same, from another tier, if there is one."""
        folder = self.singles / job.name
        for path in sorted(self.singles.glob(f"*/{job.key}/job.json")):
            content = read_keys(path)
            if self._is_result_of(job, content):
                shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns("job.json"), dirs_exist_ok=True)
                write_json(folder / "job.json", {**content, "job": job.name})
                return True
        for path in sorted(self.tiers.glob(f"*/evaluations{SUFFIX}")):
            content = self.own(path.parent.name).get(job.key, {})
            if self._is_result_of(job, content):
                (evaluation,) = self._read(path.parent.name, [job.key])
                write_evaluation(replace(evaluation, path=folder / FILE_NAME))
                write_json(folder / "job.json", {**content, "job": job.name})
                return True
        return False

    def _is_result_of(self, job: Job, content: Mapping[str, Any]) -> bool:
        made_by = {name: content.get(name) for name in self.made_by}
        return (content.get("digest"), made_by) == (job.digest, dict(self.made_by))

    def base(self, tier: str) -> Path | None:
        """An evaluation file with the tier's base model: the first single result's, or one from the tier's file."""
        results = [path.parent for path in self.singles.glob(f"{tier}/*-s*/job.json")]
        first = min(results, key=lambda path: (int(path.name.rpartition("-s")[2]), path.name), default=None)
        if first is not None:
            return first / FILE_NAME
        held = next(iter(self.held(tier)), None)
        if held is None:
            return None
        path = self.singles / tier / "base.json"
        with self._writing:
            write_evaluation(replace(read_evaluations(Path(self.where(tier, held)))[0], path=path))
        return path

    def gather(self, tier: Tier) -> list[int]:
        """Adds seeds that are now complete to the tier's file, and returns them."""
        complete = self.complete_seeds(tier)
        new = [job for job in tier.jobs if job.seed in complete and job.key not in self.held(tier.name)]
        jobs = {job.key: content for job in new if (content := self.job_of(job))}
        taken = {name: home for name, content in jobs.items() if (home := self._home(name, content))}
        if made := [job for job in new if job.key not in taken]:
            path = self.file(tier.name)
            evaluations = read_bundle(path) if path.is_file() else []
            evaluations += [read_evaluation(self.singles / job.name) for job in made]
            own = self.own(tier.name) | {job.key: jobs[job.key] for job in made}
            write_bundle(path, sorted(evaluations, key=lambda each: _place(each, tier)), own)
            self._jobs[tier.name] = own
        if taken:
            self._taken = (self._taken or {}) | {tier.name: self._taken_over(tier.name) | taken}
            write_json(self.tiers / TAKEN_OVER, self._taken)
        return sorted({job.seed for job in new})

    def _home(self, name: str, content: Mapping[str, Any]) -> str | None:
        """The first tier whose file has this very result, if there is one."""
        for path in sorted(self.tiers.glob(f"*/evaluations{SUFFIX}")):
            if {**self.own(path.parent.name).get(name, {}), "job": content["job"]} == content:
                return path.parent.name
        return None

    def comparable(self, tier: Tier) -> list[str]:
        """METHOD-sSEED of the complete seeds, in the order of the report."""
        seeds = self.complete_seeds(tier)
        return [f"{method}-s{seed}" for method in tier.methods for seed in seeds]


def _place(evaluation: Evaluation, tier: Tier) -> tuple[int, int]:
    """In the plan's order of methods; methods that it no longer has come last."""
    index = tier.methods.index(evaluation.method) if evaluation.method in tier.methods else len(tier.methods)
    return index, evaluation.seed

"""A run's checkpoints as points: loaded into one policy, one after the other, and measured as `fit` measures."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from drift_pl.builders.checkpoint_weights import Checkpoint, load_weights, refuse_other_shapes, without_warm_start
from drift_pl.builders.run import build_policy
from drift_pl.builders.scoring import build_evaluation_plan, build_evaluator, build_judges, prompts_of
from drift_pl.config.batches import derive_batches
from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.errors import naming
from drift_pl.evaluation.evaluator import Evaluated
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder, read_prompts
from drift_pl.scoring.protocol import move
from drift_pl.scoring.rewards import Judge
from drift_pl.training.callbacks.evaluation import EvaluationPlan, evaluate_policy


class WatchedEncoder(PromptEncoder):
    """Tells how far an evaluation is: it asks for each prompt once, when it begins with it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.begun: Callable[[], None] = lambda: None

    def __call__(self, prompts: Sequence[str], device: torch.device | str = "cpu") -> Any:
        self.begun()
        return super().__call__(prompts, device)


class Bench:
    """Everything that measuring needs; weights come and go.

    Args:
        config: the run's, with what the user wants measured otherwise.
        plan: of held-out evaluation; its `test_prompts` are measured.
        judges: held-out ones besides the config's.
        device: where to.
        autocast: the precision's context.

    Raises:
        UserError: something that the config names cannot be loaded.
    """

    def __init__(
        self,
        config: Config,
        plan: EvaluationPlan,
        judges: Sequence[RewardConfig],
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.plan, self._device, self._autocast = plan, device, autocast
        self.evaluator = build_evaluator(config, build_judges(config.rewards, "rewards"))
        own = self.evaluator.heldout_judges
        self.evaluator = replace(self.evaluator, heldout_judges=[*own, *_numbered(build_judges(judges, "judges"), own)])
        self.policy = build_policy(without_warm_start(config))
        self.encode = WatchedEncoder(self.policy)
        self._parameters = dict(self.policy.trainable_parameters())
        self.policy.network.to(device)
        self.policy.to(device)
        self.evaluator.to(device)
        for judge in self.evaluator.judges:
            move(judge.reward, device)

    def refuse_other_runs(self, checkpoints: Sequence[Checkpoint], rank: int) -> None:
        """`refuse_other_shapes`, before any is measured."""
        for checkpoint in checkpoints:
            refuse_other_shapes(self._parameters, checkpoint, rank)

    def base(self) -> Evaluated:
        """The model before fine-tuning: the adapter is off, and nothing is mixed in."""
        with self.policy.reference():
            return self._measure(replace(self.plan, importance_power=None))

    def point(
        self, checkpoint: Checkpoint, scale: float, power: float | None, reference: Tensor | None = None
    ) -> Evaluated:
        """A checkpoint, its adapter's output multiplied by `scale`, under importance guidance of `power`.

        Args:
            reference: the base model's embeddings, for measures of drift.
        """
        load_weights(self._parameters, checkpoint)
        with self.policy.adapter_scale(scale):
            return self._measure(replace(self.plan, importance_power=power), reference)

    def _measure(self, plan: EvaluationPlan, reference: Tensor | None = None) -> Evaluated:
        prompts, seeds, context = plan.test_prompts, plan.test_seeds, self._autocast()
        return evaluate_policy(
            self.evaluator, plan, self.policy, self.encode, prompts, seeds, self._device, context, reference
        )


def evaluation_plan(config: Config, prompts: str) -> EvaluationPlan:
    """The run's plan of held-out evaluation, with the prompts to be measured as its `test_prompts`."""
    if prompts not in ("test", "tuning"):
        with naming("prompts"):
            read_prompts(prompts)  # what is wrong with it is told in the words of this command
    plan = build_evaluation_plan(config)
    return replace(plan, test_prompts=plan.tuning_prompts) if prompts == "tuning" else plan


def describe_protocol(config: Config, plan: EvaluationPlan, judges: Sequence[RewardConfig]) -> dict[str, Any]:
    """All that makes two measurements comparable, as evaluation files hold it."""
    evaluation, policy = config.evaluation, config.policy
    return {
        "prompts": list(plan.test_prompts),
        "seeds_per_prompt": plan.test_seeds,
        "steps": plan.steps,
        "guidance_scale": float(plan.guidance_scale),
        "negative_prompt": plan.negative_prompt,
        "resolution": policy.resolution if plan.resolution is None else plan.resolution,
        "precision": config.trainer.precision,
        "policy": f"{policy.family} {policy.pretrained}",
        "judges": [f"{_named(judge)} x {judge.weight}" for judge in config.rewards],
        "heldout_judges": [_named(judge) for judge in [*evaluation.rewards, *judges]],
        "encoder": _named(evaluation.encoder),
        "lpips": _named(evaluation.lpips),
        "measures": [*map(_named, evaluation.measures), *evaluation.extra],
        "vendi_order": float(evaluation.vendi_order),
    }


def describe_training(config: Config) -> dict[str, Any]:
    """Length of the whole run and digest of its prompts: what runs must share for a fair comparison."""
    batches, iterations = derive_batches(config), config.trainer.iterations
    prompts = prompts_of(config, "train")
    return {
        "iterations": iterations,
        "images": iterations * batches.images_per_iteration,
        "optimiser_steps": iterations * batches.optimizer_steps_per_iteration,
        "prompts_digest": hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:12],
    }


def _named(thing: NamedConfig) -> str:
    return f"{thing.name} {thing.args}"


def _numbered(judges: Sequence[Judge], taken: Sequence[Judge]) -> list[Judge]:
    """Judges under names that no other has: the second of a name is NAME#2."""
    names = [judge.name.partition("#")[0] for judge in taken]
    numbered = []
    for judge in judges:
        name = judge.name.partition("#")[0]
        names.append(name)
        count = names.count(name)
        numbered.append(replace(judge, name=name if count == 1 else f"{name}#{count}"))
    return numbered

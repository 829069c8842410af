"""A run's checkpoints as points: loaded into one policy, one after the other, and measured as `fit` measures."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drift_pl.build import build_policy
from drift_pl.build_scoring import build_evaluation_plan, build_evaluator, build_judges
from drift_pl.config import Config, NamedConfig, RewardConfig
from drift_pl.config_checks import derive_batches
from drift_pl.errors import UserError
from drift_pl.evaluation import Evaluated
from drift_pl.policies.protocol import Policy
from drift_pl.prompts import PromptEncoder, read_prompts
from drift_pl.scoring.judges import Judge
from drift_pl.scoring.protocol import move
from drift_pl.training.callbacks.evaluation import EvaluationPlan, evaluate_policy
from drift_pl.training.checkpointing import checkpoint_iteration, read_checkpoint


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint without keeping its weights.

    Attributes:
        weights: which are measured: `average` (the EMA) or `live`.
        digest: twelve hex digits of these weights.
        shapes: of the trained parameters, by their names in the policy's network.
    """

    path: Path
    iteration: int
    weights: str
    digest: str
    shapes: dict[str, tuple[int, ...]]


def read_checkpoints(paths: Sequence[Path], identity: str, which: str) -> list[Checkpoint]:
    """Checkpoints in the order of iterations; last.ckpt only if no other is of its iteration.

    Args:
        identity: of the run that they belong to.
        which: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: a file is none of this package's checkpoints, or of another run.
    """
    found: list[Checkpoint] = []
    for path in sorted(paths, key=lambda path: path.name == "last.ckpt"):
        content = read_checkpoint(path)
        if content["run_identity"] != identity:
            raise UserError(
                f"ckpt_path={path} is of the run {content['run_identity']}, and the config.yaml beside it is of "
                f"{identity}: give checkpoints that lie in the folder of their own run"
            )
        iteration = checkpoint_iteration(content)
        if path.name == "last.ckpt" and any(other.iteration == iteration for other in found):
            continue
        weights, label = trained_weights(content, which)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        found.append(Checkpoint(path, iteration, label, _digest(weights), shapes))
    return sorted(found, key=lambda checkpoint: checkpoint.iteration)


def trained_weights(content: Mapping[str, Any], which: str) -> tuple[dict[str, Tensor], str]:
    """Parameters by their names in the policy's network, and whether they are the `average` or `live`."""
    average = content.get("average")
    if which == "average" and average is not None:
        return {name: value for name, value in average.items() if name != "num_updates"}, "average"
    state = content["state_dict"]
    return {name.removeprefix("network."): state[name] for name in state if name.startswith("network.")}, "live"


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
        # the checkpoint's weights replace those of a warm start, whose file may be gone
        lora = replace(config.policy.lora, pretrained=None)
        self.policy = build_policy(replace(config, policy=replace(config.policy, lora=lora)))
        self.encode = WatchedEncoder(self.policy)
        self._parameters = dict(self.policy.trainable_parameters())
        self.policy.network.to(device)
        self.policy.to(device)
        self.evaluator.to(device)
        for judge in self.evaluator.judges:
            move(judge.reward, device)

    def refuse_other_adapters(self, checkpoints: Sequence[Checkpoint], rank: int) -> None:
        """Checkpoints must fit the adapter that the run's config describes.

        Raises:
            UserError: names or shapes differ.
        """
        own = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}
        for checkpoint in checkpoints:
            for name in sorted(own.keys() | checkpoint.shapes.keys()):
                ours, theirs = own.get(name), checkpoint.shapes.get(name)
                if ours != theirs:
                    raise UserError(
                        f"ckpt_path={checkpoint.path}: its {name} is {_shape(theirs)}, and {_shape(ours)} in the "
                        f"adapter of config.yaml (policy.lora.rank={rank}): they are of different runs"
                    )

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
        weights, _ = trained_weights(read_checkpoint(checkpoint.path), checkpoint.weights)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
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
        read_prompts(prompts, "prompts")  # what is wrong with it is told in the words of this command
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
    prompts = read_prompts(config.prompts.train, "prompts.train")
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


def _digest(weights: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:12]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))

"""The model cards of `python -m drift_pl.export`: what they say is what config.yaml and the measurements say."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from runs import TinyWorld

from drift_pl.config.loading import build_config, parse
from drift_pl.config.schema import Config, EncoderConfig
from drift_pl.evaluation.record import Evaluation
from drift_pl.export import main
from drift_pl.policies.export import PipelineFacts
from drift_pl.reports.card_facts import Base, Weights, front_matter
from drift_pl.reports.model_card import Export, describe_levers, model_card


def card_of(tiny_run: Path, out: Path, *argv: str, checkpoint: str = "") -> str:
    assert main([f"ckpt_path={tiny_run / checkpoint}", f"out={out}", *argv]) == 0
    return (out / "README.md").read_text()


def rows_of(card: str) -> Iterator[tuple[str, list[str]]]:
    for line in card.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            yield cells[0].strip("`"), cells[1:]


@pytest.fixture
def unmeasured(tiny_run: Path, tmp_path: Path) -> Path:
    """The run without what `python -m drift_pl.evaluate` may have left there."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation*")))


def test_the_card_says_what_the_run_was(unmeasured: Path, evaluated_world: TinyWorld, tmp_path: Path) -> None:
    """Four iterations of 4 prompts x 4 images; the reward, the levers and their settings are those of config.yaml."""
    card, root = card_of(unmeasured, tmp_path / "mine"), evaluated_world.root
    head = front_matter(tmp_path / "mine" / "README.md")
    assert head == {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["lora", "text-to-image", "reinforcement-learning", "diversity", "drift_pl"],
    }
    for part in (
        "# mine\n",
        "average (EMA)",
        f"| base model | `{root}/pipeline` |",
        f"`pickscore` x 1 (`{{pretrained: {root}/preference}}`)",
        "| iterations | 4 of 4 |",
        "| images | 64 ",
        "rank 8, alpha 16",
        "- selection: `rule=band`, `kappa=2.0`, `statistics=mean`\n",
        "- prompting: `rule=embedding_noise`, `update=varied`, `scale=0.1`",
        "- shaping: `weight=6.0`, ",
        "Diversity by `pooled",
        f"That of the base model: see `{root}/pipeline`.",
    ):
        assert part in card, part


def test_the_table_is_that_of_the_summary_for_its_own_weights_alone(unmeasured: Path, tmp_path: Path) -> None:
    summary = json.loads((unmeasured / "summary.json").read_text())
    rows = dict(rows_of(card_of(unmeasured, tmp_path / "last")))
    assert list(rows) == ["reward", "pairwise_distance", "pairwise_lpips", "vendi", "heldout/jpeg_compressibility",
                          "rke", "fid"]  # fmt: skip
    for name, cells in rows.items():
        for which, cell in zip(("base", "tuned"), cells, strict=True):
            value = summary[which].get(name)
            assert cell == "-" if value is None else float(cell) == pytest.approx(value, rel=1e-3)
    others = {"live": ("weights=live",), "early": ()}
    for name, argv in others.items():
        checkpoint = "checkpoints/iteration-000002.ckpt" if name == "early" else ""
        card = card_of(unmeasured, tmp_path / name, *argv, checkpoint=checkpoint)
        assert "These weights have not been measured" in card
        assert not list(rows_of(card))
    (unmeasured / "summary.json").write_text("{")
    assert main([f"ckpt_path={unmeasured}", f"out={tmp_path / 'no'}"]) == 2
    assert not (tmp_path / "no").exists()


def test_the_table_of_an_evaluation_has_the_intervals_of_these_weights(
    tiny_run: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    card = card_of(tiny_run, tmp_path / "early", checkpoint="checkpoints/iteration-000002.ckpt")
    assert "| | base | iteration 2 |\n" in card
    value = evaluation.points[1].values["reward"]
    assert dict(rows_of(card))["reward"][1] == f"{value.mean:.4g} [{value.low:.4g}, {value.high:.4g}]"
    assert "2 held-out prompts x 2 images, 2 deterministic steps, guidance 1." in card


def test_a_base_on_the_hub_gives_its_id_and_its_license(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "card.md"
    card.write_text("---\nlicense: other\nlicense_name: community\nlicense_link: LICENSE.md\n---\n# A model\n")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file: str(card))
    base = Base("org/model", None)
    assert base.hub_id == "org/model"
    assert base.license() == {
        "license": "other",
        "license_name": "community",
        "license_link": "https://huggingface.co/org/model/blob/main/LICENSE.md",
    }
    card.write_text("# A model\n---\nlicense: mit\n---\n")
    assert base.license() == {}
    card.write_text("---\nlicense: [\n---\n")
    assert base.license() == {}

    def offline(*_: str) -> str:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    assert base.license() == {}


def test_the_card_of_a_base_in_a_package(tmp_path: Path) -> None:
    """The built-in models are under the package's license, which the card beside their folder states."""
    name = "pkg:drift_pl.builtin/weights/pipeline"
    folder = Path(sys.modules["drift_pl"].__path__[0]) / "builtin" / "weights" / "pipeline"
    assert Base(name, folder).license() == {"license": "apache-2.0"}
    assert Base(str(folder), folder).license() == {}  # a card beside anyone's folder is of something else


def test_levers_that_are_off_and_rivals_are_named() -> None:
    config = Config()
    assert describe_levers(config) == {"selection": "off", "prompting": "off", "shaping": "off"}
    config.incentive.method, config.incentive.args = "dra", {"weight": 2}
    config.incentive.selection.rule, config.incentive.selection.keep = "max_variance", 3
    config.incentive.prompting.rule = "variants"
    config.incentive.prompting.templates = ["a photo of {prompt}"]
    config.incentive.shaping.weight, config.incentive.shaping.normalise = 1.0, "minmax"
    config.incentive.shaping.encoders = [EncoderConfig(name="dino", args={}, weight=2.0)]
    levers = describe_levers(config)
    assert levers["method"] == "`dra` `{weight: 2}`"
    assert levers["selection"] == "`rule=max_variance`, `keep=3`"
    assert levers["prompting"] == "`rule=variants`, `update=varied`, `templates=[a photo of {prompt}]`, `share=1.0`"
    assert "`floor=0.05`" in levers["shaping"]
    assert "gate_quantile" not in levers["shaping"]
    assert "weight: 2.0" in levers["shaping"]
    assert "encoder=" not in levers["shaping"]


def test_a_hub_card_is_a_valid_block_of_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_pl.reports.card_facts._card_on_hub", lambda name: [])
    config = build_config([("experiment", "pickscore_div")])
    weights = Weights(10, "live", "0" * 12)
    for form, relation in (("lora", "adapter"), ("full", "finetune")):
        pipeline = PipelineFacts("StableDiffusion3Pipeline", (), (), "flow")
        export = Export("mine", form, weights, Base("org/model", None), pipeline, "-")
        card = model_card(config, "01234567", export)
        head = yaml.safe_load(card.split("---")[1])
        assert (head["base_model"], head["base_model_relation"]) == ("org/model", relation)
        assert ("lora" in head["tags"]) == (form == "lora")
        assert "license" not in head
        assert "That of the base model: see https://huggingface.co/org/model." in card
        assert ("from_pretrained('org/model')" in card) == (form == "lora")
        assert ("load_lora_weights" in card) == (form == "lora")


@pytest.mark.parametrize(
    ("experiment", "says"),
    [
        ("pickscore_nft", "without noise (dpm2), 10 steps, none of them trained, guidance 1"),
        ("pickscore_div", "flow_sde, 10 steps, 9 of them trained, noise level 0.7, guidance 4.5"),
    ],
)
def test_the_card_says_how_rollouts_were_sampled(monkeypatch: pytest.MonkeyPatch, experiment: str, says: str) -> None:
    """Catches in reports/model_card.py: the noise of steps that had none; the solver left out."""
    monkeypatch.setattr("drift_pl.reports.card_facts._card_on_hub", lambda name: [])
    pipeline = PipelineFacts("StableDiffusion3Pipeline", (), (), "flow")
    export = Export("mine", "lora", Weights(10, "live", "0" * 12), Base("org/model", None), pipeline, "-")
    assert says in model_card(build_config([("experiment", experiment)]), "01234567", export)


@pytest.mark.parametrize(
    ("overrides", "objective"),
    [
        (["objective.loss=surrogate", "objective.clip_range=0.01"], "`surrogate`, clip range 0.01, KL weight 0.2"),
        (["objective.loss=flow_dppo", "objective.kl_limit=1e-5"], "`flow_dppo`, KL limit 1e-05, KL weight 0.2"),
        (["objective.loss=nft", "policy.guidance_scale=1"], "`nft` on policy, at 4 noise levels, KL weight 0.2"),
        (
            ["objective.loss=awm", "policy.guidance_scale=1", "objective.clip_range=1"],
            "`awm`, clip range 1, at 4 noise levels, KL weight 0.2",
        ),
        (["objective.loss=my_update:Reinforce"], "`my_update:Reinforce`"),
        (
            ["objective.loss=my_update:Reinforce", "objective.args={baseline: 0.5}"],
            "`my_update:Reinforce` (`{baseline: 0.5}`)",
        ),
    ],
)
def test_the_card_names_the_update_and_what_acts_under_it(
    monkeypatch: pytest.MonkeyPatch, overrides: list[str], objective: str
) -> None:
    """Catches in reports/model_card.py: a clip range and a KL weight of an update of one's own, which may have neither;
    steps that it is said to train on."""
    monkeypatch.setattr("drift_pl.reports.card_facts._card_on_hub", lambda name: [])
    settings = ["experiment=shapes_flowgrpo", "objective.kl_weight=0.2", "objective.learning_rate=0.5", *overrides]
    pipeline = PipelineFacts("StableDiffusion3Pipeline", (), (), "flow")
    export = Export("mine", "lora", Weights(10, "live", "0" * 12), Base("org/model", None), pipeline, "-")
    card = model_card(parse(settings).config, "01234567", export)
    assert f"| objective | {objective}, learning rate 0.5, EMA decay " in card
    assert ("kept for the update" in card) == ("my_update" in objective)
    assert "a stock pipeline" not in card


def test_the_card_names_the_lora_that_the_run_started_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exported adapter holds both; whoever shares it states the first one's terms too.

    Catches in reports/model_card.py: a warm start left out.
    """
    monkeypatch.setattr("drift_pl.reports.card_facts._card_on_hub", lambda name: [])
    pipeline = PipelineFacts("StableDiffusion3Pipeline", (), (), "flow")
    export = Export("mine", "lora", Weights(10, "live", "0" * 12), Base("org/model", None), pipeline, "-")
    first = ("policy.lora.pretrained", "org/first-lora")
    for settings, said in ([], ""), ([first], ", started from `org/first-lora`"):
        card = model_card(build_config([("experiment", "pickscore_div"), *settings]), "01234567", export)
        assert f"| trained | a LoRA of rank 32, alpha 64{said}: " in card

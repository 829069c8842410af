"""Model folders that are not what they should be: parts missing, of another family, damaged; adapters, devices."""

from campaign.inputs.rows import (
    Content,
    Row,
    cut,
    drop,
    folder,
    hole,
    json_with,
    link_to,
    put,
    row,
    tensors_with,
    with_files,
)

PIPELINE = "fit policy.pretrained=./pipeline"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def pipeline(name: str, content: Content, *says: str) -> Row:
    """A copy of the model with one file changed."""
    return with_files({f"pipeline/{name}": content}, PIPELINE, "policy.pretrained=", "/pipeline: ", *says)


def text_of_transformer(key: str, value: object) -> Row:
    return pipeline("transformer/config.json", json_with(put(key, value=value)))


PIPELINES = [
    pipeline("model_index.json", None, "model_index.json is missing"),
    pipeline("model_index.json", ""),
    pipeline("model_index.json", "[]"),
    pipeline("model_index.json", "null"),
    pipeline("model_index.json", "5"),
    pipeline("model_index.json", "{"),
    pipeline("model_index.json", "{}", "it holds a None, and policy.family=sd3 needs a StableDiffusion3Pipeline"),
    pipeline("model_index.json", b"\xff\xfe"),
    pipeline("model_index.json", "[" * 100_000),
    pipeline("model_index.json", json_with(put("_class_name", value="FluxPipeline")), "it holds a FluxPipeline"),
    pipeline("model_index.json", json_with(put("_class_name", value=["a"])), "it holds a ['a']"),
    pipeline("model_index.json", json_with(put("vae", value=["os", "system"]))),
    pipeline("model_index.json", json_with(put("vae", value=["diffusers", "NoSuchModel"]))),
    pipeline("model_index.json", json_with(put("vae", value=None))),
    pipeline("model_index.json", json_with(put("vae", value=[None, None]))),
    pipeline("model_index.json", json_with(put("vae", value=5))),
    pipeline("model_index.json", json_with(put("vae", value="text"))),
    pipeline("model_index.json", json_with(put("vae", value=[]))),
    pipeline("model_index.json", json_with(put("text_encoder_3", value=5))),
    pipeline("model_index.json", json_with(drop("transformer"))),
    pipeline("model_index.json", json_with(drop("scheduler"))),
    pipeline("model_index.json", json_with(drop("tokenizer"))),
    pipeline("transformer", None),
    pipeline("transformer/config.json", None),
    pipeline("transformer/config.json", "{}"),
    pipeline("transformer/config.json", "[]"),
    pipeline("transformer/config.json", "{"),
    pipeline("transformer/config.json", cut(0.5)),
    text_of_transformer("num_layers", "two"),
    with_files(
        {"pipeline/transformer/config.json": json_with(put("num_layers", value=-1))}, PIPELINE, "policy.lora.targets: "
    ),
    text_of_transformer("num_layers", None),
    text_of_transformer("num_attention_heads", 0),
    text_of_transformer("attention_head_dim", 7),
    text_of_transformer("in_channels", 5),
    text_of_transformer("patch_size", 0),
    text_of_transformer("sample_size", "x"),
    text_of_transformer("joint_attention_dim", 3),
    with_files(
        {"pipeline/transformer/config.json": json_with(put("pos_embed_max_size", value=0))},
        PIPELINE,
        "largest resolution",
    ),
    pipeline(f"transformer/{WEIGHTS}", None),
    pipeline(f"transformer/{WEIGHTS}", b""),
    pipeline(f"transformer/{WEIGHTS}", b"not weights at all"),
    pipeline(f"transformer/{WEIGHTS}", b"\xff" * 64),
    pipeline(f"transformer/{WEIGHTS}", cut(0.5)),
    pipeline(f"transformer/{WEIGHTS}", cut(0.999)),
    pipeline(f"transformer/{WEIGHTS}", hole(4096)),
    pipeline(f"transformer/{WEIGHTS}", tensors_with(dict.clear)),
    pipeline(f"transformer/{WEIGHTS}", tensors_with(dict.popitem)),
    pipeline(
        f"transformer/{WEIGHTS}",
        tensors_with(lambda tensors: tensors.update({"renamed": tensors.pop(next(iter(tensors)))})),
    ),
    pipeline(
        f"transformer/{WEIGHTS}",
        tensors_with(lambda t: t.update({name: t[name][:1].clone() for name in [*t][:1]})),
    ),
    pipeline("vae", None),
    pipeline("vae/config.json", "null"),
    pipeline("vae/config.json", json_with(put("latent_channels", value=3))),
    pipeline(f"vae/{WEIGHTS}", cut(0.5)),
    pipeline(f"vae/{WEIGHTS}", tensors_with(dict.popitem)),
    pipeline("scheduler", None),
    pipeline("scheduler/scheduler_config.json", "[]"),
    pipeline("scheduler/scheduler_config.json", "{"),
    pipeline("scheduler/scheduler_config.json", json_with(put("shift", value="x"))),
    pipeline("scheduler/scheduler_config.json", json_with(put("num_train_timesteps", value=0))),
    pipeline("tokenizer", None),
    pipeline("tokenizer/tokenizer.json", "{}"),
    pipeline("tokenizer/tokenizer.json", "[]"),
    pipeline("tokenizer/tokenizer.json", cut(0.5)),
    pipeline("tokenizer/tokenizer_config.json", "5"),
    pipeline("text_encoder", None),
    pipeline("text_encoder/config.json", "{}"),
    pipeline("text_encoder/config.json", "[]"),
    pipeline("text_encoder/config.json", json_with(put("hidden_size", value="x"))),
    pipeline("text_encoder/model.safetensors", cut(0.5)),
    pipeline("text_encoder/model.safetensors", b""),
    pipeline("text_encoder/model.safetensors", None),
    row("fit policy.pretrained=./nowhere", "policy.pretrained=./nowhere", "does not exist", "org/model"),
    row("fit policy.pretrained=WORLD/lpips", "model_index.json is missing"),
    row("fit policy.pretrained=WORLD/train.txt", "policy.pretrained="),
    row("fit policy.pretrained=.", "model_index.json is missing"),
    row("fit policy.pretrained=/", "model_index.json is missing"),
    row("fit policy.pretrained=", "policy.pretrained"),
    with_files({}, "fit prompts.train=pkg:", "prompts.train=pkg:"),
    with_files({}, "fit prompts.train=pkg:math/x.txt", "prompts.train=pkg:math/x.txt"),
    with_files({}, "fit prompts.train=pkg:../x.txt", "prompts.train=pkg:../x.txt"),
    row("fit policy.pretrained=pkg:", "policy.pretrained=pkg:"),
    row("fit policy.pretrained=pkg:math/x", "policy.pretrained=pkg:math/x"),
    row("fit policy.pretrained=pkg:nobody/x", "there is no installed package 'nobody'"),
    row("fit policy.pretrained=pkg:drift_pl.builtin/nothing", "does not exist"),
    row("fit policy.pretrained=pkg:drift_pl.builtin", "model_index.json is missing"),
    row("fit policy.pretrained=org/no-such-model", "policy.pretrained=org/no-such-model", "local folder"),
    row("fit policy.pretrained=org/model@v9", "policy.pretrained=org/model@v9"),
    row("fit policy.pretrained=a/b/c", "policy.pretrained=a/b/c"),
    row("fit policy.pretrained=@", "policy.pretrained=@"),
    row("fit 'policy.pretrained=org/ model'", "policy.pretrained=org/ model"),
    row("fit policy.pretrained=https://huggingface.co/org/model", "policy.pretrained=https://huggingface.co/org/model"),
    with_files({"loop": link_to("loop")}, "fit policy.pretrained=./loop", "policy.pretrained=./loop"),
    row(
        "fit policy.family=flux policy.negative_prompt=", "it holds a StableDiffusion3Pipeline, and policy.family=flux"
    ),
    row("fit policy.family=zimage", "policy.family=zimage needs a ZImagePipeline"),
    row("fit policy.family=sd15 sampler.kind=ddim", "policy.family=sd15 needs a StableDiffusionPipeline"),
    row("fit policy.family=sdxl sampler.kind=ddim", "policy.family=sdxl needs a StableDiffusionXLPipeline"),
    row("fit policy.quantisation=bitsandbytes_4bit", "policy.quantisation=bitsandbytes_4bit"),
]


def scorer(model: str, place: str, name: str, content: Content) -> Row:
    """A copy of a reward's or an encoder's model with one file changed."""
    line = f"fit {place}.args.pretrained=./{model}"
    return with_files({f"{model}/{name}": content}, line, f"{place}.args.pretrained=", f"/{model}")


SCORERS = [
    scorer(model, place, name, content)
    for model, place in (
        ("preference", "rewards.0"),
        ("shaping", "incentive.shaping.encoder"),
        ("evaluation", "evaluation.encoder"),
    )
    for name, content in (
        ("config.json", None),
        ("config.json", "[]"),
        ("config.json", "{"),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", cut(0.5)),
    )
] + [
    scorer("lpips", "evaluation.lpips", "config.json", None),
    scorer("lpips", "evaluation.lpips", "config.json", "[]"),
    scorer("lpips", "evaluation.lpips", "config.json", '{"backbone": "resnet"}'),
    scorer("lpips", "evaluation.lpips", "model.safetensors", None),
    scorer("lpips", "evaluation.lpips", "model.safetensors", cut(0.5)),
    scorer("lpips", "evaluation.lpips", "model.safetensors", tensors_with(dict.popitem)),
    scorer("shaping", "incentive.shaping.encoder", "preprocessor_config.json", None),
    scorer("shaping", "incentive.shaping.encoder", "preprocessor_config.json", "[]"),
    scorer("shaping", "incentive.shaping.encoder", "model.safetensors", tensors_with(dict.popitem)),
    with_files(
        {"preference/tokenizer.json": "{}"}, "fit rewards.0.args.pretrained=./preference", "rewards.0.args.processor="
    ),
    with_files(
        {"preference/processor_config.json": "[]"},
        "fit rewards.0.args.pretrained=./preference",
        "rewards.0.args.processor=",
    ),
    row("fit rewards.0.args.pretrained=WORLD/lpips", "rewards.0.args.pretrained="),
    row("fit rewards.0.args.pretrained=WORLD/shaping", "rewards.0.args.pretrained="),
    row("fit incentive.shaping.encoder.args.pretrained=WORLD/pipeline", "incentive.shaping.encoder.args.pretrained="),
    row("fit incentive.shaping.encoder.name=clip", "incentive.shaping.encoder"),
    row(
        "fit evaluation.encoder.args.pretrained=./nowhere", "evaluation.encoder.args.pretrained=./nowhere", "org/model"
    ),
    row("fit evaluation.encoder.args.pretrained=5", "evaluation.encoder.args.pretrained"),
    row("fit evaluation.encoder.args.pretrained=null", "evaluation.encoder.args.pretrained"),
    row("fit 'evaluation.encoder.args.pretrained=[a]'", "evaluation.encoder.args.pretrained"),
    row("fit evaluation.encoder.args.batch_size=0", "evaluation.encoder.args.batch_size"),
    row("fit evaluation.encoder.args.batch_size=many", "evaluation.encoder.args.batch_size"),
    row("fit evaluation.encoder.args.size=8", "evaluation.encoder.args", "its arguments are: pretrained"),
    row("fit evaluation.lpips.args.pretrained=WORLD/shaping", "evaluation.lpips.args.pretrained="),
    row("fit evaluation.lpips.name=clip", "evaluation.lpips"),
    row("fit incentive.shaping.encoder.name=dreamsim", "dreamsim"),
    row("fit evaluation.encoder.name=lpips", "evaluation.encoder"),
]

LORA = [
    row("fit 'policy.lora.targets=[]'", "policy.lora.targets", "to_q"),
    row("fit 'policy.lora.targets=[\"\"]'", "policy.lora.targets"),
    row("fit 'policy.lora.targets=[nothing]'", "policy.lora.targets: nothing match no layer", "to_q"),
    row("fit 'policy.lora.targets=[to_q, nothing]'", "policy.lora.targets: nothing match no layer"),
    row("fit 'policy.lora.targets=[\".*\"]'", "policy.lora.targets"),
    row("fit 'policy.lora.targets=[q]'", "policy.lora.targets: q match no layer"),
    row("fit policy.lora.rank=1000000000", "policy.lora.rank=1000000000"),
    row("fit policy.lora.rank=99999999999999999999999", "policy.lora.rank"),
    row("fit policy.lora.alpha=-1", "policy.lora.alpha=-1 should be greater than or equal to 1"),
    row("fit policy.lora.pretrained=./nowhere", "policy.lora.pretrained=", "nowhere does not exist"),
    row("fit policy.lora.pretrained=org/no-such-lora", "policy.lora.pretrained=org/no-such-lora"),
    with_files({"a.safetensors": b""}, "fit policy.lora.pretrained=./a.safetensors", "policy.lora.pretrained"),
    with_files({"a.safetensors": b"x" * 100}, "fit policy.lora.pretrained=./a.safetensors", "policy.lora.pretrained"),
    with_files({"a.safetensors": folder}, "fit policy.lora.pretrained=./a.safetensors", "policy.lora.pretrained"),
    with_files({"a.bin": b"\x80\x02"}, "fit policy.lora.pretrained=./a.bin", "policy.lora.pretrained"),
    with_files({"lora": folder}, "fit policy.lora.pretrained=./lora", "policy.lora.pretrained"),
    with_files({"pipeline/a": ""}, "fit policy.lora.pretrained=./pipeline/vae/" + WEIGHTS, "policy.lora.pretrained"),
    with_files({}, "fit policy.lora.pretrained=WORLD/pipeline", "policy.lora.pretrained"),
    with_files({"a.txt": "x"}, "fit policy.lora.pretrained=./a.txt", "policy.lora.pretrained"),
]

HARDWARE = [
    row("fit trainer.accelerator=gpu", "trainer.accelerator=gpu", "trainer.accelerator=cpu"),
    row("fit trainer.accelerator=cuda", "trainer.accelerator=cuda", "trainer.accelerator=cpu"),
    row("fit trainer.accelerator=mps", "trainer.accelerator=mps", "'auto', 'cpu', 'gpu' or 'cuda'"),
    row("fit policy.text_encoder_device=cuda", "policy.text_encoder_device=cuda"),
    row("fit policy.text_encoder_device=cuda:99", "policy.text_encoder_device=cuda:99"),
    row("fit policy.text_encoder_device=nowhere", "policy.text_encoder_device=nowhere"),
    row("fit policy.text_encoder_device=-1", "policy.text_encoder_device=-1"),
    row("fit policy.text_encoder_device=meta", "policy.text_encoder_device=meta"),
    row("fit trainer.precision=16", "trainer.precision=16 should be", "trainer.precision=32-true"),
    row("fit trainer.precision=16-true", "policy.dtype=null: set policy.dtype=float16", "trainer.precision=16-mixed"),
    row(
        "fit trainer.precision=16-mixed policy.dtype=bfloat16",
        "use policy.dtype=float16, or trainer.precision=bf16-mixed",
    ),
    row(
        "fit trainer.precision=bf16-mixed policy.dtype=float16",
        "use policy.dtype=bfloat16, or trainer.precision=16-mixed",
    ),
    row("fit policy.frames=5", "policy.frames=5: policy.family=sd3 makes images", "use policy.frames=1"),
    row("fit policy.family=wan policy.frames=0", "policy.frames=0 should be greater than or equal to 1"),
    row(
        "fit trainer.precision=16-mixed trainer.strategy=fsdp",
        "use trainer.precision=bf16-mixed, or trainer.strategy=ddp",
    ),
    row("fit trainer.devices=1000000", "trainer.devices=1000000 should be less than or equal to 1024"),
    row(
        "evaluate ckpt_path=RUN out=mine.json accelerator=gpu", "accelerator=gpu cannot be used here", "accelerator=cpu"
    ),
    row("evaluate ckpt_path=RUN out=mine.json accelerator=cuda", "accelerator=cuda cannot be used here"),
    row("generate ckpt_path=RUN prompt=a out=new accelerator=gpu", "accelerator=gpu cannot be used here"),
    row("generate ckpt_path=RUN prompt=a out=new accelerator=mps", "accelerator=mps", "'auto', 'cpu', 'gpu' or 'cuda'"),
]

SIZES = [
    row("fit policy.resolution=0", "policy.resolution=0"),
    row("fit policy.resolution=-32", "policy.resolution=-32"),
    row("fit policy.resolution=21", "policy.resolution=21"),
    row("fit policy.resolution=1", "policy.resolution=1"),
    row("fit policy.resolution=1000000000", "policy.resolution=1000000000"),
    row("fit evaluation.resolution=0", "evaluation.resolution=0"),
    row("fit evaluation.resolution=-8", "evaluation.resolution=-8"),
    row("fit evaluation.resolution=21", "evaluation.resolution=21"),
    row("fit evaluation.resolution=1000000000", "evaluation.resolution=1000000000"),
    row("fit seed=99999999999999999999", "seed=99999999999999999999"),
    row("fit seed=9223372036854775808", "seed=9223372036854775808"),
    row("fit sampler.steps=99999999999", "sampler.steps=99999999999"),
    row("fit policy.max_sequence_length=99999999", "policy.max_sequence_length=99999999"),
    row("evaluate ckpt_path=RUN out=mine.json evaluation.resolution=0", "evaluation.resolution=0"),
    row("evaluate ckpt_path=RUN out=mine.json evaluation.resolution=-16", "evaluation.resolution=-16"),
    row("evaluate ckpt_path=RUN out=mine.json evaluation.resolution=21", "evaluation.resolution=21"),
    row("evaluate ckpt_path=RUN out=mine.json policy.pretrained=./nowhere", "policy.pretrained=./nowhere"),
    row("evaluate ckpt_path=RUN out=mine.json policy.pretrained=WORLD/lpips", "policy.pretrained="),
    row(
        "evaluate ckpt_path=RUN out=mine.json evaluation.encoder.args.pretrained=./no", "evaluation.encoder.args.pretr"
    ),
    row("evaluate ckpt_path=RUN out=mine.json 'evaluation.measures=[{name: a}]'", "evaluation.measures.0.name"),
    row("evaluate ckpt_path=RUN out=mine.json 'evaluation.rewards=[{name: a}]'", "evaluation.rewards.0.name"),
    row("generate ckpt_path=RUN prompt=a out=new policy.pretrained=./nowhere", "policy.pretrained=./nowhere"),
    row("export ckpt_path=RUN out=new policy.pretrained=./nowhere", "policy.pretrained=./nowhere"),
    row("export ckpt_path=RUN out=new policy.pretrained=WORLD/lpips", "policy.pretrained="),
]

KINDS = {
    "pipelines": PIPELINES,
    "scorers": SCORERS,
    "adapters": LORA,
    "hardware": HARDWARE,
    "sizes": SIZES,
}

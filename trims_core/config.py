"""Settings of a run: one frozen model per stage, and the only home of defaults.

Fields marked `OPERATIONAL` say where or how fast something is computed (paths, batch sizes, reject
budgets); they do not change results and never enter a fingerprint. Every other field does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    model_validator,
)

from trims_core.decoding_sections import RolloutsConfig
from trims_core.errors import ConfigError, nearest_name
from trims_core.sections import (
    BY_DIGEST,
    LATER,
    OPERATIONAL,
    FilePath,
    Fraction,
    Name,
    Paths,
    Section,
    as_tuple,
    plain,
)
from trims_core.sweep_sections import SweepConfig
from trims_core.variants import EndsConfig, Pads, Role, RoundsVariant, TrimsVariant, Variant, VariantConfig

StageName = Literal[
    "corpus",
    "scores",
    "aligned",
    "buckets",
    "tokens",
    "rollouts",
    "train",
    "sweep",
    "grades",
    "analysis",
    "report",
]
STAGES: Final[tuple[StageName, ...]] = get_args(StageName)
LossNorm = Literal["token", "sequence", "batch"]
DType = Literal["float32", "bfloat16", "float16"]
DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"] | dict[str, int | str]
Level = Annotated[float, Field(gt=0)]


def _as_iso_date(value: object) -> str:
    """A day as text. Raises: ValueError."""
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError(f"{value!r} is no day; expected YYYY-MM-DD, such as 2024-07-26") from None


_TAKEN_KEYWORDS: Final = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "strftime_now",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)


def _check_truths(place: str, values: Mapping[str, Any]) -> None:
    """Raises ValueError for `yes` and the like where nothing says that a truth value is expected: YAML 1.2
    reads a text, which whoever gets it takes for true, or for nothing."""
    for name, value in values.items():
        if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
            raise ValueError(f"{place}.{name}: {value!r} is a text in YAML 1.2; write true or false")


_SECRET: Final = re.compile(r"(api_?key|token|secret|password)$", re.IGNORECASE)


def is_secret(value: object) -> bool:
    """Whether an option's value is the name of an environment variable: {env: NAME}."""
    return isinstance(value, dict) and value.keys() == {"env"}


class CorpusConfig(Section):
    """Where the examples come from: local files (`path`) or a hub data set (`hub`); `path` wins."""

    path: Annotated[Paths | None, BY_DIGEST] = None
    """Local .jsonl, .csv (both also .gz) or .parquet files, read in this order; their bytes enter the
    fingerprint."""
    hub: Annotated[str | None, BY_DIGEST] = None
    hub_config: Annotated[str | None, BY_DIGEST] = None
    split: Annotated[str, BY_DIGEST] = "train"
    revision: Annotated[str | None, BY_DIGEST] = None
    messages_column: str = "messages"
    """List of {role, content}; the last assistant turn is the completion. Not used with prompt_column."""
    prompt_column: str | None = None
    completion_column: str | None = None
    id_column: str = "id"
    """Where it is absent, ids are a hash of the content."""
    system_prompt: str | None = None
    """Put before conversations that have no system message."""
    reasoning: Literal["refuse", "think", "drop"] = "refuse"
    """Reasoning that stands beside the content of assistant turns (reasoning_content, thinking). think: the
    answer begins with it, in lines of its own between <think> and </think>; that of earlier turns is left
    out, as the templates of such models do. drop: all of it is left out. What is left out is counted."""
    on_duplicate: Literal["error", "first"] = "error"
    limit: Annotated[int, Field(ge=1)] | None = None
    rows_per_shard: Annotated[int, Field(ge=1)] = 1024
    """At most so many rows in a shard; shards end where their ids say, so that a row more or less moves one
    boundary, and have about a third as many on average."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.path is None and self.hub is None:
            raise ValueError("no source: set corpus.path (local files) or corpus.hub (a hub data set)")
        if (self.prompt_column is None) != (self.completion_column is None):
            raise ValueError("prompt_column and completion_column go together: set both or neither")
        return self


class TemplateConfig(Section):
    """How conversations become prompts: the chat template, its keywords and its today (docs/data.md)."""

    template: dict[str, JsonValue] = Field(default_factory=dict)
    """Keywords that the chat template reads, such as {enable_thinking: false}."""
    template_file: Annotated[FilePath | None, BY_DIGEST] = None
    """A Jinja file in place of the checkpoint's own template, for base models without one."""
    template_date: Annotated[str, BeforeValidator(_as_iso_date)] = "2024-07-26"
    """Today, as templates see it that write a date into the prompt: YYYY-MM-DD."""

    @model_validator(mode="after")
    def _free_keywords(self) -> Self:
        taken = sorted(set(self.template) & set(_TAKEN_KEYWORDS))
        if taken:
            raise ValueError(
                f"template.{taken[0]}: given to every template already, or decides more than its text;"
                " expected keywords of the template's own. Leave it out; template_file changes the template,"
                " template_date its date"
            )
        _check_truths("template", self.template)
        return self

    def result_fields(self) -> dict[str, Any]:
        """What is set of the template, and everything else."""
        fields = super().result_fields()
        unset = [name for name in ("template", "template_date") if name not in self._set_of_template()]
        return {name: value for name, value in fields.items() if name not in unset}

    def without_template(self) -> Self:
        """The same for whoever renders nothing."""
        default = TemplateConfig()
        return self.model_copy(update={name: getattr(default, name) for name in TemplateConfig.model_fields})

    def _set_of_template(self) -> dict[str, Any]:
        default = TemplateConfig()
        names = TemplateConfig.model_fields
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(default, n)}


class ScoresConfig(TemplateConfig):
    """The teacher, usually an autoregressive model, and how it is run."""

    teacher: str = "vllm"
    """`vllm` (offline engine in a child process), `transformers`, a user's `package.module:Class`, or a
    control for ablations: `student` (a masked diffusion checkpoint, the whole completion masked) or
    `unigram` (token counts of the corpus; `model` gives tokenizer and limits only)."""
    model: Annotated[FilePath, BY_DIGEST]
    """A local checkpoint folder or a hub name."""
    revision: Annotated[str | None, BY_DIGEST] = None
    """Of a hub model; a user's class gets the full commit it stands for, from which the key is made."""
    dtype: DType = "float32"
    max_model_len: Annotated[int, Field(ge=2)] | None = None
    """Longest prompt + completion in teacher tokens; default: the teacher's context."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to a user's teacher class, or to vLLM's engine, as keyword arguments. A secret is given as
    {env: NAME}: it is read from the environment when the teacher is made, neither hashed nor written."""
    max_rejected_fraction: Annotated[Fraction, OPERATIONAL] = 0.0
    batch_size: Annotated[int, Field(ge=1), OPERATIONAL] = 64
    kv_cache_mib: Annotated[int, Field(ge=8), OPERATIONAL] = 64
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1), OPERATIONAL] = 0.7
    max_num_batched_tokens: Annotated[int, Field(ge=1), OPERATIONAL] | None = None
    tensor_parallel_size: Annotated[int, Field(ge=1), OPERATIONAL] = 1
    start_timeout_s: Annotated[float, Field(gt=0), OPERATIONAL] = 600.0
    reply_timeout_s: Annotated[float, Field(gt=0), OPERATIONAL] = 600.0
    """vLLM: an engine that says nothing for so long while it scores is given up."""

    @model_validator(mode="after")
    def _no_open_secrets(self) -> Self:
        _check_truths("options", self.options)
        for name, value in self.options.items():
            if _SECRET.search(name) and not is_secret(value):
                raise ValueError(
                    f"options.{name}: looks like a secret, and settings are written into the store; give the"
                    f" name of an environment variable instead: {name}: {{env: NAME}}"
                )
        return self

    def result_fields(self) -> dict[str, Any]:
        """Without secrets."""
        fields = super().result_fields()
        options = {name: value for name, value in self.options.items() if not is_secret(value)}
        return {**fields, "options": plain(options)}


class BucketsConfig(Section):
    """Difficulty buckets over all student completion tokens."""

    k: Annotated[int, Field(ge=1, le=255)] = 8
    metric: Literal["nll", "entropy"] = "nll"
    supervised_end: Literal["eot", "eos"] = "eot"
    """The token that ends every completion: the student's end of turn (dLLM's habit), or its end of sequence
    (LLaDA's guideline). Supervised padding after it is the end of sequence either way."""


class StudentConfig(TemplateConfig):
    """The masked diffusion model that is tuned."""

    model: Annotated[FilePath, BY_DIGEST]
    revision: Annotated[str | None, BY_DIGEST] = None
    family: Literal["auto", "dream", "llada"] = "auto"
    """auto: what the checkpoint's config.json says (Dream-Coder and DiffuCoder are dream)."""
    dtype: DType = "float32"
    """Type of the weights, or of the arithmetic where they are loaded in 4 bits."""
    load_in_4bit: bool = False
    """Quantise the linear layers to NF4 while loading: 8B in about 6 GB. Needs bitsandbytes."""
    max_rejected_fraction: Annotated[Fraction | None, OPERATIONAL] = None
    """Of the examples, those that its template or tokenizer may refuse; default: as many as the scores may
    reject, none without a teacher."""
    device: Annotated[str, OPERATIONAL] = "auto"
    """A torch device, or auto: the GPU if there is one."""
    device_map: Annotated[DeviceMap | None, OPERATIONAL] = None
    """Spreads one student over several devices for decoding, in place of `device`: auto, or module name ->
    device with Hugging Face's names. In training every process holds a whole student."""


class LoraSettings(Section):
    """LoRA adapter shape; targets by meaning or by the model's module names."""

    r: Annotated[int, Field(ge=1)] = 32
    alpha: Annotated[float, Field(gt=0)] = 64
    dropout: Fraction = 0.05
    targets: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ("all-linear",)


class LaunchConfig(Section):
    """How training processes are started; another topology gives the same result up to rounding."""

    processes: Annotated[int, Field(ge=1)] = 1
    hostfile: FilePath | None = None
    master_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: a free port."""
    grace_s: Annotated[float, Field(gt=0)] = 60.0
    """After SIGTERM: how long training may take to save and exit."""


class TrainingConfig(Section):
    """Fine-tuning, with LoRA or of every weight: what every variant and seed has in common."""

    epochs: Annotated[float, Field(gt=0)] = 30.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps; overrides epochs."""
    max_forwards: Annotated[int | None, Field(ge=1), LATER] = None
    """Forwards of a batch through the student in training; overrides max_steps and epochs. A method that
    needs two for a step (a second view, a pass without gradient) takes half as many steps."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Sequences per optimizer step over all ranks and accumulation steps."""
    micro_batch_size: Annotated[int, Field(ge=1)] = 4
    """Sequences per forward on one rank; accumulation follows from batch_size and launch.processes."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_beta2: Annotated[Annotated[float, Field(ge=0, lt=1)], LATER] = 0.999
    """How slowly AdamW forgets squared gradients (the first beta is 0.9)."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: LoraSettings | None = Field(default_factory=LoraSettings)
    """null: every weight is trained, and the result is a whole checkpoint in `student.dtype`."""
    init_adapter: Annotated[FilePath | None, BY_DIGEST, LATER] = None
    """A PEFT folder of this student to go on from: `lora` has to be of its shape, and wrap what it wraps."""
    keep: Annotated[Literal["last", "best"], LATER] = "last"
    """Which weights are the result: the last ones, or those of the lowest validation loss of content. It is
    looked at before the first step, every eval_steps, and (with best) after the last."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Student tokens; longer sequences lose the end of their completion, and are trained on no end then."""
    pad_to_multiple_of: Annotated[int, Field(ge=1)] = 1
    length_window: Annotated[int, Field(ge=1)] | None = None
    """Batches whose sequences are regrouped by length, so that micro-batches hold similar lengths; 1: none.
    Default: 16, or 1 where a batch is one micro-batch, whose steps would each see one length only."""
    mask_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    loss_norm: LossNorm = "token"
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    eval_steps: Annotated[int, Field(ge=1), OPERATIONAL] = 100
    """How often the held-out examples are looked at; what is kept depends on it with keep: best only."""
    save_steps: Annotated[int, Field(ge=1), OPERATIONAL] = 100
    """How often a checkpoint is kept: what a crash may cost."""
    gradient_checkpointing: Annotated[bool, OPERATIONAL] = False
    deepspeed: Annotated[FilePath | None, BY_DIGEST] = None
    """A DeepSpeed JSON file; default: configs/deepspeed/zero2.json's settings, built in."""
    report_to: Annotated[
        tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...],
        BeforeValidator(as_tuple),
        OPERATIONAL,
    ] = ()
    """Experiment trackers to report to while training; metrics.jsonl is written whatever is chosen."""
    logging_dir: Annotated[FilePath, OPERATIONAL] = "runs"
    """Folder of TensorBoard's files, in sub-folders <name>/<variant>-s<seed>."""
    launch: Annotated[LaunchConfig, OPERATIONAL] = Field(default_factory=LaunchConfig)

    @property
    def window(self) -> int:
        """`length_window`, its default filled in."""
        return self.length_window or (1 if self.micro_batch_size == self.batch_size else 16)

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        per_pass = self.micro_batch_size * self.launch.processes
        if self.launch.hostfile is None and self.batch_size % per_pass:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
                f" × launch.processes {self.launch.processes}; choose a batch_size that is"
            )
        return self

    @model_validator(mode="after")
    def _fits_what_is_trained(self) -> Self:
        problems = []
        if self.lora is None and self.init_adapter is not None:
            problems.append(
                f"init_adapter {self.init_adapter} with lora null: where every weight is trained there is no"
                " adapter to go on with; leave init_adapter out, or merge it (trims export --merge) and name"
                " the merged checkpoint in student.model"
            )
        if self.keep == "best" and not self.validation_fraction:
            problems.append(
                "keep: best with validation_fraction 0: nothing is held out to find the best weights by; set"
                " validation_fraction above 0, or keep: last"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


class TrainConfig(TrainingConfig):
    """Fine-tuning. One adapter, or one checkpoint, per variant and seed."""

    variants: dict[Name, Variant] = Field(
        default_factory=lambda: dict[Name, Variant](trims=TrimsVariant()), min_length=1
    )
    seeds: tuple[int, ...] = (0,)
    pads: Pads = "hidden"
    """End tokens behind an answer, inside the loss (LLaDA's recipe: they teach when to stop); how they are
    masked: hidden (always: none is ever context, as when decoding begins), last (with pads_p_high in a share
    pads_rho of the sequences, like standard tokens in the others), standard (like standard tokens), or none
    (no such ends). Whatever is chosen holds for every order and method."""
    pads_rho: Fraction = 0.5
    """Read with pads: last only."""
    pads_p_high: Fraction = 0.95
    """Read with pads: last only."""
    end_tokens: Annotated[int, Field(ge=0)] = 32
    """At most so many ends behind an answer; each pass over it draws their number. Sequences are
    padded to the longest of the micro-batch; what lies beyond the ends is neither attended nor trained on."""
    end_weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the ends' loss; 0: they are masked and attended, without loss."""
    hide_end_of_turn: bool = False
    """Whether the end of turn is masked like the ends behind it instead of like the answer. With
    buckets.supervised_end: eos that token looks like an end, and is context unless this is set."""

    @model_validator(mode="after")
    def _rounds_divide(self) -> Self:
        per_pass = self.micro_batch_size * self.launch.processes
        wrong = [
            f"variants.{name}: prompts {variant.prompts} × rollouts.samples {variant.rollouts.samples} is"
            f" not a multiple of train.micro_batch_size {self.micro_batch_size} × launch.processes"
            f" {self.launch.processes}; choose one that is"
            for name, variant in self.variants.items()
            if isinstance(variant, RoundsVariant) and variant.batch_size % per_pass
        ]
        if wrong and self.launch.hostfile is None:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _has_reference(self) -> Self:
        asking = [name for name, variant in self.variants.items() if variant.reads_reference]
        if asking and self.lora is None:
            method = self.variants[asking[0]].method
            raise ValueError(
                f"lora: null with variants.{asking[0]} (method {method}): it learns from the student without"
                " its adapter, and there is none; give lora a shape such as {r: 32, alpha: 32}"
            )
        return self

    def ends_of(self, variant: VariantConfig) -> EndsConfig:
        """How a variant's ends are masked and weighed."""
        pads = variant.pads or self.pads
        read: dict[str, Any] = {}
        if pads == "last":
            read |= {"rho": self.pads_rho, "p_high": self.pads_p_high}
        if pads != "none":
            weight, hide = variant.end_weight, variant.hide_end_of_turn
            read["weight"] = self.end_weight if weight is None else weight
            read["hide_end_of_turn"] = self.hide_end_of_turn if hide is None else hide
        return EndsConfig(pads=pads, tokens=self.end_tokens, **read)


class AnalysisConfig(Section):
    """Why models decode as they do, looked at one point of the sweep with its main cache."""

    samples: Annotated[int, Field(ge=0)] = 40
    """Problems of each task whose trajectories the teacher reads, picked by a hash of their ids: the same for
    every model. What needs no teacher is told of all problems."""
    threshold: float | None = None
    """One of sweep.thresholds; default: the middle one by parallelism, as for the report's examples."""
    states: Annotated[int, Field(ge=2)] = 32
    """At most so many states of a trajectory are looked at, evenly spaced, the first and the last among
    them."""
    engine: Literal["vllm", "transformers"] | None = None
    """What runs the teacher here; default: scores.teacher. A small one is read sooner by transformers than
    vLLM has started; values differ in their last digits."""
    batch_size: Annotated[int, Field(ge=1), OPERATIONAL] = 16
    """Canvases that the student fills in one forward."""
    rows_per_call: Annotated[int, Field(ge=1), OPERATIONAL] = 4096
    """Texts that the teacher is given at a time."""


class ReportConfig(Section):
    """What the report shows."""

    title: str | None = None
    examples: Annotated[int, Field(ge=0)] = 6
    player: Annotated[int, Field(ge=0)] = 12
    """Problems of a task whose decoding the page plays; more make it larger."""
    player_mb: Annotated[float, Field(gt=0)] = 3.0
    """Megabytes of the page that they may take; where they need more, fewer are shown, and it says so."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    partial: bool = False
    """Draw what is there although cells are missing or hold other problems; the report then says n of N."""
    mixed: bool = False
    """Compare cells of different machines, number formats or versions, and say so."""
    levels: Annotated[tuple[Level, ...], BeforeValidator(as_tuple)] = (2.5, 4.0, 6.0)
    """Tokens per forward at which methods are compared; one that a method's thresholds do not reach is left
    out and named. If all are, or none is given: round numbers inside the range that all methods share."""
    compare: tuple[tuple[Name, Name], ...] | None = None
    """Pairs a, b whose differences a − b are shown, as in [[trims, trims-random]]; `untuned` is a name too.
    Default: each variant − each baseline (method: standard); of a method's variants that differ in one
    setting the first − the other; each variant − untuned. Fewer pairs give each more power (Holm)."""


class AblateConfig(Section):
    """What `trims ablate` varies around this run (docs/ablations.md); a run itself takes no notice of it."""

    method: str | None = None
    """The variant that every arm trains, and no other; default: the first."""
    mode: Literal["one-at-a-time", "grid"] = "one-at-a-time"
    """An arm for each value with all else as it is, or for each combination of values."""
    factors: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(min_length=1)
    """A setting in full, as with --set (`buckets.k`) → its values; the run's own is added where it is none of
    them."""


class StageResources(Section):
    """What one node of a stage may use. Never changes results."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """GPU slots of its host that each of its processes holds; 0: none, it sees what the environment shows."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes that share its units, with the runners `processes` and `ray`."""
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    """A node that takes longer is stopped; what is finished is kept. None: no limit."""


class Resources(Section):
    """What nodes may use, stage by stage."""

    slots: Annotated[int, Field(ge=1)] | None = None
    """GPU slots of a host; None: the GPUs in CUDA_VISIBLE_DEVICES, else all of the host."""
    nodes: Annotated[int, Field(ge=1)] | None = None
    """Nodes that are made at a time, with the runners `processes` and `ray`; None: one for two cores."""
    fork: bool = True
    """On a host without a GPU: processes that need PyTorch fork from one that has imported it."""
    corpus: StageResources = Field(default_factory=StageResources)
    scores: StageResources = Field(default_factory=StageResources)
    aligned: StageResources = Field(default_factory=StageResources)
    buckets: StageResources = Field(default_factory=StageResources)
    tokens: StageResources = Field(default_factory=StageResources)
    rollouts: StageResources = Field(default_factory=StageResources)
    train: StageResources = Field(default_factory=StageResources)
    sweep: StageResources = Field(default_factory=StageResources)
    grades: StageResources = Field(default_factory=StageResources)
    analysis: StageResources = Field(default_factory=StageResources)
    report: StageResources = Field(default_factory=StageResources)

    def of(self, stage: StageName) -> StageResources:
        """Those of a stage."""
        found: StageResources = getattr(self, stage)
        return found


class TrimsConfig(Section):
    """A whole run."""

    name: Name
    store: Annotated[FilePath, OPERATIONAL] = "data/store"
    runner: Annotated[Literal["sequential", "processes", "ray"], OPERATIONAL] = "sequential"
    """Where nodes are made: one after the other; those that do not depend on each other at the same time, in
    processes of this host; or on the hosts of a Ray cluster that share the store."""
    resources: Annotated[Resources, OPERATIONAL] = Field(default_factory=Resources)
    corpus: CorpusConfig
    scores: ScoresConfig | None = None
    """None: no method of the run needs a teacher."""
    buckets: BucketsConfig = Field(default_factory=BucketsConfig)
    student: StudentConfig
    rollouts: Annotated[RolloutsConfig | None, LATER] = None
    """For methods that are trained on the student's own answers."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    sweep: SweepConfig
    analysis: AnalysisConfig | None = Field(default_factory=AnalysisConfig)
    """None: no trajectories, orders of reveals or calibration."""
    report: ReportConfig = Field(default_factory=ReportConfig)
    ablate: Annotated[AblateConfig | None, OPERATIONAL] = None

    @model_validator(mode="after")
    def _known_now(self) -> Self:
        problems = [*self._missing_sections()]
        if self.scores is not None and self.buckets.metric == "entropy" and self.scores.teacher == "vllm":
            problems.append(
                "buckets.metric: entropy needs the whole distribution, which the vllm teacher does not give;"
                " use scores.teacher: transformers, or metric: nll"
            )
        if self.student.load_in_4bit and self.train.lora is None:
            raise ValueError(
                "train.lora: null with student.load_in_4bit true: weights in 4 bits cannot be trained; set"
                " student.load_in_4bit to false, or give train.lora a shape such as {r: 32, alpha: 64}"
            )
        if "untuned" in self.train.variants:
            problems.append("train.variants: the name 'untuned' is taken by the student before training")
        problems += self._wrong_pairs()
        problems += self._wrong_blocks()
        problems += self._wrong_analysis()
        method = None if self.ablate is None else self.ablate.method
        if method is not None and method not in self.train.variants:
            problems.append(
                f"ablate.method: no variant {method!r}; {nearest_name(method, self.train.variants)}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def given_scores(self) -> ScoresConfig:
        """The section scores. Raises: ConfigError: there is none."""
        if self.scores is None:
            raise ConfigError("scores: this run has no such section; add one with scores.model")
        return self.scores

    @property
    def given_rollouts(self) -> RolloutsConfig:
        """The section rollouts. Raises: ConfigError: there is none."""
        if self.rollouts is None:
            raise ConfigError("rollouts: this run has no such section; add one with rollouts.grader")
        return self.rollouts

    @property
    def max_rejected_by_student(self) -> float:
        """Share of the examples that the student's template or tokenizer may refuse."""
        if self.student.max_rejected_fraction is not None:
            return self.student.max_rejected_fraction
        return 0.0 if self.scores is None else self.scores.max_rejected_fraction

    def needs(self, role: Role) -> bool:
        """Whether a variant is trained on this."""
        return any(variant.needs == role for variant in self.train.variants.values())

    def _missing_sections(self) -> Iterator[str]:
        """Sections that a variant cannot do without."""
        for name, variant in self.train.variants.items():
            method = f"train.variants.{name} (method {variant.method})"
            if variant.reads_buckets and self.scores is None:
                yield (
                    f"{method} reads a teacher's buckets, and there is no section scores; add one with"
                    " scores.model, or choose a method that needs no teacher, such as standard"
                )
            if variant.needs == "rollouts" and self.rollouts is None:
                yield (
                    f"{method} is trained on the student's own answers, and there is no section rollouts;"
                    " add one with rollouts.grader (docs/methods.md)"
                )

    def _wrong_blocks(self) -> Iterator[str]:
        """Variants whose attention the sweep's settings do not fit."""
        sweep = self.sweep
        for name, variant in self.train.variants.items():
            method, length = f"train.variants.{name} (method {variant.method})", variant.block_causal_length
            if length is None and "exact" in sweep.caches(tuned=True):
                yield (
                    f"sweep.cache exact with {method}: its student attends in both directions, so that every"
                    " revealed token changes keys and values before it; use another cache, or sweep"
                    " block-causal students (method d2f) in a run of their own"
                )
            if length is None:
                continue
            for task in sweep.tasks:
                other = sweep.decoding(task).block_length
                if length != other:
                    yield (
                        f"{method} attends in blocks of {length}, and task {task} is decoded in blocks of"
                        f" {other} (sweep.block_length, its profile's, or its own): set both to the same"
                    )

    def _wrong_analysis(self) -> Iterator[str]:
        """A point that nothing is decoded at, and another engine for a teacher that has only its own."""
        chosen, thresholds = self.analysis, self.sweep.thresholds
        if chosen is None:
            return
        if chosen.threshold is not None and chosen.threshold not in thresholds:
            known = ", ".join(f"{value:g}" for value in thresholds)
            yield (
                f"analysis.threshold: {chosen.threshold:g} is none of sweep.thresholds; expected one of"
                f" {known}"
            )
        if chosen.engine is None or self.scores is None:
            return
        if self.scores.teacher not in ("vllm", "transformers"):
            yield (
                f"analysis.engine: {chosen.engine}, and scores.teacher is {self.scores.teacher}; expected"
                " scores.teacher vllm or transformers, whose model it runs. Leave analysis.engine out"
            )

    def _wrong_pairs(self) -> list[str]:
        """What report.compare names that this run does not have."""
        known = [*self.train.variants, *(["untuned"] if self.sweep.untuned else [])]
        problems = []
        for a, b in self.report.compare or ():
            if a == b:
                problems.append(f"report.compare: {a!r} is compared with itself; name two methods")
            wrong = sorted({a, b} - set(known))
            problems += [f"report.compare: no method {name!r}; {nearest_name(name, known)}" for name in wrong]
        return problems

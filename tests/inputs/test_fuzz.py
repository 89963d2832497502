"""Whatever stands in a corpus, a chat template, a config or a config.json: a result, or an error of ours.

`make test-long` tries a hundred times as many.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from trims_core.config import CorpusConfig, TemplateConfig
from trims_core.corpus.stage import first_examples
from trims_core.errors import TrimsError
from trims_core.graph import build_graph
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.settings import load_config
from trims_core.students.checkpoint import read_weights
from trims_core.students.family import read_family
from trims_core.students.tensor_files import tensors_without_values

N = int(os.environ.get("TRIMS_FUZZ_EXAMPLES", "200"))
fuzzed = settings(
    max_examples=N, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)

NUMBERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([10**30, -(10**30), 2**31, 2**63]), st.floats(allow_nan=True)
)
WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "\n",
            "\ufeff",
            "\ud800",
            "a\u0301",
            "ﬁ",
            "\0",
            "<think>",
            "</think>",
            "<|im_end|>",
            "４",
            "nan",
        ]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def tried(outcome: Callable[[], Any]) -> Any:
    """What comes out of it, or the error that a user would read; anything else is a bug."""
    try:
        return outcome()
    except TrimsError as error:
        str(error).encode()  # a terminal can show it
        return error


# --- rows of a corpus

TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": st.one_of(WORDS, VALUES)},
    optional={
        "reasoning_content": VALUES,
        "weight": st.sampled_from([0, 1, 0.5, None, True]),
        "tool_calls": VALUES,
        "name": VALUES,
    },
)
ROW = st.one_of(
    st.fixed_dictionaries(
        {"messages": st.one_of(st.lists(TURN, max_size=4), VALUES)},
        optional={"id": SCALARS, "tools": VALUES, "system": WORDS},
    ),
    st.dictionaries(WORDS, VALUES, max_size=3),
    VALUES,
)


def _line(row: Any) -> bytes:
    return json.dumps(row).encode()


LINES = st.lists(st.one_of(ROW.map(_line), st.binary(max_size=20)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tokenizer(project_root: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(str(project_root / "data/demo/teacher"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(lines=LINES, reasoning=st.sampled_from(["refuse", "think", "drop"]))
@fuzzed
def test_rows_become_examples_or_one_error(
    lines: list[bytes], reasoning: str, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    config = CorpusConfig.model_validate({"path": str(path), "reasoning": reasoning})
    found = tried(lambda: first_examples(config, 10))
    if isinstance(found, TrimsError):
        assert "rows.jsonl" in str(found), "an error names its file"
        return
    rows = Renderer(tokenizer).rows([one.messages for one in found], [one.completion for one in found])
    for at, one in enumerate(found):
        if at not in rows.refused:
            start, end = rows.targets.offset_R1[at : at + 2]
            covered = int(rows.targets.byte_end_T[end - 1]) if end > start else 0
            assert covered == len(one.completion.encode()), "every byte belongs to a token"


# --- chat templates made of parts

PARTS = [
    "{{ m.content }}",
    "{{ m['content'] | trim }}",
    "{{ m.role }}",
    "\n",
    " ",
    "<|im_start|>",
    "<|im_end|>",
    "</s>",
    "<think>\n",
    "</think>\n\n",
    "### ",
    "{{ bos_token }}",
    "{{ strftime_now('%Y') }}",
    "{{ date_string }}",
    "{{ raise_exception('no') }}",
    "{{ m.content.split('</think>')[-1] }}",
    "{{ 1 // 0 }}",
    "{{ undefined.field }}",
    "{% if loop.last %}<|im_end|>{% endif %}",
    "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
    "{% if m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}",
    "{% break %}",
    "{{",
    "{% for %}",
]
HEADERS = ["<|im_start|>assistant\n", "<think>\n", "", "{{ 'a' }}", "[/INST]", "\n", "{{ m.content }}"]
TEMPLATES = st.builds(
    lambda before, inside, ignored, header: (
        f"{before}{{% for m in messages %}}{''.join(inside)}{{% endfor %}}"
        + ("".join(header) if ignored else f"{{% if add_generation_prompt %}}{''.join(header)}{{% endif %}}")
    ),
    st.sampled_from(["", "<|im_start|>", "{{ today }}", "\n"]),
    st.lists(st.sampled_from(PARTS), max_size=6),
    st.booleans(),
    st.lists(st.sampled_from(HEADERS), max_size=2),
)
ANSWERS = st.one_of(
    WORDS.filter(lambda text: "\ud800" not in text),
    st.sampled_from(["4", "<think>\na\n</think>\n\n4", "a</think>4"]),
)


@given(
    template=st.one_of(TEMPLATES, WORDS),
    answers=st.lists(ANSWERS, min_size=1, max_size=3),
    with_system=st.booleans(),
)
@fuzzed
def test_a_template_renders_refuses_rows_or_is_refused(
    template: str, answers: list[str], with_system: bool, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = folder / "template.jinja"
    path.write_bytes(template.encode("utf-8", "surrogatepass"))
    chosen = TemplateConfig.model_validate({"template_file": str(path)})
    renderer = tried(lambda: Renderer(tokenizer, chosen, "scores"))
    if isinstance(renderer, TrimsError):
        return
    system = [{"role": "system", "content": "Be short."}] if with_system else []
    rows = renderer.rows([[*system, {"role": "user", "content": "2+2?"}]] * len(answers), answers)
    ends = list(renderer.end_ids)
    for at in range(len(answers)):
        ids = rows.targets.ids_T[rows.targets.offset_R1[at] : rows.targets.offset_R1[at + 1]].tolist()
        assert ids[-len(ends) :] == ends, "every answer ends as a turn does"
    json.dumps([why.detail for why in rows.refused.values()])


# --- configs

LEAVES = [
    "name",
    "store",
    "corpus.path",
    "corpus.limit",
    "corpus.rows_per_shard",
    "scores.teacher",
    "scores.model",
    "scores.options",
    "scores.template",
    "scores.template_date",
    "scores.max_rejected_fraction",
    "buckets.k",
    "buckets.metric",
    "student.model",
    "student.dtype",
    "student.device_map",
    "train.lr",
    "train.steps",
    "train.seeds",
    "train.variants",
    "train.lora.r",
    "train.deepspeed",
    "sweep.tasks",
    "sweep.rules",
    "report.levels",
    "resources",
    "resources.train.gpus",
    "runner",
    "unknown",
    "train.unknown",
    "corpus",
    "train",
    "",
]
YAML_TEXTS = st.one_of(
    VALUES.map(lambda value: json.dumps(value)),
    st.text(max_size=20),
    st.sampled_from(
        [
            "010",
            "0x10",
            "1:30",
            "yes",
            ".nan",
            "-.inf",
            "1e400",
            "2024-01-01",
            "!!python/name:os.system",
            "*a",
            "&a [*a]",
            "{a: 1, a: 2}",
            "[",
            "~",
            "'",
            "!!binary x",
            "<<: 3",
            "? 1",
            "- 1\n- 2",
            "%YAML 1.1\n---\n1",
            "\t",
            "{1: 2}",
        ]
    ),
)


@given(name=st.sampled_from(LEAVES), text=YAML_TEXTS, in_file=st.booleans())
@fuzzed
def test_a_value_of_a_config_is_taken_or_refused(
    name: str, text: str, in_file: bool, folder: Path, project_root: Path
) -> None:
    raw = yaml.safe_load((project_root / "configs/demo.yaml").read_text())
    path, overrides = folder / "run.yaml", [f"{name}={text}"]
    content = yaml.safe_dump(raw)
    if in_file:
        section, _, field = name.partition(".")
        raw.pop(section, None)
        content = yaml.safe_dump(raw) + (
            f"{section}:\n  {field}: {text}\n" if field else f"{section}: {text}\n"
        )
        overrides = []
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    found = tried(lambda: load_config(path, overrides, env={}))
    if not isinstance(found, TrimsError):
        tried(lambda: build_graph(found))
        json.dumps(found.model_dump(mode="json"), allow_nan=False)


# --- config.json of a student

FIELDS = [
    "model_type",
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "mlp_hidden_size",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "max_sequence_length",
    "vocab_size",
    "embedding_size",
    "mask_token_id",
    "eos_token_id",
    "eot_token_id",
    "pad_token_id",
    "weight_tying",
    "alibi",
    "rms_norm_eps",
    "attention_dropout",
    "mlp_ratio",
    "torch_dtype",
    "activation_type",
    "unknown_key",
    "include_bias",
]
SMALL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 600),
    st.floats(),
    WORDS,
    st.lists(st.integers(-1, 500), max_size=3),
)
ROPE = st.dictionaries(
    st.sampled_from(["rope_type", "rope_theta", "factor", "type", "full_attention"]), SMALL, max_size=3
)


@pytest.fixture(scope="module")
def student(project_root: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project_root / "data/demo/student", folder / "student"))


@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), st.one_of(SMALL, ROPE, VALUES), max_size=3),
    without=st.sets(st.sampled_from(FIELDS), max_size=1),
)
@fuzzed
def test_a_config_json_describes_these_weights_or_is_refused(
    changes: dict[str, Any], without: set[str], student: Path, project_root: Path
) -> None:
    raw = json.loads((project_root / "data/demo/student/config.json").read_text())
    kept = {name: value for name, value in {**raw, **changes}.items() if name not in without}
    (student / "config.json").write_text(json.dumps(kept))
    family = tried(lambda: read_family(student))
    if not isinstance(family, TrimsError):
        tried(lambda: read_weights(student, family, tensors_without_values))

"""No name can lie: every field of the config enters some stage's key, or is marked as one that does not.

The report is left out: it shows, and so hashes, every setting.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from trims_core.config import TrimsConfig
from trims_core.decoding_sections import SamplingConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import canonical_json
from trims_core.graph import build_graph
from trims_core.sections import Operational, Section
from trims_core.settings import parse_config
from trims_core.stage import load_spec
from trims_core.variants import Variant

PLAIN: dict[str, Any] = {
    "name": "names",
    "corpus": {"path": "a.jsonl"},
    "scores": {"model": "teacher", "teacher": "transformers"},
    "student": {"model": "student"},
    "train": {"variants": {"a": {}}},
    "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
}
METHODS = {get_args(one)[1].tag: get_args(one)[0] for one in get_args(get_args(Variant)[0])}
ROLLOUTS: Mapping[str, Any] = {
    "train": {"variants": {"a": {"method": "tabom"}}},
    "rollouts": {"grader": "demo", "gen_length": 64, "sampling": {"temperature": 0.5}, "threshold": 0.9},
}
ROUNDS: Mapping[str, Any] = {
    "samples": 2,
    "sampling": {"temperature": 0.5},
    "rule": "eoser",
    "threshold": 8,
    "gen_length": 64,
    "block_length": 64,
    "grader": "demo",
}
OWN: Mapping[str, Mapping[str, Any]] = {"cj_grpo": {"rollouts": ROUNDS}, "d2f": {"block_length": 32}}
"""What a method cannot do without."""


def in_rounds(**rollouts: Any) -> dict[str, Any]:
    """Reinforcement with other rollouts."""
    return {"train": {"variants": {"a": {"method": "cj_grpo", "rollouts": {**ROUNDS, **rollouts}}}}}


READERS: Mapping[str, Mapping[str, Any]] = {
    "trims": {},
    "steps": {"train": {"max_steps": 7}},
    **{
        f"method {name}": {
            "train": {"variants": {"a": {"method": name, **OWN.get(name, {})}}},
            **({"rollouts": ROLLOUTS["rollouts"]} if settings.needs == "rollouts" else {}),
        }
        for name, settings in METHODS.items()
    },
    "certainty": {"train": {"variants": {"a": {"certainty": 1.0}}}},
    "forwards": {"train": {"max_forwards": 9}},
    "the best": {"train": {"keep": "best"}},
    "cart": {"train": {"variants": {"a": {"loss_weight": "cart"}}}},
    "inverse_p": {"train": {"variants": {"a": {"loss_weight": "inverse_p"}}}},
    "ends last": {"train": {"pads": "last", "variants": {"a": {}}}},
    "own ends": {"train": {"variants": {"a": {"pads": "standard"}}}},
    "multi block": {"sweep": {"rule": "multi_block", "thresholds": [0.1]}},
    "pipelined": {"sweep": {"rule": "pipelined", "thresholds": [0.9]}},
    "dream": {"sweep": {"rule": "dream_official", "block_length": 256, "thresholds": [0.5]}},
    "ends held back": {"sweep": {"rule": "eoser", "thresholds": [8]}},
    "tempered": {"sweep": {"sampling": {"temperature": 0.5}}},
    "rollouts": ROLLOUTS,
    "rollouts of a grader of one's own": {
        **ROLLOUTS,
        "rollouts": {**ROLLOUTS["rollouts"], "grader": "own.module:function"},
    },
    "rollouts with ends held back": {
        **ROLLOUTS,
        "rollouts": {**ROLLOUTS["rollouts"], "rule": "eoser", "threshold": 8},
    },
    "rewards": {
        **ROLLOUTS,
        "rollouts": {**ROLLOUTS["rollouts"], "grader": None, "rewards": {"demo": 1.0}},
    },
    "rounds of a grader of one's own": in_rounds(grader="own.module:function"),
    "rounds by rewards": in_rounds(grader=None, rewards={"demo": 1.0}),
    "a profile": {"sweep": {"tasks": {"demo": {"profile": "demo@demo", "path": "b.jsonl"}}}},
    "question and answer": {
        "sweep": {"tasks": {"demo": {"benchmark": "qa", "path": "b.jsonl", "graders": "number_last_box"}}}
    },
    "columns": {"corpus": {"prompt_column": "q", "completion_column": "a"}},
}
"""Settings under which some field is read that others ignore."""
ELSEWHERE = ("name", "store", "report")
"""A run's name, where results lie, what the report shows."""
SOMETIMES = (("train", "eval_steps"),)
"""Operational, but for runs that keep the weights of the best validation."""
CONTENT_COUNTS = ("train", "deepspeed")
"""A path whose file's content is part of the settings: tested with the stage."""
IN_ROUNDS = ("train", "variants", "a", "rollouts")
REFUSED = (
    ("rollouts", "sampling", "begin_suppress"),
    *((*IN_ROUNDS, name) for name in ("cache", "limit", "retry_temperatures")),
    *((*IN_ROUNDS, "sampling", name) for name in SamplingConfig.model_fields if name != "temperature"),
)
"""Fields with which no rollouts are decoded, or none in rounds."""
NUMBERS = (1, 2, 3, 8, 64, 512, 0.3, 0.6)
POOL = (
    True,
    False,
    *NUMBERS,
    "other",
    "gsm8k@d3llm-cot0",
    "2030-01-02",
    "bfloat16",
    "number_flexible",
    ["other"],
    [0.3],
    [3],
    {"x": 1},
    {"gsm8k": 1.0},
    {"grace_s": 5.0},
    {"slots": 2},
    {"factors": {"buckets.k": [4]}},
)


def base(reader: str) -> dict[str, Any]:
    """Raw settings of one reader."""
    raw = copy.deepcopy(PLAIN)
    for section, fields in READERS[reader].items():
        raw[section] = {**raw.get(section, {}), **copy.deepcopy(fields)}
    return raw


def leaves(model: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every field of the schema with its dotted place; `variants` and `tasks` at their one entry."""
    for name, info in model.model_fields.items():
        if name == "variants":
            for one in _members(info.annotation):
                yield from leaves(one, (*path, name, "a"))
            continue
        inner = _section(info.annotation)
        if inner is None or _is_operational(info):
            yield (*path, name), info
        else:
            yield from leaves(inner, (*path, name, *(("demo",) if name == "tasks" else ())))


def _members(annotation: Any) -> list[type[Section]]:
    """The classes of a union of sections, wherever they are inside an annotation."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    return [found for one in get_args(annotation) for found in _members(one)]


def _section(annotation: Any) -> type[Section] | None:
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, Section):
            return one
    return None


def _is_operational(info: FieldInfo) -> bool:
    return any(isinstance(mark, Operational) for mark in info.metadata)


def flipped(reader: str, path: tuple[str, ...], info: FieldInfo) -> Iterator[TrimsConfig]:
    """The reader's settings with each other value of the pool that is allowed at one place."""
    before, _ = plain(reader)
    literals = [one for one in _literals(info.annotation) if isinstance(one, str)]
    for value in (*literals, *POOL):
        raw = base(reader)
        here = raw
        for name in path[:-1]:
            here = here.setdefault(name, {})
        here[path[-1]] = value
        try:
            after = parse_config(raw)
        except (ConfigError, ValidationError):
            continue
        if _value(after, path) != _value(before, path):
            yield after


def _literals(annotation: Any) -> Iterator[Any]:
    for one in get_args(annotation):
        if isinstance(one, str):
            yield one
        else:
            yield from _literals(one)


def _value(config: TrimsConfig, path: tuple[str, ...]) -> Any:
    value: Any = config
    for name in path:
        value = value[name] if isinstance(value, dict) else getattr(value, name, None)
    return value


PLACES = tuple(dict(leaves(TrimsConfig)).items())
"""Each place once: what all methods have in common is told by the last of them."""


def names(config: TrimsConfig) -> list[tuple[str, bytes]]:
    """What of the settings enters the names of all nodes but the report."""
    found = []
    for node in build_graph(config):
        if node.stage != "report":
            spec = load_spec(node.stage)
            found.append((node.id, canonical_json(spec.settings(config, node).result_fields())))
    return found


@functools.cache
def plain(reader: str) -> tuple[TrimsConfig, list[tuple[str, bytes]]]:
    """A reader's settings, and what of them enters names."""
    config = parse_config(base(reader))
    return config, names(config)


@pytest.mark.parametrize(
    ("path", "info"), [pytest.param(path, info, id=".".join(path)) for path, info in PLACES]
)
def test_a_field_is_in_some_key_or_marked(path: tuple[str, ...], info: FieldInfo) -> None:
    if path[0] in ELSEWHERE or path in (CONTENT_COUNTS, *REFUSED):
        return
    changes = (
        names(after) != plain(reader)[1] for reader in READERS for after in flipped(reader, path, info)
    )
    first = next(changes, None)
    assert first is not None, f"no other value for {path} in the pool: add one"
    if _is_operational(info) and path not in SOMETIMES:
        assert not first and not any(changes), "a field marked as operational changes a name"
    else:
        assert first or any(changes), "this field changes no name and is not marked: its results would mix"


def test_every_node_reads_its_own_settings_only(tmp_path: Path) -> None:
    config = parse_config(base("trims"))
    for node in build_graph(config):
        settings = load_spec(node.stage).settings(config, node)
        if node.stage not in ("report",):
            with pytest.raises(AttributeError):
                _ = settings.report

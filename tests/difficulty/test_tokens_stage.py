"""The tokens stage: the same rows as aligned without a teacher, rejects included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.stages import raw_config

from trims_core.errors import ConfigError, RejectBudgetError
from trims_core.graph import Node
from trims_core.schema import TOKENS, provenance, read_table
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Store

NODE = Node("tokens", "tokens", {"corpus": "corpus"})
REFUSING = (
    "{% for m in messages %}{% if 'Count' in m.content %}{{ raise_exception('no counting') }}{% endif %}"
)
REFUSING += "{{ m.content }}<|eot_id|>{% endfor %}"


def run_tokens(
    world: ChainWorld, student: Mapping[str, Any] | None = None, privilege: str | None = None
) -> Result:
    """The stage on the world's corpus."""
    done = world.run("corpus")
    raw = {**raw_config(world.root), "store": str(world.root / "store")}
    raw["student"] = {"model": str(world.student), **(student or {})}
    config = parse_config(raw)
    node = NODE
    if privilege is not None:
        node = Node(f"tokens/{privilege}", "tokens", NODE.parents, {"privilege": privilege})
    return run_node(Store(config.store), config, node, {"corpus": done["corpus"].artifact})


@pytest.fixture
def world(tmp_path: Path) -> ChainWorld:
    return ChainWorld(tmp_path).write(rows(30))


def test_the_rows_are_those_of_aligned(world: ChainWorld) -> None:
    aligned = table(world.run("aligned")["aligned"].artifact, "aligned")
    result = run_tokens(world)
    assert table(result.artifact, "tokens").equals(aligned.select(TOKENS.schema.names))
    assert [unit.name for unit in result.artifact.units] == ["tokens-00000"]
    counts = result.artifact.manifest.counts
    assert (counts["n_in"], counts["n_out"], counts["n_rejected"]) == (30, 30, 0)
    assert counts["n_tokens"] == sum(map(len, aligned["difficulty_nats"].to_pylist()))
    assert "## As the student reads it" in (result.artifact.path / "card.md").read_text()


def test_a_table_says_what_it_was_made_from(world: ChainWorld) -> None:
    (path,) = run_tokens(world).artifact.files("tokens-", "/tokens.parquet")
    about = provenance(path)["provenance"]
    assert about.keys() == {"supervised_end", "family", "student_tokenizer", "corpus"}
    assert read_table(path, TOKENS).num_rows == 30


def test_another_template_reads_again_and_other_weights_do_not(world: ChainWorld) -> None:
    assert run_tokens(world).how == "made"
    (world.student / "model.safetensors").write_bytes(b"other weights")
    assert run_tokens(world).how == "cached"
    assert run_tokens(world, {"template_date": "2030-01-02"}).how == "made"


def test_rows_that_the_student_cannot_read_are_rejects_within_a_budget(world: ChainWorld) -> None:
    examples = rows(12)
    examples[3]["messages"][0]["content"] = "Count to 3."
    world.write(examples)
    template = world.root / "template.jinja"
    template.write_text(REFUSING)
    student = {"template_file": str(template)}
    with pytest.raises(RejectBudgetError) as error:
        run_tokens(world, student)
    said = str(error.value)
    assert "tokens: 1 of 12 rows were rejected" in said and "r3" in said
    assert "--set student.max_rejected_fraction=0.084" in said
    found = run_tokens(world, {**student, "max_rejected_fraction": 0.1}).artifact
    (rejects,) = found.files(suffix="/rejects.parquet")
    assert pq.read_table(rejects)["id"].to_pylist() == ["r3"]
    assert table(found, "tokens")["id"].to_pylist() == [f"r{i}" for i in range(12) if i != 3]


@pytest.mark.parametrize("privilege", ["reference", "solution", "empty-reference"])
def test_prompts_that_show_the_right_answer_are_an_artifact_of_their_own(
    world: ChainWorld, privilege: str
) -> None:
    plain = run_tokens(world)
    told = run_tokens(world, privilege=privilege)
    assert (plain.how, told.how) == ("made", "made") and run_tokens(world).how == "cached"
    before, after = (table(result.artifact, "tokens").to_pylist() for result in (plain, told))
    assert "Reference Answer:" in (told.artifact.path / "card.md").read_text()
    for one, other in zip(before, after, strict=True):
        answers = [row["input_ids"][row["prompt_length"] :] for row in (one, other)]
        assert one["id"] == other["id"] and answers[0] == answers[1]
        assert other["prompt_length"] > one["prompt_length"]
    (path,) = told.artifact.files("tokens-", "/tokens.parquet")
    assert provenance(path)["provenance"]["privilege"] == privilege


def test_a_template_without_system_messages_is_refused_before_anything_is_read(world: ChainWorld) -> None:
    template = world.root / "template.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.content }}<|eot_id|>{% endfor %}"
    )
    student = {"template_file": str(template)}
    with pytest.raises(ConfigError, match=r"does not render a system message.*no system.*template_file"):
        run_tokens(world, student, "reference")
    assert run_tokens(world, student, "solution").how == "made"


def test_rows_whose_prompt_does_not_show_the_answer_are_rejects(world: ChainWorld) -> None:
    examples = rows(12)
    template = world.root / "template.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content | replace('8', '') }}<|eot_id|>"
        "{% else %}{{ m.content }}<|eot_id|>{% endif %}{% endfor %}"
    )
    world.write(examples)
    found = run_tokens(world, {"template_file": str(template), "max_rejected_fraction": 0.5}, "reference")
    (rejects,) = found.artifact.files(suffix="/rejects.parquet")
    refused = pq.read_table(rejects).to_pylist()
    assert [row["id"] for row in refused] == ["r4", "r9"]  # 8 and 18
    assert all("right answer does not" in row["detail"] for row in refused)

"""Fields beside role and content: used, refused by name, or counted; never dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.teacher import raw_config

from trims_core.errors import CorpusError
from trims_core.graph import build_graph
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Store


def run(path: Path, **corpus: Any) -> Result:
    """The corpus of a file."""
    config = parse_config({**raw_config(path.parent, 1), "corpus": {"path": str(path), **corpus}})
    return run_node(Store(config.store), config, build_graph(config)[0], {})


def chat(answer: dict[str, Any], question: dict[str, Any] | None = None, **columns: Any) -> dict[str, Any]:
    """A row with a question and an answer, and what else they have."""
    user = {"role": "user", "content": "1+1?", **(question or {})}
    return {"messages": [user, {"role": "assistant", "content": "2", **answer}], **columns}


def completions(result: Result) -> list[str]:
    (path,) = result.artifact.files("corpus-")
    return list(pq.read_table(path)["completion"].to_pylist())


def write(folder: Path, *rows: dict[str, Any], parquet: bool = False) -> Path:
    path = folder / ("a.parquet" if parquet else "a.jsonl")
    if parquet:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_goes_where_the_settings_say_and_is_refused_where_they_say_nothing(
    tmp_path: Path, field: str
) -> None:
    path = write(tmp_path, chat({field: "\nOne and one.\n"}), chat({field: None}, {"content": "2?"}))
    with pytest.raises(
        CorpusError, match=r"a.jsonl:1: turn 2 has its reasoning .* set corpus.reasoning: think"
    ):
        run(path)
    thinking = run(path, reasoning="think")
    assert completions(thinking) == ["<think>\nOne and one.\n</think>\n\n2", "2"]
    dropped = run(path, reasoning="drop")
    assert completions(dropped) == ["2", "2"]
    counts = [result.artifact.manifest.counts["n_reasoning_dropped"] for result in (thinking, dropped)]
    assert counts == [0, 1]
    assert "turns whose reasoning was left out: 1" in (dropped.artifact.path / "card.md").read_text()


def test_reasoning_of_earlier_turns_is_left_out_and_counted(tmp_path: Path) -> None:
    row = chat({"thinking": "again"})
    row["messages"] = [*chat({"thinking": "first"})["messages"], *row["messages"]]
    result = run(write(tmp_path, row), reasoning="think")
    assert completions(result) == ["<think>\nagain\n</think>\n\n2"]
    assert result.artifact.manifest.counts["n_reasoning_dropped"] == 1


@pytest.mark.parametrize(
    ("mark", "parquet"),
    [({"weight": 0}, False), ({"loss": False}, False), ({"trainable": False}, True), ({"weight": 0.0}, True)],
)
def test_an_answer_of_weight_0_is_left_out_and_counted(
    tmp_path: Path, mark: dict[str, Any], parquet: bool
) -> None:
    other = {next(iter(mark)): type(next(iter(mark.values())))(1)}
    rows = [chat({"content": "left out", **mark}), chat(other), chat({}, {"content": "?", **mark})]
    result = run(write(tmp_path, *rows, parquet=parquet))
    assert completions(result) == ["2", "2"]
    assert {name: result.artifact.manifest.counts[name] for name in ("n_in", "n_out", "n_left_out")} == {
        "n_in": 3,
        "n_out": 2,
        "n_left_out": 1,
    }
    assert "answers have weight 0: 1" in (result.artifact.path / "card.md").read_text()


def test_a_corpus_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no examples in the input \(1 answers have weight 0\)"):
        run(write(tmp_path, chat({"weight": 0})))


TOOLS = [{"type": "function", "function": {"name": "add"}}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (chat({}, tools=TOOLS), "'tools' is list .*tool calls are not supported"),
        (chat({}, tools=json.dumps(TOOLS)), "'tools' is str .*tool calls are not supported"),
        (chat({}, chat_template_kwargs={"enable_thinking": False}), "'chat_template_kwargs' is dict"),
        (chat({}, system="Be brief."), "'system' is str 'Be brief.'; make it the first turn"),
        (chat({"tool_calls": TOOLS}), "turn 2 has 'tool_calls'"),
        (chat({}, {"name": "Ann"}), "turn 1 has 'name': str 'Ann'; names of speakers are not rendered"),
        (chat({"prefix": True}), "turn 2 has 'prefix'"),
        (chat({"channel": "analysis"}), "turn 2 has 'channel'"),
        (chat({"thinking": ["x"]}), "'thinking' of turn 2 is list"),
        (chat({}, {"thinking": "x"}), "turn 1, of the user, has 'thinking'"),
        (chat({"thinking": "x", "reasoning": "y"}), "'reasoning' and 'thinking' of turn 2 differ"),
        (chat({"thinking": "x", "content": "<think>x</think>2"}), "the answer begins with <think>"),
    ],
)
@pytest.mark.parametrize("parquet", [False, True])
def test_what_would_change_the_conversation_is_refused_by_name(
    tmp_path: Path, row: dict[str, Any], message: str, parquet: bool
) -> None:
    with pytest.raises(CorpusError, match=f":1: {message}"):
        run(write(tmp_path, row, parquet=parquet), reasoning="think")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (chat({"weight": 0.5}), "turn 2 has 'weight': float 0.5; expected 0 or 1"),
        (chat({}, {"weight": 1}), "turn 1, of the user, has 'weight': int 1; only answers are trained on"),
        (chat({"weight": 1, "loss": False}), "'weight' and 'loss' of turn 2 differ"),
    ],
)
def test_marks_of_what_is_trained_on_that_are_not_0_or_1_are_refused(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorpusError, match=f":1: {message}"):
        run(write(tmp_path, row))


def test_empty_fields_say_nothing_and_fields_without_meaning_are_named(tmp_path: Path) -> None:
    empty = {"tool_calls": [], "name": None, "weight": None, "reasoning_content": "", "model": None}
    rows = [chat({**empty, "model": "m"}, tools=[], system=""), chat(empty, {"content": "?", "model": "m"})]
    for parquet in (False, True):
        result = run(write(tmp_path, *rows, parquet=parquet))
        assert completions(result) == ["2", "2"]
        assert result.artifact.manifest.info["unread_fields"] == {"model": 2}
        assert (
            "fields of messages that are not read: model (2)"
            in (result.artifact.path / "card.md").read_text()
        )


PAIR = {"prompt_column": "instruction", "completion_column": "output"}


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("input", r"'input' is str 'x'; write it into the prompt"),
        ("context", r"'context' is str 'x'; write it into the prompt"),
        ("system", r"'system' is str 'x'; use conversations"),
        ("system_prompt", r"'system_prompt' is str 'x'; use conversations"),
        ("reasoning_content", r"turn 2 has its reasoning beside its content; set corpus.reasoning"),
        ("weight", r"turn 2 has 'weight': str 'x'; expected 0 or 1"),
    ],
)
def test_columns_beside_a_pair_that_would_change_it_are_refused(
    tmp_path: Path, column: str, message: str, parquet: bool
) -> None:
    empty = {"instruction": "1+1?", "output": "2", column: None}
    assert completions(run(write(tmp_path, empty), **PAIR)) == ["2"]
    path = write(tmp_path, {**empty, column: "x"}, parquet=parquet)
    with pytest.raises(CorpusError, match=rf"a\.\w+:1: {message}"):
        run(path, **PAIR)
    if column == "input":
        assert completions(run(path, prompt_column="input", completion_column="output")) == ["2"]
    if column == "reasoning_content":
        assert completions(run(path, reasoning="think", **PAIR)) == ["<think>\nx\n</think>\n\n2"]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"training": False}])
def test_a_mark_beside_a_conversation_is_its_answers(
    tmp_path: Path, mark: dict[str, Any], parquet: bool
) -> None:
    pair = {"instruction": "1+1?", "output": "2"}
    for rows, columns in (([chat({}), chat({}, **mark)], {}), ([pair, {**pair, **mark}], PAIR)):
        ids = [{"id": str(number), **row} for number, row in enumerate(rows)]
        found = run(write(tmp_path, ids[1], ids[0], parquet=parquet), **columns)
        assert found.artifact.manifest.counts["n_left_out"] == 1
        assert completions(found) == ["2"]


def test_zero_and_false_are_values_of_fields_that_mean_nothing(tmp_path: Path) -> None:
    row = chat({"weights": 0, "end_turn": False, "refusal": None, "audio": {}})
    assert run(write(tmp_path, row)).artifact.manifest.info["unread_fields"] == {"weights": 1, "end_turn": 1}


def test_half_a_surrogate_pair_in_a_fields_name_is_written_out(tmp_path: Path) -> None:
    found = run(write(tmp_path, chat({"\ud800": 1})))
    assert found.artifact.manifest.info["unread_fields"] == {"\\ud800": 1}

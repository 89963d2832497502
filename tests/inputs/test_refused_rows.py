"""Rows that a template or a tokenizer refuses are rejects with a reason, all of them named at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.teacher import LOG_VARIABLE, asked_rows, n_starts, write_tokenizer
from fakes.templates import GEMMA

from trims_core.errors import AlignmentError, CorpusError, RejectBudgetError
from trims_core.rendering import Renderer, load_tokenizer

FULLWIDTH = "It is ４."


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChainWorld:
    """Two rows whose system prompt the teacher's template refuses, one whose text its tokenizer changes."""
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "asked.txt"))
    world = ChainWorld(tmp_path, tmp_path / "asked.txt")
    examples = rows(12)
    for i in (2, 9):
        examples[i]["messages"].insert(0, {"role": "system", "content": "Count."})
    examples[5]["messages"][-1]["content"] = FULLWIDTH
    world.write(examples)
    change(write_tokenizer(tmp_path / "teacher", GEMMA), normalizer={"type": "NFKC"})
    return world


def change(folder: Path, **parts: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def test_all_are_named_before_an_engine_is_started(world: ChainWorld) -> None:
    with pytest.raises(RejectBudgetError) as caught:
        world.run("scores", corpus={"rows_per_shard": 3})
    text = str(caught.value)
    assert "scores: 3 of 12 rows were rejected" in text
    assert "2 template_refuses (ids r2, r9)" in text and "1 tokenizer_changes_text (ids r5)" in text
    assert "r2: " in text and "System role not supported" in text
    assert "--set scores.max_rejected_fraction=0.25" in text
    assert world.log is not None and n_starts(world.log) == 0


def test_within_the_budget_the_others_are_scored_and_these_listed(world: ChainWorld) -> None:
    done = world.run("buckets", scores={"max_rejected_fraction": 0.25})
    rejects = table(done["scores"].artifact, "rejects").to_pylist()
    assert {row["id"]: row["reason"] for row in rejects} == {
        "r2": "template_refuses",
        "r5": "tokenizer_changes_text",
        "r9": "template_refuses",
    }
    assert "'４'" in next(row["detail"] for row in rejects if row["id"] == "r5").replace(
        "It is ", ""
    ).replace(".", "")
    others = [f"r{i}" for i in range(12) if i not in (2, 5, 9)]
    assert world.log is not None and asked_rows(world.log) == others
    assert table(done["scores"].artifact, "scores")["id"].to_pylist() == others
    assert table(done["buckets"].artifact, "buckets")["id"].to_pylist() == others
    assert done["scores"].artifact.manifest.counts["n_template_refuses"] == 2
    assert "template_refuses: 2 (r2, r9)" in done["scores"].artifact.path.joinpath("card.md").read_text()


def test_a_teacher_that_sees_the_corpus_is_not_shown_refused_rows(world: ChainWorld) -> None:
    scores = {"teacher": "unigram", "max_rejected_fraction": 0.25}
    found = table(world.run("scores", scores=scores)["scores"].artifact, "scores").to_pylist()
    ends = [row["nll_nats"][-1] for row in found]
    n_tokens = sum(len(row["token_ids"]) for row in found)
    import math

    assert ends == pytest.approx([math.log(n_tokens / len(found))] * len(found))


def test_what_the_student_refuses_is_counted_and_named_too(world: ChainWorld, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "teacher")
    change(world.student, normalizer={"type": "NFKC"})
    with pytest.raises(
        RejectBudgetError, match=r"aligned: 1 of 12 .*1 tokenizer_changes_text \(ids r5\).*student"
    ):
        world.run("aligned")
    done = world.run("buckets", scores={"max_rejected_fraction": 0.1})
    aligned = done["aligned"].artifact
    assert table(aligned, "rejects")["id"].to_pylist() == ["r5"]
    assert {name: aligned.manifest.counts[name] for name in ("n_in", "n_out", "n_rejected")} == {
        "n_in": 12,
        "n_out": 11,
        "n_rejected": 1,
    }
    assert "r5" not in table(done["buckets"].artifact, "buckets")["id"].to_pylist()
    assert done["buckets"].artifact.manifest.counts["n_in"] == 11


def sentence_piece(folder: Path, **normalizer: Any) -> Renderer:
    """A tokenizer with byte fallback that puts a space before every text, and changes texts."""
    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for token in ("▁", *"abcdefg"):
        vocab[token] = len(vocab)
    steps = [
        *([normalizer] if normalizer else []),
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    model = {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": True, "unk_token": "<unk>"}
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    write_tokenizer(folder, eos_token="a")
    change(
        folder,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
        decoder=decoder,
        model=model,
        added_tokens=[],
    )
    return Renderer(load_tokenizer(str(folder)))


def test_the_culprit_is_named_and_not_the_space_before_the_text(tmp_path: Path) -> None:
    found = sentence_piece(tmp_path, type="Lowercase")
    with pytest.raises(AlignmentError, match=r"example 'r7': .* at byte 4: 'abc DEF' becomes 'abc def'"):
        found.completion("abc DEF", "r7")
    found.completion("abc def")
    with pytest.raises(AlignmentError, match=r"examples 'r1', 'r3': .* at byte 1: 'aB' becomes 'ab'"):
        found.completions(["ab", "aB", "c", "D"], ["r0", "r1", "r2", "r3"])


def test_a_text_that_loses_a_space_at_its_beginning_is_told_so(tmp_path: Path) -> None:
    found = sentence_piece(tmp_path, type="Strip", strip_left=True, strip_right=True)
    with pytest.raises(AlignmentError, match=r"at byte 3: 'abc ' becomes 'abc'"):
        found.completion("abc ")


def test_conversations_that_cannot_be_asked_are_all_named(tmp_path: Path) -> None:
    found = Renderer(load_tokenizer(str(write_tokenizer(tmp_path, GEMMA))))
    bad, good = [{"role": "system", "content": "x"}], [{"role": "user", "content": "x"}]
    with pytest.raises(CorpusError, match=r"examples 'p1', 'p2': .*System role not supported"):
        found.prompts([good, bad, bad], ["p0", "p1", "p2"])

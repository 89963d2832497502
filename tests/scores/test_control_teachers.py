"""The scores stage with its two control teachers, student and unigram: values, tokens, resuming, errors."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.decoding_checkpoint import write_student
from fakes.teacher import raw_config, write_tokenizer

from trims_core import _faults
from trims_core.errors import ConfigError, DiskFullError, RejectBudgetError
from trims_core.graph import build_graph
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.schema import CORPUS, provenance, read_table
from trims_core.settings import parse_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store
from trims_core.students import load_student_tokenizer
from trims_core.teacher.identity import BUILT_IN, teacher_identity
from trims_core.teacher.registry import make_tokenizer

N_ROWS, SHARD_ROWS = 10, 4
CONTROLS = ("student", "unigram")


class World:
    """A corpus of short rows and a masked diffusion checkpoint with a tokenizer of bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoint = str(write_student(root / "student"))
        self.raw = raw_config(root, N_ROWS, SHARD_ROWS)
        self.raw["student"] = {"model": self.checkpoint}

    def settings(self, teacher: str, rows_per_shard: int = SHARD_ROWS, **scores: Any) -> dict[str, Any]:
        corpus = {**self.raw["corpus"], "rows_per_shard": rows_per_shard}
        chosen = {"teacher": teacher, "model": self.checkpoint, **scores}
        return {**self.raw, "corpus": corpus, "scores": chosen}

    def run(self, raw: dict[str, Any], last: str = "scores") -> Artifact:
        config = parse_config(raw)
        store = Store(config.store)
        done: dict[str, Artifact] = {}
        for node in build_graph(config):
            parents = {role: done[parent] for role, parent in node.parents.items()}
            done[node.id] = run_node(store, config, node, parents).artifact
            if node.id == last:
                break
        self.corpus = done["corpus"]
        return done[last]

    def completions(self) -> dict[str, str]:
        """Id → completion, after a run."""
        rows = [row for path in self.corpus.files("corpus-") for row in read_table(path, CORPUS).to_pylist()]
        return {row["id"]: row["completion"] for row in rows}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def table(artifact: Artifact, name: str = "scores") -> list[dict[str, Any]]:
    return pa.concat_tables([pq.read_table(p) for p in artifact.files(suffix=f"/{name}.parquet")]).to_pylist()


def test_unigram_scores_are_the_shares_of_bytes_in_the_whole_corpus(world: World) -> None:
    rows = table(world.run(world.settings("unigram")))
    completions = world.completions()
    counts = Counter(byte for text in completions.values() for byte in text.encode())
    n_tokens = counts.total() + N_ROWS
    assert [row["id"] for row in rows] == list(completions)
    for row in rows:
        wanted = [math.log(n_tokens / counts[byte]) for byte in completions[row["id"]].encode()]
        assert row["nll_nats"] == pytest.approx([*wanted, math.log(n_tokens / N_ROWS)], rel=1e-6)
        assert row["entropy_nats"] is None


@pytest.mark.parametrize("teacher", CONTROLS)
def test_the_size_of_shards_does_not_show(teacher: str, world: World) -> None:
    usual = table(world.run(world.settings(teacher)))
    others = table(world.run(world.settings(teacher, rows_per_shard=3)))
    assert [row["id"] for row in others] == [row["id"] for row in usual]
    for row, other in zip(usual, others, strict=True):
        assert other["token_ids"] == row["token_ids"]
        assert other["nll_nats"] == pytest.approx(row["nll_nats"], abs=1e-5)


@pytest.mark.parametrize("teacher", CONTROLS)
def test_a_resumed_run_writes_the_bytes_of_an_undisturbed_one(
    teacher: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(artifact: Artifact) -> dict[str, bytes]:
        return {name: artifact.file(name).read_bytes() for name in artifact.manifest.entries}

    undisturbed = files(world.run(world.settings(teacher)))
    settings = {**world.settings(teacher), "store": str(world.root / "another")}
    monkeypatch.setattr(_faults, "_hits", Counter())
    monkeypatch.setenv("TRIMS_FAULT", "scores.before_record:enospc:2")
    with pytest.raises(DiskFullError):
        world.run(settings)
    monkeypatch.delenv("TRIMS_FAULT")
    resumed = world.run(settings)
    assert len(undisturbed) == 2 * len(resumed.units) >= 2 * 3, "scores and rejects of each shard"
    assert files(resumed) == undisturbed


def test_tokens_of_rows_that_are_too_long_count_too(world: World) -> None:
    usual = {row["id"]: row for row in table(world.run(world.settings("unigram")))}
    n_tokens = {name: len(prompt_of(world, name)) + len(row["token_ids"]) for name, row in usual.items()}
    limit = sorted(n_tokens.values())[N_ROWS // 2]
    with pytest.raises(RejectBudgetError, match="too_long"):
        world.run(world.settings("unigram", max_model_len=limit))
    cut = world.run(world.settings("unigram", max_model_len=limit, max_rejected_fraction=1.0))
    kept = {row["id"]: row for row in table(cut)}
    assert set(kept) == {name for name, n in n_tokens.items() if n <= limit} < set(usual)
    assert all(usual[name] == row for name, row in kept.items())


def prompt_of(world: World, row_id: str) -> list[int]:
    """Ids of a row's prompt, with the template of the tokenizer's files."""
    renderer = Renderer(load_tokenizer(world.checkpoint))
    rows = [row for path in world.corpus.files("corpus-") for row in read_table(path, CORPUS).to_pylist()]
    return renderer.prompt_ids(next(row["messages"] for row in rows if row["id"] == row_id))


def test_a_corpus_of_rows_that_are_all_too_long_is_no_crash(world: World) -> None:
    cut = world.run(world.settings("unigram", max_model_len=2, max_rejected_fraction=1.0))
    assert (table(cut), len(table(cut, "rejects"))) == ([], N_ROWS)


def test_the_student_scores_its_own_tokens_and_gives_entropies(world: World) -> None:
    import torch

    from trims_core.students import load_student

    artifact = world.run(world.settings("student"))
    student = load_student(world.checkpoint)
    renderer = Renderer(student.tokenizer)
    corpus = {
        row["id"]: row
        for path in world.corpus.files("corpus-")
        for row in read_table(path, CORPUS).to_pylist()
    }
    rows = table(artifact)
    assert [row["id"] for row in rows] == list(corpus)
    for row in rows:
        example = corpus[row["id"]]
        ids = [*renderer.completion(example["completion"]).ids, *renderer.end_ids]
        assert row["token_ids"] == ids
        prompt = renderer.prompt_ids(example["messages"])
        with torch.no_grad():
            logits_LV = student.forward(torch.tensor([prompt + [student.family.mask_id] * len(ids)]))[0]
        logits_LV[:, student.family.mask_id] = -torch.inf
        logp_LV = logits_LV[len(prompt) :].log_softmax(-1)
        assert row["nll_nats"] == pytest.approx([-logp_LV[i, t].item() for i, t in enumerate(ids)], abs=5e-5)
        assert len(row["entropy_nats"]) == len(ids)


def test_the_students_template_is_that_of_training_and_decoding(world: World) -> None:
    own = "{{ messages[0]['content'] }}"
    about = world.root / "student" / "tokenizer_config.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "chat_template": own}))
    used = {name: make_tokenizer(parse_config(world.settings(name)).scores) for name in CONTROLS}
    assert used["unigram"].chat_template == own
    assert used["student"].chat_template == load_student_tokenizer(world.checkpoint)[0].chat_template != own


def test_buckets_by_entropy_are_made_from_the_student_and_refused_from_unigrams(world: World) -> None:
    entropy = {"buckets": {"k": 4, "metric": "entropy"}}
    assert world.run({**world.settings("student"), **entropy}, "buckets").manifest.counts["n_out"] == N_ROWS
    with pytest.raises(ConfigError, match=r"no entropy_nats for ids r0"):
        world.run({**world.settings("unigram"), **entropy}, "buckets")


@pytest.mark.parametrize("teacher", CONTROLS)
def test_control_teachers_are_built_in_take_no_options_and_change_the_key(teacher: str, world: World) -> None:
    assert teacher in BUILT_IN
    with pytest.raises(ConfigError, match=f"teacher {teacher} takes none; remove depth"):
        world.run(world.settings(teacher, options={"depth": 1}))
    digests = Store(world.root / "store").digests
    keys = {name: teacher_identity(parse_config(world.settings(name)).scores, digests) for name in BUILT_IN}
    assert set(keys[teacher]) == {"teacher", "checkpoint", "tokenizer"}
    assert all(keys[name] != keys[teacher] for name in BUILT_IN if name != teacher)
    about = provenance(world.run(world.settings(teacher)).file("scores-00000/scores.parquet"))
    assert about["provenance"]["teacher"] == teacher


def test_the_student_teacher_refuses_an_autoregressive_checkpoint(world: World) -> None:
    qwen = str(write_tokenizer(world.root / "qwen"))
    with pytest.raises(ConfigError, match=r"scores.model: teacher student needs a masked diffusion.*'qwen3'"):
        world.run(world.settings("student", model=qwen))


OBSERVER = """
from pathlib import Path
from fakes.teacher import FakeTeacher, fake_nll
from trims_core.teacher.protocol import Scored

class Observer(FakeTeacher):
    def __init__(self, config, log):
        super().__init__(config)
        self.log = Path(log)

    def note(self, line):
        with self.log.open("a") as log:
            log.write(line + "\\n")

    def observe(self, requests):
        for request in requests:
            self.note(f"observe {request.id}")

    def start(self, max_tokens, beat):
        self.note("start")
        return super().start(max_tokens, beat)

    def score(self, requests, beat):
        for request in requests:
            if (self.log.parent / "fail").exists() and request.id == "r5":
                raise OSError("told to fail")
            self.note(f"score {request.id}")
            yield Scored(request.id, fake_nll(request))
"""


def test_a_users_observer_sees_the_whole_corpus_once_before_the_start_and_again_on_a_resume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "observing_teacher.py").write_text(OBSERVER)
    monkeypatch.syspath_prepend(world.root)
    log, fail = world.root / "log.txt", world.root / "fail"
    settings = world.settings("observing_teacher:Observer", options={"log": str(log)})
    shown = [f"observe r{i}" for i in range(N_ROWS)]
    fail.touch()
    with pytest.raises(OSError, match="told to fail"):
        world.run(settings)
    assert log.read_text().splitlines() == [*shown, "start", *(f"score r{i}" for i in range(5))]
    log.unlink()
    fail.unlink()
    world.run(settings)
    ids = [read_table(path, CORPUS)["id"].to_pylist() for path in world.corpus.files("corpus-")]
    left = next(number for number, shard in enumerate(ids) if "r5" in shard)
    assert 0 < left < len(ids) - 1
    again = [f"score {row_id}" for shard in ids[left:] for row_id in shard]
    assert log.read_text().splitlines() == [*shown, "start", *again]

"""A corpus and scores made up without a teacher, and a small student tokenizer, for the stages aligned and
buckets.

`run` is the stage command with these stages in place of the real ones. The teacher's tokens are three bytes
long and often have exactly 0 nats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fakes.decoding_checkpoint import SPECIAL

from trims_core.alignment import align_rows
from trims_core.fingerprint import sha256_json
from trims_core.graph import build_graph, select
from trims_core.schema import CORPUS, REJECTS, SCORES, write_table
from trims_core.settings import load_config
from trims_core.stage import Make, Outcome, Result, StageSpec, Unit, Work, main, open_parents, run_node
from trims_core.store import Attempt, Made, Store, UnitRecord
from trims_core.students.llada import CHAT_TEMPLATE

TEACHER_BYTES = 3


def examples(count: int) -> list[dict[str, Any]]:
    """Rows of the corpus; accents and a sign outside the basic plane put characters across tokens."""
    return [
        {
            "id": f"ex-{i:03d}",
            "messages": [{"role": "user", "content": f"What is {i} plus {i}?"}],
            "completion": f"Adding {i} and {i} gives {2 * i}. " * (1 + i % 4)
            + ("Voilà 𝛑!" if i % 3 else "Done."),
            "source": f"made up:{i}",
        }
        for i in range(count)
    ]


def student_difficulty(
    teacher_end: Sequence[int], values: Sequence[float], student_end: Sequence[int]
) -> np.ndarray:
    """`align_rows` of one example."""
    teacher, student = np.array(teacher_end, np.int64), np.array(student_end, np.int64)
    offsets = (np.array([0, len(side)]) for side in (teacher, student))
    return align_rows(teacher, np.array(values, float), next(offsets), student, next(offsets), ["?"])


def teacher_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of one example: three-byte tokens and the end of turn, seeded by the id."""
    n_bytes = len(row["completion"].encode())
    byte_end = [*range(TEACHER_BYTES, n_bytes, TEACHER_BYTES), n_bytes, n_bytes]
    rng = np.random.default_rng(list(row["id"].encode()))
    nll = np.where(rng.random(len(byte_end)) < 0.4, 0.0, rng.gamma(0.4, 1.0, len(byte_end)))
    return {
        "id": row["id"],
        "token_ids": list(range(len(byte_end))),
        "byte_end": byte_end,
        "nll_nats": nll.astype(np.float32).tolist(),
        "entropy_nats": None,
    }


def write_world(root: Path, n_rows: int = 40, rows_per_shard: int = 10, **buckets: Any) -> Path:
    """Writes source, tokenizer and settings under `root`; gives back the YAML file."""
    root.mkdir(parents=True, exist_ok=True)
    write_source(root, [{**row, "score": teacher_row(row)} for row in examples(n_rows)])
    if not (root / "student").exists():
        _write_tokenizer(root / "student", [row["completion"] for row in examples(n_rows)])
    raw = {
        "name": "bucket-world",
        "store": str(root / "store"),
        "corpus": {"path": str(root / "source.jsonl"), "rows_per_shard": rows_per_shard},
        "scores": {"model": "./none", "teacher": "fake.module:Teacher"},
        "buckets": {"k": 5, **buckets},
        "student": {"model": str(root / "student")},
        "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
    }
    path = root / "world.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def make(config_file: Path, last: str, *overrides: str, since: str | None = None) -> Result:
    """All stages up to the last one; that one is made again if it is older than `since`."""
    config = load_config(config_file, overrides)
    store = Store(config.store)
    for node in select(build_graph(config), last):
        parents = open_parents(store, config, node, SPECS)
        result = run_node(store, config, node, parents, since=since if node.id == last else None, specs=SPECS)
    return result


def write_source(root: Path, rows: list[dict[str, Any]]) -> None:
    """The input: examples with what the teacher will say about them; without a `score` a row is rejected."""
    (root / "source.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_source(root: Path) -> list[dict[str, Any]]:
    """What `write_source` wrote."""
    return [json.loads(line) for line in (root / "source.jsonl").read_text().splitlines()]


def _write_tokenizer(folder: Path, texts: list[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=sorted(alphabet), special_tokens=list(SPECIAL)
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "chat_template": CHAT_TEMPLATE,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = {
        "eos_token_id": tokenizer.token_to_id(SPECIAL[1]),
        "mask_token_id": tokenizer.token_to_id(SPECIAL[2]),
    }
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 1, "vocab_size": 320, "max_sequence_length": 512}
    (folder / "config.json").write_text(json.dumps({"model_type": "llada", **sizes, **ids}))


def _units(work: Work, _facts: None) -> list[Unit]:
    """`rows_per_shard` rows each, whatever their ids; keyed by the rows and their scores."""
    (source,) = work.settings.path
    rows = [json.loads(line) for line in Path(source).read_text().splitlines()]
    size = work.settings.rows_per_shard
    shards = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        Unit(f"{work.node_id}-{number:05d}", {}, {"rows": sha256_json(json.dumps(shard))}, shard)
        for number, shard in enumerate(shards)
    ]


def _corpus(rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, int | None]:
    columns = {column: [row[column] for row in rows] for column in CORPUS.schema.names}
    return {"corpus.parquet": write_table(folder / "corpus.parquet", CORPUS, columns)}


def _scores(rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, int | None]:
    scored = [row["score"] for row in rows if "score" in row]
    rejected = {"id": [row["id"] for row in rows if "score" not in row]}
    rejected |= {name: ["too_long"] * len(rejected["id"]) for name in ("reason", "detail")}
    columns = {column: [row[column] for row in scored] for column in SCORES.schema.names}
    return {
        "scores.parquet": write_table(folder / "scores.parquet", SCORES, columns),
        "rejects.parquet": write_table(folder / "rejects.parquet", REJECTS, rejected),
    }


def _spec(
    stage: str, write: Callable[[Sequence[Mapping[str, Any]], Path], dict[str, int | None]]
) -> StageSpec:
    @contextmanager
    def maker(
        _work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
    ) -> Iterator[Make]:
        def make(unit: Unit, attempt: Attempt) -> Made:
            return Made(write(unit.source, attempt.path))

        yield make

    return StageSpec(
        stage,
        1,
        settings=lambda config, _node: config.corpus,
        inputs=lambda corpus, digests: {"data": digests.dataset(corpus.path)},
        units=_units,
        maker=maker,
        finish=lambda *_: Outcome(counts={}),
    )


SPECS: dict[str, StageSpec] = {"corpus": _spec("corpus", _corpus), "scores": _spec("scores", _scores)}


def run(arguments: Sequence[str]) -> int:
    """The stage command on this world."""
    return main(arguments, specs=SPECS)

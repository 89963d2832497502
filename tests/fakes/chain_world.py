"""Corpus, scores, aligned and buckets, all real, over a fake teacher of single bytes and a student tokenizer
with a few merges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fakes.decoding_checkpoint import SPECIAL
from fakes.teacher import asked_rows, n_starts, write_tokenizer

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph
from trims_core.settings import parse_config
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, Store
from trims_core.store.rows import rows_digest
from trims_core.students.llada import CHAT_TEMPLATE

STAGES = ("corpus", "scores", "aligned", "buckets")
MERGES = (("I", "t"), ("Ġ", "i"), ("Ġi", "s"), ("It", "Ġis"), ("Ġ", "1"), ("1", "1"), ("Ã", "©"), ("ä", "½"))
GOLDEN_ROWS = 20
GOLDEN: Mapping[str, Any] = {
    "corpus": {"rows_per_shard": 10},
    "scores": {"options": {"values": {"r1": "nan"}}, "max_rejected_fraction": 0.1},
    "buckets": {"k": 5},
}


def made_up_to(config: TrimsConfig, last: str) -> dict[str, Result]:
    """Node → result, up to the last one."""
    store = Store(config.store)
    done: dict[str, Result] = {}
    for node in build_graph(config):
        parents = {role: done[parent].artifact for role, parent in node.parents.items()}
        done[node.id] = run_node(store, config, node, parents)
        if node.id == last:
            break
    return done


def rows(n_rows: int, name: str = "r") -> list[dict[str, Any]]:
    """Short conversations, some beyond ASCII; the name makes other ids, and so other shards."""
    tails = ("", " é", " 你好", " \ufffd x")
    return [
        {
            "id": f"{name}{i}",
            "messages": [
                {"role": "user", "content": f"What is {i} + {i}?"},
                {"role": "assistant", "content": f"It is {2 * i}.{tails[i % 4]}"},
            ],
        }
        for i in range(n_rows)
    ]


class ChainWorld:
    """A corpus file and a store; the fake teacher notes what it was asked (TRIMS_FAKE_TEACHER_LOG)."""

    def __init__(self, root: Path, log: Path | None = None) -> None:
        self.root = root
        self.log = log
        root.mkdir(parents=True, exist_ok=True)
        self.teacher = write_tokenizer(root / "teacher")
        self.student = write_student_tokenizer(root / "student")
        self.path = [root / "corpus.jsonl"]

    def write(self, examples: Sequence[Mapping[str, Any]], *names: str) -> ChainWorld:
        """The corpus: one file, or several with about as many rows each; .jsonl or .parquet."""
        self.path = [self.root / name for name in names or ("corpus.jsonl",)]
        each = -(-len(examples) // len(self.path))
        for number, path in enumerate(self.path):
            part = examples[number * each : (number + 1) * each]
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".parquet":
                pq.write_table(pa.Table.from_pylist(list(part)), path)
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in part))
        return self

    def run(self, last: str = "buckets", **sections: Mapping[str, Any]) -> dict[str, Result]:
        """Stage → result, up to the last one."""
        config = parse_config(
            {
                "name": "chain",
                "store": str(self.root / "store"),
                "corpus": {
                    "path": [str(path) for path in self.path],
                    "rows_per_shard": 256,
                    **sections.get("corpus", {}),
                },
                "scores": {
                    "teacher": "fakes.teacher:FakeTeacher",
                    "model": str(self.teacher),
                    **sections.get("scores", {}),
                },
                "buckets": sections.get("buckets", {}),
                "student": {"model": str(self.student), **sections.get("student", {})},
                "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
            }
        )
        return made_up_to(config, last)

    def asked(self) -> list[str]:
        """Ids the teacher was asked about since the last call."""
        assert self.log is not None
        if not self.log.exists():
            return []
        found = asked_rows(self.log)
        self.started = n_starts(self.log)
        self.log.unlink()
        return found


def table(artifact: Artifact, name: str) -> pa.Table:
    """All rows of one kind, such as `scores` or `rejects`."""
    return pa.concat_tables([pq.read_table(path) for path in artifact.files(suffix=f"/{name}.parquet")])


def ids_by_unit(artifact: Artifact) -> dict[str, list[str]]:
    """Unit's fingerprint → ids of its rows, rejected ones included."""
    found: dict[str, list[str]] = {}
    for unit in artifact.units:
        files = [artifact.file(f"{unit.name}/{entry.name}") for entry in unit.files]
        found[unit.fingerprint] = [row for path in files for row in pq.read_table(path)["id"].to_pylist()]
    return found


def write_student_tokenizer(folder: Path) -> Path:
    """A student's folder without weights: bytes, a few merges, LLaDA's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    texts = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "chat_template": CHAT_TEMPLATE,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    ids = {"eos_token_id": len(texts) + 1, "mask_token_id": len(texts) + 2}
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 1, "vocab_size": 320, "max_sequence_length": 512}
    (folder / "config.json").write_text(json.dumps({"model_type": "llada", **sizes, **ids}))
    return folder


def golden_tables(root: Path) -> dict[str, pa.Table]:
    """Every table of a world of 20 rows, one of which the teacher cannot score."""
    done = ChainWorld(root).write(rows(GOLDEN_ROWS)).run(**GOLDEN)
    kinds = {"corpus": "corpus", "scores": "scores", "rejects": "scores", "aligned": "aligned"}
    kinds["buckets"] = "buckets"
    return {name: table(done[stage].artifact, name) for name, stage in kinds.items()}


def digest(found: pa.Table, folder: Path, columns: Sequence[str] | None = None) -> str:
    """The rows digest of a table."""
    path = folder / "table.parquet"
    pq.write_table(found, path)
    return rows_digest(path, columns)

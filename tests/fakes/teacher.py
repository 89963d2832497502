"""A scriptable teacher, a tokenizer of single bytes, and stages run in real processes that can be killed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fakes import forking

from trims_core.config import ScoresConfig
from trims_core.errors import TeacherUnavailableError
from trims_core.stage import main
from trims_core.teacher.protocol import ENGINE_ERROR, Beat, Refused, Reply, Request, Scored, TeacherInfo

LOG_VARIABLE = "TRIMS_FAKE_TEACHER_LOG"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class FakeTeacher:
    """Scores that are a hash of the row; notes what it was asked in the file of TRIMS_FAKE_TEACHER_LOG.

    Args:
        values: id → one value that stands at the first token instead ("nan", "-inf", "-0.3", …).
        silent: ids that get no reply. short: ids whose reply lacks a token. twice: ids answered twice.
        failing: ids the engine fails on, until a file `engine_works` lies beside the checkpoint.
        die_after: rows after which the teacher is gone.
        backwards: replies in reverse order. entropy: half of each value as its entropy.
    """

    def __init__(
        self,
        config: ScoresConfig,
        values: Mapping[str, str] | None = None,
        silent: Sequence[str] = (),
        failing: Sequence[str] = (),
        short: Sequence[str] = (),
        twice: Sequence[str] = (),
        die_after: int | None = None,
        backwards: bool = False,
        entropy: bool = False,
    ) -> None:
        self.values = dict(values or {})
        self.silent, self.short, self.twice = set(silent), set(short), set(twice)
        self.failing = () if (Path(config.model).parent / "engine_works").exists() else failing
        self.die_after = die_after
        self.backwards = backwards
        self.entropy = entropy
        self.longest = 0
        self._asked = 0

    def start(self, max_tokens: int, beat: Beat) -> TeacherInfo:
        self.longest = max_tokens
        self._note(f"start {max_tokens}")
        return TeacherInfo("fake 1", {"device": "none"})

    def score(self, requests: Sequence[Request], beat: Beat) -> Iterator[Reply]:
        for request in reversed(requests) if self.backwards else requests:
            if self.die_after is not None and self._asked >= self.die_after:
                raise TeacherUnavailableError("the fake teacher died, as it was told to")
            self._asked += 1
            self._note(f"row {request.id}")
            if request.id in self.silent:
                continue
            if request.id in self.failing:
                yield Refused(request.id, ENGINE_ERROR, "the fake engine failed, as it was told to")
                continue
            nll = fake_nll(request)
            if request.id in self.values:
                nll[0] = float(self.values[request.id])
            entropy = [value / 2 for value in nll] if self.entropy else None
            reply = Scored(request.id, nll[1:] if request.id in self.short else nll, entropy)
            yield reply
            if request.id in self.twice:
                yield reply

    def close(self) -> None:
        self._note("close")

    def _note(self, line: str) -> None:
        if path := os.environ.get(LOG_VARIABLE):
            with Path(path).open("a") as log:
                log.write(line + "\n")


def fake_nll(request: Request) -> list[float]:
    """One number in [0, 8) per target, from a hash of everything before and at it."""
    digest = hashlib.sha256(str(request.prompt_ids).encode())
    values = []
    for token in request.target_ids:
        digest.update(str(token).encode())
        values.append(digest.digest()[0] / 32)
    return values


def asked_rows(log: Path) -> list[str]:
    """Ids the fake teacher was asked about, in order, over all processes."""
    return [line.removeprefix("row ") for line in log.read_text().splitlines() if line.startswith("row ")]


def n_starts(log: Path) -> int:
    """How often a fake teacher was started."""
    return sum(line.startswith("start") for line in log.read_text().splitlines()) if log.exists() else 0


def write_tokenizer(
    folder: Path,
    template: str | None = CHATML,
    special: Sequence[str] = SPECIALS,
    added: Sequence[str] = (),
    **about: str | None,
) -> Path:
    """A checkpoint folder: a tokenizer whose tokens are single bytes, and a config.json (context 512).

    Args:
        special: further tokens. added: such that are not special.
        about: entries of tokenizer_config.json; eos_token is <|im_end|> if nothing is said.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template, **about}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in told.items() if v is not None})
    )
    limits = {"model_type": "qwen3", "max_position_embeddings": 512, "vocab_size": 512}
    (folder / "config.json").write_text(json.dumps(limits))
    return folder


def write_corpus(path: Path, n_rows: int) -> Path:
    """A JSONL file of short conversations with ids r0 …, some beyond ASCII."""
    tails = ("", " é", " 你好", " \ufffd x")
    rows = [
        {
            "id": f"r{i}",
            "messages": [
                {"role": "user", "content": f"What is {i} + {i}?"},
                {"role": "assistant", "content": f"It is {2 * i}.{tails[i % 4]}"},
            ],
        }
        for i in range(n_rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def raw_config(root: Path, n_rows: int = 20, rows_per_shard: int = 4) -> dict[str, Any]:
    """Settings whose corpus and scores stages are real and whose teacher is the fake one."""
    return {
        "name": "fake",
        "store": str(root / "store"),
        "corpus": {
            "path": str(write_corpus(root / "corpus.jsonl", n_rows)),
            "rows_per_shard": rows_per_shard,
        },
        "scores": {
            "teacher": "fakes.teacher:FakeTeacher",
            "model": str(write_tokenizer(root / "teacher")),
        },
        "student": {"model": "./none"},
        "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
    }


def start_stage(stage: str, config: Path, env: Mapping[str, str], *arguments: str) -> forking.Forked:
    """A process that runs `python -m trims_core.stage`."""
    return forking.start(main, [stage, "--config", str(config), *arguments], env=env)


def run_stage(stage: str, config: Path, env: Mapping[str, str], *arguments: str) -> int:
    """The exit code of a stage's process; negative for a signal."""
    return start_stage(stage, config, env, *arguments).ended().code

"""The demo's JSONL files: a fine-tuning set with worked answers, and sets of held-out problems."""

import json
import logging
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trims_core.demo.problems import Group, Problem, draw_problem
from trims_core.demo.wordings import worked_answer
from trims_core.errors import ConfigError, CorpusError
from trims_core.store.durable import write_atomically

logger = logging.getLogger(__name__)

DEFAULT_SEED = 7
N_TRAIN = 2000
N_TEST = 1200
TRAIN_NAME = "train.jsonl"
TEST_NAME = "test.jsonl"
_DRAWS_WITHOUT_NEWS: Final = 5000
"""Draws in a row that give no new question, after which the generator counts as exhausted (about 1 s)."""


def _distinct_problems(
    rng: random.Random, group: Group, count: int, without: Collection[str] = ()
) -> Iterator[Problem]:
    """Problems of one group whose questions all differ, from each other and from those of `without`.

    Raises:
        ConfigError: the generator has fewer of them; says how many it gave.
    """
    seen = set(without)
    for n_found in range(count):
        draws = (draw_problem(rng, group) for _ in range(_DRAWS_WITHOUT_NEWS))
        problem = next((drawn for drawn in draws if drawn.question not in seen), None)
        if problem is None:
            raise ConfigError(
                f"{count} problems asked for: the generator has {n_found} distinct {group} questions besides"
                f" the {len(without)} excluded ones (none new in {_DRAWS_WITHOUT_NEWS} draws);"
                f" ask for at most {n_found}"
            )
        seen.add(problem.question)
        yield problem


def train_rows(seed: int, count: int = N_TRAIN) -> Iterator[dict[str, Any]]:
    """Fine-tuning examples in the style "tuned": id and messages (question, worked answer)."""
    rng = random.Random(f"{seed}/fine-tuning set")
    for number, problem in enumerate(_distinct_problems(rng, "fine-tuning", count)):
        messages = [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": worked_answer(rng, problem, "tuned")},
        ]
        yield {"id": f"train-{number:05d}", "messages": messages}


def test_rows(
    seed: int, count: int = N_TEST, prefix: str = "test", without: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Held-out problems: id, question and the final number as a string.

    Args:
        prefix: of the ids, before a dash and the number.
        without: questions that do not occur.

    Raises:
        ConfigError: the generator has fewer distinct problems; says how many.
    """
    rng = random.Random(f"{seed}/held-out set")
    for number, problem in enumerate(_distinct_problems(rng, "held-out", count, without)):
        yield {"id": f"{prefix}-{number:05d}", "question": problem.question, "answer": str(problem.answer)}


def write_problems(out: Path, count: int, seed: int, prefix: str, without: Iterable[Path] = ()) -> Path:
    """Writes a fresh set of held-out problems in test.jsonl's format, the same bytes for the same arguments.

    Args:
        without: JSONL files whose questions do not occur (`question`, or the first user message of
            `messages`).

    Raises:
        ConfigError: a file is missing, or the generator has fewer distinct problems.
        CorpusError: a line without a question.
    """
    taken = {question for path in without for question in _questions(path)}
    out.parent.mkdir(parents=True, exist_ok=True)
    return _write_jsonl(out, test_rows(seed, count, prefix, taken))


def _questions(path: Path) -> Iterator[str]:
    """The question of every line of a JSONL file; blank lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); expected a JSONL file of questions") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _question(line, f"{path}:{number}")


def _question(line: str, place: str) -> str:
    try:
        row = json.loads(line)
        if "question" in row:
            question = row["question"]
        else:
            question = next(turn["content"] for turn in row["messages"] if turn["role"] == "user")
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise CorpusError(_no_question(place, line)) from error
    if not isinstance(question, str):
        raise CorpusError(_no_question(place, line))
    return question


def _no_question(place: str, line: str) -> str:
    return (
        f'{place}: no question in {line!r:.60}; expected {{"question": …}} or {{"messages": [{{"role":'
        ' "user", "content": …}, …]}. Correct the line, or leave the file out'
    )


def write_corpus(out_dir: Path, seed: int = DEFAULT_SEED) -> dict[str, Path]:
    """Writes train.jsonl and test.jsonl, the same bytes for the same seed; gives back their paths by name."""
    out_dir.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for name, rows in ((TRAIN_NAME, train_rows(seed)), (TEST_NAME, test_rows(seed))):
        written[name] = _write_jsonl(out_dir / name, rows)
        logger.info("wrote %s", written[name])
    return written


def _write_jsonl(path: Path, rows: Iterator[Mapping[str, object]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(path, text.encode())
    return path

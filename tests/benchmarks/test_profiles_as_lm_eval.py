"""Profiles taken from lm-evaluation-harness ask its documents in its very words.

The installed harness renders its own task files; the documents are made up, and put where the task reads.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.profile_facts import FACTS

from trims_core.profiles import get_profile

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed (make extras)")

Row = Mapping[str, Any]
SEED = 1234
"""The harness' own for examples."""
N_TRAIN = 7473
"""Rows of GSM8K's train split: what is drawn depends on their number."""
DRAWN = (6374, 3610, 957, 61, 742)
GSM8K = {"question": FACTS["gsm8k"]["question"], "answer": "1 + 1 = 2\n#### 2"}
MATH = {"problem": FACTS["math"]["question"], "solution": r"It is $\boxed{2}$."}
HUMANEVAL = {**FACTS["humaneval"], "test": "def check(candidate): pass"}
MBPP = {"text": FACTS["mbpp"]["text"], "test_list": FACTS["mbpp"]["tests"].split("\n"), "code": ""}


@pytest.fixture(autouse=True)
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The harness' task modules load offline: they fetch a metric, and ask for one version of a parser."""
    import evaluate

    monkeypatch.setattr(evaluate, "load", lambda _name: SimpleNamespace(compute=lambda **_rest: None))
    found = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.11" if name.startswith("antlr4") else found(name)
    )
    yield


def task_of(name: str, rows: Sequence[Row], train: Sequence[Row] = ()) -> Any:
    """A task of the harness on these rows."""
    import lm_eval
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(Path(str(lm_eval.__file__)).parent / "tasks" / f"{name}.yaml")
    splits = {"test": Dataset.from_list(list(rows)), "train": Dataset.from_list(list(train or rows))}
    task = ConfigurableTask(config={**config, "custom_dataset": lambda **_rest: splits})
    task.set_fewshot_seed(SEED)
    return task


def as_text(task: Any, n_shots: int) -> str:
    """The first document's prompt as the harness gives it to a model without a chat template."""
    return str(task.fewshot_context(next(iter(task.test_docs())), n_shots))


def as_messages(task: Any, n_shots: int) -> list[dict[str, str]]:
    """The conversation that the harness puts through a chat template; the answer's beginning is its last."""
    seen: list[dict[str, str]] = []

    def template(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        seen.extend(messages)
        return ""

    document = next(iter(task.test_docs()))
    task.fewshot_context(
        document,
        n_shots,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=template,
        gen_prefix=task.doc_to_prefix(document),
    )
    return seen


def asked(profile: str) -> tuple[str, list[dict[str, str]], str]:
    """A profile's (text of its last message, all messages, beginning of the answer)."""
    found = get_profile(profile)
    facts = FACTS[found.benchmark]
    messages = list(found.prompt.messages(facts, "test"))
    return messages[-1]["content"], messages, found.prompt.prefix(facts, "test")


@pytest.mark.parametrize(
    ("profile", "task", "row", "n_shots"),
    [
        ("gsm8k@d3llm-cot0", "gsm8k/gsm8k-cot-zeroshot", GSM8K, 0),
        ("gsm8k@d3llm-dream-cot0", "gsm8k/gsm8k-cot-zeroshot", GSM8K, 0),
        ("math@minerva-4shot", "minerva_math/minerva_math_algebra", MATH, 4),
        ("math@fastdllm-4shot", "minerva_math/minerva_math_algebra", MATH, 4),
        ("math@d3llm-dream0", "minerva_math/minerva_math_algebra", MATH, 0),
        ("humaneval@fastdllm-0shot", "humaneval/humaneval", HUMANEVAL, 0),
        ("mbpp@fastdllm-3shot", "mbpp/mbpp", MBPP, 3),
    ],
)
def test_a_prompt_is_the_harness_own_text(
    profile: str, task: str, row: Row, n_shots: int, tmp_path: Path
) -> None:
    expected = as_text(task_of(task, [row]), n_shots)
    text, messages, prefix = asked(profile)
    assert (text, len(messages), prefix) == (expected, 1, "")


@pytest.mark.parametrize(
    ("profile", "task", "row", "n_shots"),
    [
        ("humaneval@instruct", "humaneval/humaneval_instruct", HUMANEVAL, 0),
        ("mbpp@instruct", "mbpp/mbpp_instruct", MBPP, 3),
        ("math@d3llm-dream0", "minerva_math/minerva_math_algebra", MATH, 0),
        ("gsm8k@d3llm-dream-cot0", "gsm8k/gsm8k-cot-zeroshot", GSM8K, 0),
    ],
)
def test_a_conversation_is_the_harness_own(
    profile: str, task: str, row: Row, n_shots: int, tmp_path: Path
) -> None:
    expected = as_messages(task_of(task, [row]), n_shots)
    _, messages, prefix = asked(profile)
    begun = [{"role": "assistant", "content": prefix}] if prefix else []
    assert messages + begun == expected


def test_the_five_examples_of_gsm8k_are_those_the_harness_draws_first() -> None:
    train = [{"question": f"?{row}", "answer": f"!{row}"} for row in range(N_TRAIN)]
    for row, shot in zip(DRAWN, get_profile("gsm8k@fastdllm-5shot").prompt.shots, strict=True):
        train[row] = dict(shot)
    expected = as_text(task_of("gsm8k/gsm8k", [GSM8K], train), 5)
    text, messages, prefix = asked("gsm8k@fastdllm-5shot")
    assert (text, len(messages), prefix) == (expected, 1, "")


def test_dparallel_adds_its_request_to_the_harness_text() -> None:
    expected = as_text(task_of("gsm8k/gsm8k", [GSM8K]), 0)
    tail = r" Please reason step by step, and put your final answer within \boxed{}."
    assert asked("gsm8k@dparallel-boxed")[0] == expected + tail


@pytest.mark.parametrize(
    ("profile", "task", "row"),
    [
        ("gsm8k@d3llm-cot0", "gsm8k/gsm8k-cot-zeroshot", GSM8K),
        ("gsm8k@d3llm-dream-cot0", "gsm8k/gsm8k-cot-zeroshot", GSM8K),
        ("gsm8k@fastdllm-5shot", "gsm8k/gsm8k", GSM8K),
        ("gsm8k@dparallel-boxed", "gsm8k/gsm8k", GSM8K),
        ("math@minerva-4shot", "minerva_math/minerva_math_algebra", MATH),
        ("math@fastdllm-4shot", "minerva_math/minerva_math_algebra", MATH),
        ("math@d3llm-dream0", "minerva_math/minerva_math_algebra", MATH),
        ("humaneval@instruct", "humaneval/humaneval_instruct", HUMANEVAL),
        ("mbpp@fastdllm-3shot", "mbpp/mbpp", MBPP),
        ("mbpp@instruct", "mbpp/mbpp_instruct", MBPP),
    ],
)
def test_answers_stop_where_the_task_says(profile: str, task: str, row: Row) -> None:
    until = task_of(task, [row]).config.generation_kwargs["until"]
    assert get_profile(profile).stop_strings == tuple(until)


def test_the_five_examples_of_gsm8k_are_rows_of_its_train_split(shared_data: Path) -> None:
    import gzip

    with gzip.open(shared_data / "data/gsm8k/train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == N_TRAIN
    assert [dict(shot) for shot in get_profile("gsm8k@fastdllm-5shot").prompt.shots] == [
        rows[row] for row in DRAWN
    ]

"""Mathematics: math_verify under limits, and what it is given."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from trims_core.benchmarks import get_grader
from trims_core.benchmarks.graders import UNGRADED, symbolic
from trims_core.benchmarks.graders.worker_pool import Limits, WorkerPool

WHOLE, BOX, TEXT = (get_grader(name) for name in ("math_verify", "math_verify_box", "last_box_text"))
CASES = (
    (r"\boxed{\frac{1}{2}}", "0.5", "right"),
    (r"So \(x = 5\), hence \boxed{5}.", "5", "right"),
    (r"\boxed{6}", "5", "wrong"),
    (r"\boxed{9^{9^{9^9}}}", "5", "timeout"),
    (r"\boxed{2x + x}", "3x", "right"),
    (r"\boxed{5}", "", "error"),
    ("", "5", "wrong"),
    ("Nothing.", "5", "wrong"),
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "right"),
)


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, WorkerPool]]:
    """Pools of one and of two processes with a short limit."""
    found = {size: WorkerPool(symbolic.WORKER, size, Limits(cpu_s=1.0)) for size in (1, 2)}
    yield found
    for pool in found.values():
        pool.close()


@pytest.fixture
def one(pools: dict[int, WorkerPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The graders use the pool of one process."""
    monkeypatch.setattr(symbolic, "shared_pool", lambda _: pools[1])


@pytest.mark.parametrize("size", [1, 2])
def test_every_answer_has_a_verdict_whatever_the_others_are_and_how_many_processes_there_are(
    pools: dict[int, WorkerPool], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(symbolic, "shared_pool", lambda _: pools[size])
    texts, golds, expected = zip(*CASES, strict=True)
    found = WHOLE.grades(texts, golds)
    assert tuple(grade.verdict for grade in found) == expected
    assert all((grade.problem is not None) == (grade.verdict in UNGRADED) for grade in found)
    assert found[0].extracted == r"\frac{1}{2}"
    assert found[3].problem == "takes more than 1 s of CPU time"
    assert "finds no answer in the right answer ''" in (found[5].problem or "")


@pytest.mark.usefixtures("one")
def test_the_box_alone_or_the_whole_text() -> None:
    text = "Therefore the answer is $5$."
    assert (WHOLE.grade(text, "5").verdict, BOX.grade(text, "5").verdict) == ("right", "wrong")
    assert BOX.grades(["none", r"\boxed{\frac12}", "none"], ["5", "0.5", "5"])[1].verdict == "right"
    assert (TEXT.grade(r"\boxed{5}", "5").verdict, TEXT.grade(r"\boxed{5.0}", "5").verdict) == (
        "right",
        "wrong",
    )


@pytest.mark.usefixtures("one")
def test_a_verdict_on_the_grader_is_raised_where_a_truth_value_is_asked_for() -> None:
    assert WHOLE.is_right(r"\boxed{5}", "5")
    with pytest.raises(ValueError, match="finds no answer"):
        WHOLE.is_right(r"\boxed{5}", "")


def test_memory_is_limited_and_our_own_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(symbolic.WORKER, 1, Limits(cpu_s=20.0, memory_mib=160))
    monkeypatch.setattr(symbolic, "shared_pool", lambda _: pool)
    try:
        found = WHOLE.grades([f"\\boxed{{{'1' * 200_000}}}", r"\boxed{5}"], ["5", "5"])
    finally:
        pool.close()
    assert (found[0].verdict, found[0].problem) == ("error", "MemoryError: needs more than 80 MiB")
    assert found[1].verdict == "right"
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 160 << 20


def test_right_answers_are_what_boxes_hold() -> None:
    assert [WHOLE.gold_of(text) for text in (r"so \boxed{\frac{1}{2}}", r" \frac12 ", " ")] == [
        r"\frac{1}{2}",
        r"\frac12",
        None,
    ]
    assert WHOLE.finds_gold

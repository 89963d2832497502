"""Verdicts and rewards of rollouts: joined by the answer's digest, and no grader decodes anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_world import Decoded
from fakes.rollout_world import (
    GRADES,
    N_PROMPTS,
    OWN,
    ROLLOUTS,
    Parity,
    RolloutWorld,
    columns,
    parity,
)

from trims_core import schema
from trims_core.benchmarks import GRADERS
from trims_core.errors import SweepError
from trims_core.grades.grading import judge_completion, judge_own
from trims_core.store import Artifact
from trims_core.token_digests import ids_digest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with rollouts and grades."""
    root = tmp_path_factory.mktemp("graded")
    RolloutWorld(root).run()
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RolloutWorld:
    copy = RolloutWorld(tmp_path)
    shutil.copytree(made / "store", tmp_path / "store")
    return copy


def grades_of(artifact: Artifact) -> dict[str, list[Any]]:
    return columns(artifact, schema.ROLLOUT_GRADES, "/grades.parquet")


def test_every_rollout_has_a_verdict_joined_by_the_digest_of_its_answer(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GRADERS, Parity.name, Parity())
    monkeypatch.setattr(Parity, "version", 7)
    done = world.run()
    answers = columns(done[ROLLOUTS].artifact, schema.ROLLOUTS, "/rollouts.parquet")
    found = grades_of(done[GRADES].artifact)
    assert (found["id"], found["rollout"]) == (answers["id"], answers["rollout"])
    assert found["response_digest"] == [ids_digest(ids) for ids in answers["token_ids"]]
    pairs = zip(answers["id"], answers["text"], strict=True)
    right = [parity(text) == parity(f"The answer is {name[1:]}.") for name, text in pairs]
    assert found["verdict"] == ["right" if one else "wrong" for one in right]
    assert found["reward"] == [float(one) for one in right]
    assert {True, False} == set(right)
    counts = done[GRADES].artifact.manifest.counts
    assert counts == {"n_rollouts": 2 * N_PROMPTS, "n_right": sum(right), "n_ungraded": 0}
    assert (
        f"{sum(right)} of {2 * N_PROMPTS} answers are right"
        in (done[GRADES].artifact.path / "card.md").read_text()
    )


def test_the_right_answer_is_that_of_the_corpus_own_completion(world: RolloutWorld) -> None:
    found = grades_of(world.run()[GRADES].artifact)
    assert dict(zip(found["id"], found["gold"], strict=True)) == {f"r{i}": str(i) for i in range(N_PROMPTS)}


def test_another_grader_decodes_nothing(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    done = world.run(grader=f"{OWN}:even")
    assert (decoded.taken(), done[ROLLOUTS].how, done[GRADES].how) == ([], "cached", "made")
    assert world.run(grader=f"{OWN}:even")[GRADES].how == "cached"


def test_a_reward_is_right_from_the_setting_on(world: RolloutWorld) -> None:
    done = world.run(grader=f"{OWN}:size", right_from=2.5)
    found = grades_of(done[GRADES].artifact)
    texts = columns(done[ROLLOUTS].artifact, schema.ROLLOUTS, "/rollouts.parquet")["text"]
    assert found["reward"] == [len(text) / 4 for text in texts]
    assert found["verdict"] == ["right" if len(text) / 4 >= 2.5 else "wrong" for text in texts]
    assert found["gold"] == [None] * len(texts)
    again = world.run(grader=f"{OWN}:size", right_from=0.0)[GRADES]
    assert set(grades_of(again.artifact)["verdict"]) == {"right"}


def test_a_grader_that_fails_is_counted_and_told(
    world: RolloutWorld, caplog: pytest.LogCaptureFixture
) -> None:
    done = world.run(grader=f"{OWN}:brittle")
    found = grades_of(done[GRADES].artifact)
    verdict = dict(zip(found["id"], found["verdict"], strict=True))
    assert [verdict[f"r{i}"] for i in (1, 2, 3, 4)] == ["timeout", "error", "error", "right"]
    failed = [row for row, name in enumerate(found["id"]) if name in ("r1", "r2", "r3")]
    assert [found["reward"][row] for row in failed] == [None] * 6
    assert done[GRADES].artifact.manifest.counts["n_ungraded"] == 6
    assert any("expected true, false or a finite number" in r.message for r in caplog.records)


def test_a_grader_that_judges_nothing_is_an_error(world: RolloutWorld) -> None:
    with pytest.raises(
        SweepError, match=r"failed on all 14 answers; the first: ZeroDivisionError: no remainder"
    ):
        world.run(grader=f"{OWN}:always_raises")


def test_a_completion_without_an_answer_is_no_verdict_on_the_student() -> None:
    grade = judge_completion(Parity(), "four four", "four")
    assert (grade.verdict, grade.reward, grade.gold) == ("right", 1.0, str(parity("four")))
    without = judge_completion(GRADERS["last_answer_sentence"], "The answer is 4.", "Who knows?")
    assert (without.verdict, without.reward) == ("error", None)
    assert without.problem is not None
    assert "finds no answer in the corpus' completion" in without.problem


def test_a_truth_value_is_a_verdict_whatever_right_from_is() -> None:
    grade = judge_own(lambda *_: True, [], "text", "answer", 5.0)
    assert (grade.verdict, grade.reward) == ("right", 1.0)
    assert judge_own(lambda *_: False, [], "text", "answer", -1.0).verdict == "wrong"


def test_a_reward_that_is_just_enough_is_right() -> None:
    assert judge_own(lambda *_: 0.5, [], "text", "answer", 0.5).verdict == "right"
    assert judge_own(lambda *_: 0.49, [], "text", "answer", 0.5).verdict == "wrong"

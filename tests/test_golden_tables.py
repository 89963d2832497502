"""What every stage but training makes of a small world, as digests: equal inputs give equal rows for ever.

`PYTHONPATH=.:tests python -m fakes.golden_world` prints the digests. A change of them is a change of results:
raise the stage's VERSION with it.

Covered: all columns of corpus, scores, rejects, aligned, buckets and grades; of a greedy sweep by the shipped
student the tokens, their order and the forwards, which were equal with AVX2 kernels and without, in batches
of 3 and of 20; the numbers and the text of a report on made-up answers. Not covered: adapters, and a sweep's
confidences and entropies, whose last digits are the CPU's; times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from fakes.chain_world import digest, golden_tables, table
from fakes.golden_world import cells, decoded, digests_of_answers, digests_of_report, report_data

from trims_core.store import Artifact

GOLDEN: Final = {
    "corpus": "d0722be833eb78ecfa805b883abbca1cf2dd4dece178d0941256516b4f502355",
    "scores": "ef4590812d1a0321358a0ee0944dcac8c4c66a3b45aa4f57127e5d72e3715f52",
    "rejects": "dc69d04742cc271b91876f86dc428d8933341db3d5e15f84c9ae2135bf719d2e",
    "aligned": "774f6f0eb1d019ab75e39e373377a6f4f016125da27a4afbaa4d6ffdb72e7213",
    "buckets": "97b9a5d7383b27359d0e8d8d445823ccbf2b549072fc3f770cd9498dc55ffb45",
}
GOLDEN_ANSWERS: Final = {
    "samples": "bd33cb5d75749ff840bcfb4ece370b8904cf97d4471518b558e0df9129c24050",
    "grades": "85809b42f699a9532d4c4cb2bf900eb7f60378fa5e6a8116b7705e3cc01b8a64",
    "cells": "68756a8a4afafbe0b1d2d283475a0d3cc893e9343ab8264f2140d325d70c6700",
}
GOLDEN_REPORT: Final = {
    "results": "63173d8e3aa22fa7b2017089787d150656fc5b754e86adf646783e93c9979573",
    "tables": "670831bad5bfc935ddee4f25b006c1ba36227e88dc2274d6a031c88c7d3c029f",
}
# Computed by the code of commit 036f00a, before scores and buckets consisted of units, from the same world.
BUCKET_COLUMNS: Final = ("id", "input_ids", "difficulty_nats", "bucket")
BUCKETS_BEFORE_UNITS: Final = "589f6de6ef00f3c1fecc759d066f7873e10f964eaf29f8d31280fad84f25d5a4"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    return golden_tables(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> dict[str, Artifact]:
    return decoded(tmp_path_factory.mktemp("golden"), project_root)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report_data(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", list(GOLDEN))
def test_rows_are_what_they_have_always_been(name: str, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    assert digest(tables[name], tmp_path) == GOLDEN[name]


def test_answers_and_grades_are_what_they_have_always_been(
    answers: dict[str, Artifact], tmp_path: Path
) -> None:
    assert digests_of_answers(answers, tmp_path) == GOLDEN_ANSWERS


def test_a_reports_numbers_and_text_are_what_they_have_always_been(report: dict[str, Any]) -> None:
    assert digests_of_report(report) == GOLDEN_REPORT


def test_bucket_ids_are_those_from_before_there_were_units(
    tables: dict[str, pa.Table], tmp_path: Path
) -> None:
    assert digest(tables["buckets"], tmp_path, BUCKET_COLUMNS) == BUCKETS_BEFORE_UNITS


def test_the_world_has_what_can_go_wrong(tables: dict[str, pa.Table]) -> None:
    assert tables["rejects"]["id"].to_pylist() == ["r1"]
    assert tables["corpus"].num_rows == 20 == tables["scores"].num_rows + 1
    n_student = sum(len(row) for row in tables["aligned"]["difficulty_nats"].to_pylist())
    n_teacher = sum(len(row) for row in tables["scores"]["nll_nats"].to_pylist())
    assert n_student < n_teacher, "otherwise there was nothing to align"
    assert {b for row in tables["buckets"]["bucket"].to_pylist() for b in row} == {1, 2, 3, 4, 5}


def test_the_answers_are_right_and_wrong_and_the_report_compares(
    answers: dict[str, Artifact], report: dict[str, Any]
) -> None:
    assert {row["verdict"] for row in table(answers["grades"], "grades").to_pylist()} == {"right", "wrong"}
    slow, fast = cells(answers["grades"])
    assert slow["forwards"] > fast["forwards"] and slow["n_correct"] > fast["n_correct"]
    task = report["results"]["tasks"]["demo"]
    assert len(task["comparisons"]) == 3 and task["equal_tpf"]["levels"] and len(task["caches"]) == 2

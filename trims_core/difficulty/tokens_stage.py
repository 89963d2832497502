"""The tokens stage: the corpus as the student reads it, for methods and stages that need no teacher.

One unit per corpus shard. The rows are those of aligned without difficulties, made by the same code. Nodes
`tokens/<privilege>` render prompts in which the right answer stands, for methods that need such a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.difficulty.reading import ReadSettings, finish, inputs, student_renderer, write_shard
from trims_core.errors import RejectBudgetError
from trims_core.fingerprint import Json
from trims_core.graph import Node
from trims_core.privileged import Privilege
from trims_core.rejects import check_budget
from trims_core.schema import CORPUS_TEXT, TOKENS
from trims_core.sections import LATER
from trims_core.stage import Make, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest

VERSION: Final = 1
TABLE_FILE: Final = "tokens.parquet"


class TokensSettings(ReadSettings):
    """What the tokens depend on, beside the corpus and the student's tokenizer."""

    privilege: Annotated[Privilege | None, LATER] = None
    """What prompts show of the right answer."""


def settings(config: TrimsConfig, node: Node | None = None) -> TokensSettings:
    """From the section student, how completions end, and what the node's prompts show."""
    return TokensSettings(
        privilege=node.params.get("privilege") if node else None,
        supervised_end=config.buckets.supervised_end,
        family=config.student.family,
        student=config.student,
        max_rejected_fraction=config.max_rejected_by_student,
    )


def units(work: Work, _facts: None) -> list[Unit]:
    """One per corpus shard."""
    corpus = work.parents["corpus"]
    return [
        Unit(
            shard.name.replace("corpus", "tokens"),
            work.settings.result_fields(),
            {**work.inputs, "corpus": rows_digest(file, CORPUS_TEXT)},
            file,
        )
        for shard, file in zip(corpus.units, corpus.files("corpus-", ".parquet"), strict=True)
    ]


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Loads the student's tokenizer and renders shards.

    Raises:
        ConfigError: the student cannot stop at the end it would be taught, or its chat template shows no
            system message, and the right answer is to stand in one.
    """
    from trims_core.difficulty.student_rows import Reader, read_shard

    n_done, n_all = len(done), len(done) + len(waiting)
    work.progress(n_done, n_all, "loading the student's tokenizer")
    chosen: TokensSettings = work.settings
    renderer = student_renderer(chosen)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done

        def tick(n_rows: int) -> None:
            work.progress(n_done, n_all, f"reading {unit.name}: {n_rows} rows")

        found = read_shard(unit.source, Reader(renderer, chosen.privilege), tick)
        made = write_shard(attempt, unit, TABLE_FILE, TOKENS, found)
        fault_point("tokens.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"read {unit.name}")
        return made

    yield make


def gate(chosen: ReadSettings, counts: Mapping[str, int], info: Mapping[str, Json]) -> None:
    """Raises RejectBudgetError if the student cannot read more of the rows than the settings allow."""
    check_budget(
        "tokens",
        chosen.max_rejected_fraction,
        counts["n_in"],
        info["rejected"],
        RejectBudgetError,
        "rows the student can read",
        "student.max_rejected_fraction",
    )


SPEC: Final = StageSpec(
    "tokens",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
    gate=gate,
)

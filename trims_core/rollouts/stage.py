"""The rollouts stage: a student answers the corpus' prompts; answers are kept with their order of reveals.

A unit is a chunk of prompts of a tokens shard and the number of the answer. Its key holds what decoding reads
and nothing else: more samples decode only these, another grader decodes nothing. Prompts come as tokens,
exactly those that training renders; their digest stands beside every answer. The student is the untuned one,
or in a round of reinforcement the one that the round before trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

from trims_core._faults import fault_point
from trims_core.benchmarks import find_grader
from trims_core.benchmarks.rewards import find_reward
from trims_core.errors import InputError, SweepError
from trims_core.fingerprint import Digests, sha256_json
from trims_core.points import point_text
from trims_core.rollouts.groups import compare
from trims_core.rollouts.prompts import chosen_rows
from trims_core.rollouts.settings import (
    RolloutsSettings,
    UnitSettings,
    draw_name,
    settings,
    unit_settings,
)
from trims_core.schema import ROLLOUTS, TOKENS, read_table, write_table
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.token_digests import ids_digest
from trims_core.trained import trained_model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trims_core.decoding.runner import Answers

VERSION: Final = 1
CHUNK: Final = 64
"""Prompts per unit: what a crash may cost, and the grain in which `limit` grows without decoding again."""
TABLE_FILE: Final = "rollouts.parquet"
_LEAST: Final = 2.0**-149
"""What a probability is at least, in float32, where a token was drawn."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive prompts of a tokens shard."""

    ids: Sequence[str]
    prompts: Sequence[npt.NDArray[np.int32]]
    digests: Sequence[str]
    """Of the prompts."""


@dataclass(frozen=True)
class Answered:
    """What a unit is made from: prompts, and which of their answers."""

    chunk: Chunk
    decoding: UnitSettings


def inputs(chosen: RolloutsSettings, digests: Digests) -> dict[str, str]:
    """The student's files."""
    return {"student": digests.checkpoint(chosen.student.model, chosen.student.revision)}


def units(work: Work, _facts: None) -> list[Unit]:
    """Answer by answer, one per chunk of at most CHUNK prompts: `rollout-0/tokens-00003-0001`.

    Raises:
        InputError: there is no prompt.
    """
    chosen: RolloutsSettings = work.settings
    chunks = dict(_chunks(work))
    if not chunks:
        raise InputError(f"{work.parents['tokens'].path}: no example; expected at least one. See its rejects")
    prompts = {
        name: sha256_json(list(zip(chunk.ids, chunk.digests, strict=True))) for name, chunk in chunks.items()
    }
    adapter = {"adapter": trained_model(work.parents["train"]).digest} if "train" in work.parents else {}
    found = []
    for rollout in range(len(chosen.temperatures)):
        decoding = unit_settings(chosen, rollout)
        for name, chunk in chunks.items():
            made_of = {**work.inputs, **adapter, "prompts": prompts[name]}
            found.append(
                Unit(
                    f"rollout-{rollout}/{name}",
                    decoding.result_fields(),
                    made_of,
                    Answered(chunk, decoding),
                )
            )
    return found


def _chunks(work: Work) -> Iterator[tuple[str, Chunk]]:
    """Name → prompts, shard by shard."""
    tokens = work.parents["tokens"]
    files = tokens.files("tokens-", "/tokens.parquet")
    rows = chosen_rows([pq.read_metadata(file).num_rows for file in files], work.settings)
    for shard, file, wanted in zip(tokens.units, files, rows, strict=True):
        if not wanted:
            continue
        table = read_table(file, TOKENS)
        ids: list[str] = table["id"].to_pylist()
        lists, lengths = table["input_ids"].combine_chunks(), table["prompt_length"].to_pylist()
        ends = lists.offsets.to_pylist()
        flat = lists.values.to_numpy(zero_copy_only=False)
        for number, start in enumerate(range(0, len(wanted), CHUNK)):
            places = wanted[start : start + CHUNK]
            prompts = [flat[ends[place] : ends[place] + lengths[place]] for place in places]
            digests = [ids_digest(prompt) for prompt in prompts]
            yield f"{shard.name}-{number:04d}", Chunk([ids[place] for place in places], prompts, digests)


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Loads the student and decodes chunks.

    Raises:
        ConfigError: settings that no decoding is defined for, a grader or reward that is not there (both
            before the student is loaded), tokens the student does not have, or a prompt that does not fit
            (before anything is decoded).
        SweepError: decoding failed; names the unit.
    """
    from trims_core.decoding import CACHES, DecodeSettings
    from trims_core.decoding.from_settings import rule_at, sampling_for, sampling_without_tokens
    from trims_core.decoding.progress import DecodingProgress
    from trims_core.decoding.runner import load_runner

    chosen: RolloutsSettings = work.settings
    if chosen.grader is not None:
        find_grader(chosen.grader, "rollouts.grader")
    for name in chosen.rewards:
        find_reward(name, "rollouts.rewards")
    decode_settings = DecodeSettings(
        rule=rule_at(chosen.rule, chosen.threshold, chosen.gen_length, gamma_min=chosen.gamma_min),
        gen_length=chosen.gen_length,
        block_length=chosen.block_length,
        stop_at_end=chosen.stop_at_end,
        batch_size=chosen.batch_size,
        cache=CACHES[chosen.cache],
        sampling=sampling_without_tokens(chosen.sampling),
    )
    decode_settings.check()
    n_done = sum(record.notes["n"] for record in done)
    n_waiting = sum(len(unit.source.chunk.ids) for unit in waiting)
    tell = DecodingProgress(work.node_id, work.progress, n_done, n_waiting)
    adapter = trained_model(work.parents["train"]).folder if "train" in work.parents else None
    runner = load_runner(chosen.student, adapter, None)
    sampling = sampling_for(chosen.sampling, runner.student, "rollouts")
    for unit in waiting:
        chunk: Chunk = unit.source.chunk
        runner.check_lengths(chunk.ids, chunk.prompts, chosen.gen_length, "rollouts: the prompt of example")

    def make(unit: Unit, attempt: Attempt) -> Made:
        fault_point("rollouts.before_chunk")
        chunk, decoding = unit.source.chunk, unit.source.decoding
        own = replace(sampling, temperature=decoding.sampling.temperature, seed=decoding.sampling.seed)
        prompts = [prompt.tolist() for prompt in chunk.prompts]
        names = _names(unit.source)
        try:
            answers = runner.answer(
                prompts, replace(decode_settings, sampling=own), tell.of(unit.name), names
            )
        except SweepError as error:
            raise SweepError(f"{work.node_id}, {unit.name}: {error}") from error
        conditions = {"batch_size": chosen.batch_size, "workers": runner.workers}
        about = {**unit.settings, "inputs": dict(unit.inputs), **conditions}
        columns = _columns(unit.source, answers)
        n_rows = write_table(attempt.path / TABLE_FILE, ROLLOUTS, columns, about)
        fault_point("rollouts.before_record")
        notes = {
            "n": n_rows,
            "tokens": sum(columns["n_tokens"]),
            "forwards": sum(columns["n_forwards"]),
            "n_unfinished": columns["finished"].count(False),
            "seconds": answers.seconds,
            **conditions,
        }
        tell.finished(unit.name, notes)
        return Made({TABLE_FILE: n_rows}, notes)

    yield make


def _names(source: Answered) -> list[str]:
    return [draw_name(prompt_id, source.decoding.rollout) for prompt_id in source.chunk.ids]


def _columns(source: Answered, answers: Answers) -> dict[str, list[Any]]:
    """Of schema.ROLLOUTS."""
    from trims_core.decoding.engine import noise_seed

    chunk, decoding = source.chunk, source.decoding
    n, sampling = len(chunk.ids), decoding.sampling
    seeds: list[int | None] = [None] * n
    if sampling.temperature > 0:
        seeds = [noise_seed(sampling.seed, name, 0) for name in _names(source)]
    columns = answers.columns()
    return {
        **{name: column for name, column in columns.items() if name in ROLLOUTS.schema.names},
        "id": list(chunk.ids),
        "rollout": [decoding.rollout] * n,
        "prompt_digest": list(chunk.digests),
        "temperature": [sampling.temperature] * n,
        "draw_seed": seeds,
        "logprob": [[_log(value) for value in row] for row in columns["confidence"]],
    }


def _log(probability: float | None) -> float | None:
    return None if probability is None else math.log(max(probability, _LEAST))


def finish(work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card.

    Raises:
        EqualRolloutsError: the answers to most prompts are copies drawn with the same noise.
    """
    chosen: RolloutsSettings = work.settings
    n_answers = len(chosen.temperatures)
    by_chunk: dict[str, list[UnitRecord]] = {}
    for name, record in done.items():
        by_chunk.setdefault(name.partition("/")[2], []).append(record)
    samples = [place for place, at in enumerate(chosen.temperatures) if at == chosen.temperatures[0]]
    groups = compare([records[place].file(TABLE_FILE) for place in samples] for records in by_chunk.values())
    groups.check(work.node_id)
    total = {
        name: sum(record.notes[name] for record in done.values())
        for name in ("n", "tokens", "forwards", "n_unfinished", "seconds")
    }
    counts = {
        "n_prompts": total["n"] // n_answers,
        "n_rollouts": total["n"],
        "n_unfinished": total["n_unfinished"],
        "n_groups": groups.n_groups,
        "n_equal_groups": groups.n_equal_groups,
        "n_distinct": groups.n_distinct,
    }
    info = {
        "student": chosen.student.model,
        "decoding_seconds": total["seconds"],
        "tokens": total["tokens"],
        "forwards": total["forwards"],
        "temperatures": list(chosen.temperatures),
    }
    return Outcome(counts, info, _card(chosen, counts, info), chosen.sampling.seed)


SPEC: Final = StageSpec(
    "rollouts",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
    apart=True,
)


def _card(chosen: RolloutsSettings, counts: Mapping[str, int], info: Mapping[str, Any]) -> str:
    stop = "stops at the end token" if chosen.stop_at_end else "fills the whole canvas"
    point = "one token per forward" if chosen.rule is None else point_text(chosen.rule, chosen.threshold)
    temperatures = ", ".join(f"{value:g}" for value in chosen.temperatures)
    lines = [
        f"{len(chosen.temperatures)} answer(s) to each of {counts['n_prompts']} prompts at temperature"
        f" {temperatures}: canvases of {chosen.gen_length} positions in blocks of {chosen.block_length},"
        f" {point}, cache {chosen.cache}; decoding {stop}. {info['tokens']} tokens in {info['forwards']}"
        f" forwards; {counts['n_unfinished']} answers have no end token.",
    ]
    if counts["n_groups"]:
        lines.append(
            f"All samples are equal for {counts['n_equal_groups']} of {counts['n_groups']} prompts: the"
            " student is sure of them."
        )
    return "\n\n".join(lines)

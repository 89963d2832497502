"""Decoding and grading the problems of one cell. Imports torch inside functions only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trims_core.benchmarks import Benchmark, Problem
from trims_core.config import SweepConfig, TrimsConfig
from trims_core.errors import ConfigError, SweepError
from trims_core.sweep.cells import Cell

if TYPE_CHECKING:
    from trims_core.decoding import Decoded, DecodeSettings
    from trims_core.students import Student

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class TaskProblems:
    """A task's problems and how they are graded."""

    name: str
    benchmark: Benchmark
    problems: Sequence[Problem]


@dataclass(frozen=True)
class CellResult:
    """The columns of a cell's samples (without the model's identity) and the wall time of decoding."""

    columns: Mapping[str, list[Any]]
    seconds: float


class Runner:
    """One student, ready to decode cells; prompts are rendered once per task."""

    def __init__(
        self,
        student: Student,
        config: SweepConfig,
        system_prompt: str | None,
    ) -> None:
        from trims_core.decoding import default_workers
        from trims_core.rendering import Renderer
        from trims_core.sweep.rules import sampling_for

        self._sampling = sampling_for(config.sampling, student)
        self.workers = default_workers(student)
        self._student = student
        self._tokenizer = student.tokenizer
        self._renderer = Renderer(student.tokenizer)
        self._config = config
        self._is_warm = False
        self._system = () if system_prompt is None else ({"role": "system", "content": system_prompt},)
        self._prompts: dict[str, list[list[int]]] = {}

    def run(self, cell: Cell, task: TaskProblems, on_step: OnStep) -> CellResult:
        """Decode and grade every problem of the cell.

        Raises:
            SweepError: decoding failed; names the cell.
            ConfigError: a prompt and the canvas do not fit into the student's context.
        """
        from trims_core.decoding import decode_parallel
        from trims_core.sweep.rules import decode_settings

        prompts = self._prompts_of(task)
        settings = decode_settings(self._config, cell, self._sampling)
        try:
            if not self._is_warm:
                self._warm_up(prompts[0], settings)
            started = time.perf_counter()
            decoded = decode_parallel(self._student, prompts, settings, self.workers, on_step)
            seconds = time.perf_counter() - started
        except (SweepError, RuntimeError) as error:  # RuntimeError: torch's own, out of memory among them
            raise SweepError(f"cell {cell.text()}: {error}") from error
        return CellResult(self._columns(cell, task, decoded), seconds)

    def _warm_up(self, prompt: list[int], settings: DecodeSettings) -> None:
        """One short decoding, so that no cell's time contains what happens only once."""
        from trims_core.decoding import TopK, decode

        length = self._config.block_length
        short = replace(settings, rule=TopK(min(2, length)), gen_length=length, batch_size=1)
        decode(self._student, [prompt], short)
        self._is_warm = True

    def _prompts_of(self, task: TaskProblems) -> list[list[int]]:
        if task.name not in self._prompts:
            conversations = [(*self._system, *problem.messages) for problem in task.problems]
            names = [problem.id for problem in task.problems]
            prompts = self._renderer.prompts(conversations, names)
            self._check_context(task.name, names, prompts)
            self._prompts[task.name] = prompts
        return self._prompts[task.name]

    def _check_context(self, task: str, names: Sequence[str], prompts: Sequence[Sequence[int]]) -> None:
        room = self._student.family.context_length - self._config.gen_length
        longest = max(range(len(prompts)), key=lambda place: len(prompts[place]))
        if len(prompts[longest]) > room:
            raise ConfigError(
                f"task {task}: the prompt of problem {names[longest]!r} has {len(prompts[longest])} tokens;"
                f" at most {room} fit beside sweep.gen_length {self._config.gen_length} into the student's"
                f" context of {self._student.family.context_length}. Lower sweep.gen_length, or leave the"
                " problem out"
            )

    def _columns(self, cell: Cell, task: TaskProblems, decoded: Sequence[Decoded]) -> dict[str, list[Any]]:
        from trims_core.decoding.engine import texts_of

        texts = texts_of(decoded, self._student, self._config.stop_strings)
        again = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        answers = [task.benchmark.extract(text) for text in texts]
        return {
            "task": [cell.task] * len(decoded),
            "cache": [cell.cache] * len(decoded),
            "threshold": [cell.threshold] * len(decoded),
            "sample_id": [problem.id for problem in task.problems],
            "prompt": [problem.messages[-1]["content"] for problem in task.problems],
            "text": texts,
            "gold": [problem.gold for problem in task.problems],
            "answer": answers,
            "correct": [
                task.benchmark.grade(text, problem.gold)
                for text, problem in zip(texts, task.problems, strict=True)
            ],
            "finished": [item.finished for item in decoded],
            "n_tokens": [item.n_tokens for item in decoded],
            "n_tokens_canvas": [len(item.token_ids) for item in decoded],
            "n_tokens_text": [len(ids) for ids in again],
            "n_forwards": [item.n_forwards for item in decoded],
            "seconds": [item.seconds for item in decoded],
            "token_ids": [item.token_ids for item in decoded],
            "reveal_step": [item.reveal_step for item in decoded],
            "confidence": [item.confidence for item in decoded],
            "entropy": [item.entropy for item in decoded],
        }


def load_runner(config: TrimsConfig, adapter: Path | None) -> Runner:
    """The student with its adapter (None: untuned), on its device, ready to decode.

    Raises:
        ConfigError: settings that no decoding is defined for (before the student is loaded), or tokens to
            suppress that it does not have.
    """
    from trims_core.students import load_student
    from trims_core.sweep.rules import check_settings

    check_settings(config.sweep)
    wanted = config.student
    logger.info("sweep: loading %s%s", wanted.model, "" if adapter is None else f" with {adapter}")
    student = load_student(
        wanted.model,
        revision=wanted.revision,
        dtype=wanted.dtype,
        device=wanted.device,
        adapter=adapter,
        family=wanted.family,
        device_map=wanted.device_map,
        load_in_4bit=wanted.load_in_4bit,
    )
    if adapter is not None and wanted.dtype == "float32" and not wanted.load_in_4bit:
        # one product per layer instead of three; in a narrower type the sum would round the adapter away
        student.model = student.model.merge_and_unload()
    return Runner(student, config.sweep, config.corpus.system_prompt)

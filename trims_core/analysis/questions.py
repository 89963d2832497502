"""The texts of some trajectories as the teacher is asked about them, each once, and what it said.

A text stands behind its problem's prompt as an answer does, with the end of turn behind it, as in the scores:
so the last state of a finished answer and the answer itself are one question. What the template or the
tokenizer refuses, what is too long and what the engine does not score is kept with its reason.

Shapes: R questions; T targets of one: the text's tokens and the end of turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trims_core.benchmarks import Problem
from trims_core.errors import CorpusError
from trims_core.rendering import TEMPLATE_REFUSES, Refusal, RenderedRows, Renderer
from trims_core.teacher.cleaning import UnusableScoresError
from trims_core.teacher.protocol import Beat, Refused, Reply, Request, Teacher
from trims_core.teacher.replies import Nats, match_replies, objection, values_of

Text = tuple[str, str]
"""Problem id, and what answers it so far."""


@dataclass(frozen=True)
class Said:
    """What the teacher said of a text."""

    nll_T: Nats
    """Of the text's tokens, then of the end of turn's."""
    byte_end_T: npt.NDArray[np.int32]
    """In the text's UTF-8 bytes; the end of turn repeats the last one."""
    n_end: int
    """Tokens of the end of turn."""

    @property
    def n_tokens(self) -> int:
        """Of the text alone."""
        return len(self.nll_T) - self.n_end

    def mean_nats(self) -> float:
        """Per token of the text."""
        return float(self.nll_T[: self.n_tokens].mean(dtype=np.float64))


@dataclass
class Questions:
    """Different texts in the teacher's tokens; in arrays, because every model has thousands."""

    n_end: int
    """Tokens of the end of turn."""
    texts: list[Text] = field(default_factory=list)
    prompts_R: list[npt.NDArray[np.int32]] = field(default_factory=list)
    targets_R: list[npt.NDArray[np.int32]] = field(default_factory=list)
    byte_ends_R: list[npt.NDArray[np.int32]] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)
    """By the question's number."""

    def add(self, texts: Sequence[Text], rows: RenderedRows) -> None:
        """Take some rendered texts of one problem, whose prompts are kept once."""
        first, offset_R1 = len(self.texts), rows.targets.offset_R1.tolist()
        prompts: dict[bytes, npt.NDArray[np.int32]] = {}
        self.texts += texts
        for number, ids in enumerate(rows.prompts):
            prompt, part = np.asarray(ids, np.int32), slice(*offset_R1[number : number + 2])
            self.prompts_R.append(prompts.setdefault(prompt.tobytes(), prompt))
            self.targets_R.append(rows.targets.ids_T[part])
            self.byte_ends_R.append(rows.targets.byte_end_T[part])
        for number, why in rows.refused.items():
            self.refused[first + number] = Refused(str(first + number), why.reason, why.detail)

    def longest(self, context: int | None) -> int:
        """Tokens of the longest question that the teacher can read; at least 2."""
        pairs = zip(self.prompts_R, self.targets_R, strict=True)
        lengths = (len(p) + len(t) for row, (p, t) in enumerate(pairs) if row not in self.refused)
        return max((n for n in lengths if context is None or n <= context), default=2)

    def n_tokens(self) -> int:
        """Tokens of all questions together."""
        return sum(map(len, self.prompts_R)) + sum(map(len, self.targets_R))

    def request(self, row: int) -> Request:
        """A question as the teacher takes it."""
        return Request(str(row), self.prompts_R[row].tolist(), self.targets_R[row].tolist())

    def said(self, replies: Iterable[Reply]) -> dict[Text, Said | Refused]:
        """What the replies say of each text: values, or why there are none."""
        found: dict[Text, Said | Refused] = {}
        for reply in replies:
            row = int(reply.id)
            try:
                nll_T, _ = values_of(reply, len(self.targets_R[row]))
            except UnusableScoresError as problem:
                found[self.texts[row]] = Refused(reply.id, problem.reason, problem.detail)
                continue
            found[self.texts[row]] = Said(nll_T, self.byte_ends_R[row], self.n_end)
        return found


def questions_of(
    renderer: Renderer,
    texts: Iterable[Text],
    problems: Mapping[str, Problem],
    system_prompt: str | None,
) -> Questions:
    """The different ones among some texts; an empty one is a question too, of the end of turn alone.

    Args:
        problems: by id.
    """
    of_problem: dict[str, dict[str, None]] = {}
    for name, text in texts:
        of_problem.setdefault(name, {})[text] = None
    questions = Questions(len(renderer.end_ids))
    for name, found in of_problem.items():
        rows = _rendered(renderer, problems[name], list(found), system_prompt)
        questions.add([(name, text) for text in found], rows)
    return questions


def _rendered(
    renderer: Renderer, problem: Problem, texts: Sequence[str], system_prompt: str | None
) -> RenderedRows:
    messages = problem.conversation(system_prompt) if problem.chat else problem.messages
    if problem.chat and not problem.answer_prefix:
        return renderer.rows([messages] * len(texts), texts)
    try:
        prompt = renderer.open_text(messages, problem.answer_prefix, chat=problem.chat)
    except CorpusError as error:
        rows = renderer.rows_behind([""] * len(texts), [""] * len(texts))
        rows.refused.update(dict.fromkeys(range(len(texts)), Refusal(TEMPLATE_REFUSES, str(error))))
        return rows
    return renderer.rows_behind([prompt] * len(texts), texts)


@dataclass(frozen=True)
class Asker:
    """A started teacher, and what it can read."""

    teacher: Teacher
    engine: str
    context: int | None
    vocab_size: int | None
    rows_per_call: int

    def replies(
        self, questions: Questions, beat: Beat, on_reply: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """One reply per question; those that the teacher cannot read are refused without asking it.

        Raises:
            TeacherUnavailableError: the teacher died.
        """
        asked: list[Request] = []
        for row in range(len(questions.texts)):
            request = questions.request(row)
            refused = questions.refused.get(row) or objection(request, self.context, self.vocab_size)
            if refused is None:
                asked.append(request)
            else:
                yield refused
        for start in range(0, len(asked), self.rows_per_call):
            part = asked[start : start + self.rows_per_call]
            for reply in match_replies(part, self.teacher.score(part, beat)):
                on_reply()
                yield reply

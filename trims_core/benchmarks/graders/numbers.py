"""Graders of answers that are one number."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.numbers import NUMBER, last_number, normalised

_SENTENCE: Final = re.compile(r"The answer is (-?\d[\d,]*(?:\.\d+)?)\.")
MARK: Final = "####"


class LastAnswerSentence(Grader):
    """No other number counts: a text without that sentence has no answer, and one that was cut off before the
    full stop has none either."""

    name: ClassVar[str] = "last_answer_sentence"
    version: ClassVar[int] = 1
    says: ClassVar[str] = 'the number of the last complete sentence "The answer is N."'

    def extract(self, text: str) -> str | None:
        found = _SENTENCE.findall(text)
        return normalised(found[-1]) if found else None


class Gsm8kNumber(Grader):
    """The answer of a text is the first number behind its last "####" (the data set's own format, which tuned
    models follow), and no other where that mark stands. Only a text without the mark is read as models that
    never saw it answer: its last number counts, as in lm-evaluation-harness's `flexible-extract`.
    """

    name: ClassVar[str] = "gsm8k_number"
    version: ClassVar[int] = 1
    says: ClassVar[str] = 'the number behind the last "####"; only without that mark the last number'

    def extract(self, text: str) -> str | None:
        _, mark, behind = text.rpartition(MARK)
        if not mark:
            return last_number(text)
        found = NUMBER.match(behind.lstrip())
        return normalised(found.group()) if found else None

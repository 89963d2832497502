"""Graders of answers that are one number.

Whether `1,234` is one number or two is a choice that moves published accuracies: every extraction is here
with thousands commas, and as `…_no_commas` as programs have it that do not know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.numbers import NUMBER, last_number, normalised
from trims_core.benchmarks.texts import boxes

_SENTENCE: Final = re.compile(r"The answer is (-?\d[\d,]*(?:\.\d+)?)\.")
_PLAIN_NUMBER: Final = re.compile(r"-?\$?(?:\d+(?:\.\d+)?|\.\d+)")
_LATEX_IN_NUMBERS: Final = str.maketrans({"{": "", "}": "", "\\": "", "!": ""})
"""`1{,}234`, `1,\\!234` and `\\$5` are written so in boxes."""
MARK: Final = "####"


class Number(Grader):
    """What graders of one number have in common."""

    def gold_of(self, answer: str) -> str | None:
        return normalised(answer) or self.extract(answer)


class LastAnswerSentence(Number):
    """No other number counts: a text without that sentence has no answer, and one that was cut off before the
    full stop has none either."""

    name: ClassVar[str] = "last_answer_sentence"
    version: ClassVar[int] = 1
    says: ClassVar[str] = 'the number of the last complete sentence "The answer is N."'

    def extract(self, text: str) -> str | None:
        found = _SENTENCE.findall(text)
        return normalised(found[-1]) if found else None


class Gsm8kNumber(Number):
    """The answer of a text is the first number behind its last "####" (the data set's own format, which tuned
    models follow), and no other where that mark stands. Only a text without the mark is read as models that
    never saw it answer: its last number counts.
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


class StrictNumber(Number):
    """lm-evaluation-harness's strict-match of both its GSM8K tasks in one; the first match counts.

    Source: lm-eval 0.4.13 (MIT), tasks gsm8k and gsm8k_cot. Differs where a text ends right behind the number
    without a full stop: there the harness drops the last digit, here there is no answer.
    """

    name: ClassVar[str] = "number_strict"
    version: ClassVar[int] = 1
    says: ClassVar[str] = 'the number of the first "#### N", else of the first "The answer is N."'
    digits: ClassVar[str] = "[0-9.,]"

    def extract(self, text: str) -> str | None:
        for pattern in (rf"#### (-?{self.digits}+)", rf"The answer is (-?{self.digits}++)(?:(?<=\.)|(?=.))"):
            if found := re.search(pattern, text):
                return _compared(found[1])
        return None


class StrictNumberNoCommas(StrictNumber):
    """The same of digits alone: `#### 1,234` is 1."""

    name: ClassVar[str] = "number_strict_no_commas"
    says: ClassVar[str] = "number_strict without thousands commas"
    digits: ClassVar[str] = "[0-9.]"


class FlexibleNumber(Number):
    """What lm-evaluation-harness's flexible-extract finds, compared as a number: the last run of two or more
    of `$0-9.,`, or single digit. A text that ends in "..." has no number, however many stand before.

    Source: lm-eval 0.4.13 (MIT), tasks gsm8k and gsm8k_cot.
    """

    name: ClassVar[str] = "number_flexible"
    version: ClassVar[int] = 1
    says: ClassVar[str] = "the last number, as lm-eval's flexible-extract finds it"
    digits: ClassVar[str] = "[$0-9.,]"

    def extract(self, text: str) -> str | None:
        found = self.last(text)
        return None if found is None else normalised(found)

    def last(self, text: str) -> str | None:
        """What the harness takes for the number."""
        return next(iter(re.findall(rf"-?{self.digits}{{2,}}|-?[0-9]+", text)[-1:]), None)


class FlexibleText(FlexibleNumber):
    """As the harness itself compares: `18.00` is not 18. This is what lm-eval prints."""

    name: ClassVar[str] = "number_flexible_text"
    says: ClassVar[str] = "the same, compared as text, as lm-eval's exact_match does"

    def extract(self, text: str) -> str | None:
        found = self.last(text)
        return None if found is None else _compared(found)


class FlexibleNumberNoCommas(FlexibleNumber):
    """The same of digits alone: `1,234` is 234."""

    name: ClassVar[str] = "number_flexible_no_commas"
    says: ClassVar[str] = "number_flexible without thousands commas"
    digits: ClassVar[str] = "[$0-9.]"


class FirstBox(Number):
    """Of boxes without a number the next one counts."""

    name: ClassVar[str] = "number_first_box"
    version: ClassVar[int] = 1
    says: ClassVar[str] = r"the first number in the first complete \boxed{…} that holds one"
    number: ClassVar[re.Pattern[str]] = NUMBER

    def extract(self, text: str) -> str | None:
        for box in self.in_order(boxes(text)):
            if found := self.number.search(box.translate(_LATEX_IN_NUMBERS)):
                return normalised(found.group())
        return None

    def in_order(self, found: list[str]) -> Iterable[str]:
        """The boxes, the one that counts first."""
        return found


class FirstBoxNoCommas(FirstBox):
    """The same of digits alone: `1,234` is 1."""

    name: ClassVar[str] = "number_first_box_no_commas"
    says: ClassVar[str] = "number_first_box without thousands commas"
    number: ClassVar[re.Pattern[str]] = _PLAIN_NUMBER


class LastBox(FirstBox):
    """Of boxes without a number the one before counts."""

    name: ClassVar[str] = "number_last_box"
    says: ClassVar[str] = r"the first number in the last complete \boxed{…} that holds one"

    def in_order(self, found: list[str]) -> Iterable[str]:
        return reversed(found)


class LastBoxNoCommas(LastBox):
    """The same of digits alone: `1,234` is 1."""

    name: ClassVar[str] = "number_last_box_no_commas"
    says: ClassVar[str] = "number_last_box without thousands commas"
    number: ClassVar[re.Pattern[str]] = _PLAIN_NUMBER


def _compared(text: str) -> str:
    """A match as the harness compares it: without commas, dollar signs and a full stop behind."""
    return text.replace(",", "").replace("$", "").removesuffix(".")

"""Grade-school word problems: the numbers, the story and the arithmetic, without any wording of the answer.

A problem is drawn from a generator the caller seeds, so the same seed always gives the same problem. Its
*content* (kind, numbers, order of events) decides by a hash which of three groups it belongs to: held
out, fine-tuning, or pre-training. Names, items and phrasing play no part in that, so a held-out problem
never appears in training with other names.

Numbers are small on purpose (totals up to 45, single-digit steps): about a million parameters must learn
the sums.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Operation = Literal["gain", "lose", "times", "share", "more", "fewer", "join", "pay"]
Group = Literal["held-out", "fine-tuning", "pre-training"]

MAX_TOTAL = 45
HELD_OUT_PERCENT = 8
FINE_TUNING_PERCENT = 12

BOYS = ("Tom", "Ben", "Sam", "Max", "Leo")
GIRLS = ("Ann", "Mia", "Eva", "Zoe", "Lily")
ITEMS = ("apples", "pens", "cards", "books", "coins", "shells", "stamps", "cookies", "marbles", "plums")


@dataclass(frozen=True)
class Step:
    """One sum of the worked answer: `left (operation) right = result`."""

    operation: Operation
    left: int
    right: int
    result: int


@dataclass(frozen=True)
class Problem:
    """A story with its sums; `steps[-1].result` is the answer."""

    kind: str
    numbers: tuple[int, ...]
    events: tuple[str, ...]
    name: str
    other: str
    item: str
    question: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The final number."""
        return self.steps[-1].result

    @property
    def content(self) -> str:
        """What makes two problems the same: kind, numbers and events, not names, items or phrasing."""
        return f"{self.kind}:{','.join(map(str, self.numbers))}:{','.join(self.events)}"

    @property
    def group(self) -> Group:
        """The group this content belongs to, the same for every seed."""
        percent = int.from_bytes(hashlib.sha256(self.content.encode()).digest()[:4], "big") % 100
        if percent < HELD_OUT_PERCENT:
            return "held-out"
        return "fine-tuning" if percent < HELD_OUT_PERCENT + FINE_TUNING_PERCENT else "pre-training"


@dataclass(frozen=True)
class _Cast:
    name: str
    other: str
    item: str

    @property
    def pronoun(self) -> str:
        return "He" if self.name in BOYS else "She"


GAIN_EVENTS = ("{p} buys {y} more.", "{p} finds {y} more.", "{p} gets {y} from {m}.")
LOSE_EVENTS = ("{p} gives {y} to {m}.", "{p} loses {y}.", "{p} sells {y}.")
EARN_EVENTS = ("{p} finds {y} dollars.", "{p} gets {y} dollars from {m}.")
SPEND_EVENTS = ("{p} gives {y} dollars to {m}.", "{p} loses {y} dollars.")


def _event(rng: random.Random, cast: _Cast, total: int, money: bool) -> tuple[Step, str]:
    """A gain or a loss that keeps the total between 1 and MAX_TOTAL, and its sentence in the question."""
    amount = rng.randint(2, 9)
    gains = rng.random() < 0.5
    if total + amount > MAX_TOTAL:
        gains = False
    elif total - amount < 1:
        gains = True
    sentences = (EARN_EVENTS, SPEND_EVENTS) if money else (GAIN_EVENTS, LOSE_EVENTS)
    text = rng.choice(sentences[0 if gains else 1]).format(p=cast.pronoun, m=cast.other, y=amount)
    if gains:
        return Step("gain", total, amount, total + amount), text
    return Step("lose", total, amount, total - amount), text


def _events(
    rng: random.Random, cast: _Cast, total: int, count: int, money: bool = False
) -> tuple[list[Step], list[str]]:
    steps: list[Step] = []
    sentences: list[str] = []
    for _ in range(count):
        step, sentence = _event(rng, cast, total, money)
        steps.append(step)
        sentences.append(sentence)
        total = step.result
    return steps, sentences


def _build(kind: str, cast: _Cast, start: list[int], steps: list[Step], sentences: list[str]) -> Problem:
    later = [step for step in steps if step.operation in ("gain", "lose")]
    return Problem(
        kind=kind,
        numbers=(*start, *(step.right for step in later)),
        events=tuple(step.operation for step in steps),
        name=cast.name,
        other=cast.other,
        item=cast.item,
        question=" ".join(sentences),
        steps=tuple(steps),
    )


def _counting(rng: random.Random, cast: _Cast) -> Problem:
    """Two to four gains and losses from a known start."""
    start = rng.randint(3, 25)
    count = rng.choices((2, 3, 4), weights=(50, 42, 8))[0]
    steps, told = _events(rng, cast, start, count)
    opening = f"{cast.name} has {start} {cast.item}."
    return _build("counting", cast, [start], steps, [opening, *told, _how_many(cast)])


def _boxes(rng: random.Random, cast: _Cast) -> Problem:
    """Equal boxes, then one or two gains and losses."""
    boxes = rng.randint(2, 6)
    each = rng.randint(2, 9 if boxes < 5 else 7)
    first = Step("times", boxes, each, boxes * each)
    steps, told = _events(rng, cast, first.result, rng.choice((1, 2)))
    opening = f"{cast.name} has {boxes} boxes with {each} {cast.item} each."
    return _build("boxes", cast, [boxes, each], [first, *steps], [opening, *told, _how_many(cast)])


def _together(rng: random.Random, cast: _Cast) -> Problem:
    """Two people, one with some more or fewer, then the sum of both."""
    own = rng.randint(3, 14)
    difference = rng.randint(2, 9)
    more = own - difference < 1 or rng.random() < 0.6
    theirs = own + difference if more else own - difference
    steps = [
        Step("more" if more else "fewer", own, difference, theirs),
        Step("join", own, theirs, own + theirs),
    ]
    told = [
        f"{cast.name} has {own} {cast.item}.",
        f"{cast.other} has {difference} {'more' if more else 'fewer'} than {cast.name}.",
        f"How many {cast.item} do they have together?",
    ]
    return _build("together", cast, [own, difference], steps, told)


def _shopping(rng: random.Random, cast: _Cast) -> Problem:
    """A price, a number bought, the money left, and perhaps one more gain or loss."""
    price, bought = rng.randint(2, 5), rng.randint(2, 6)
    cost = price * bought
    money = cost + rng.randint(1, 15)
    steps = [Step("times", bought, price, cost), Step("pay", money, cost, money - cost)]
    more, told = _events(rng, cast, money - cost, rng.choice((0, 1)), money=True)
    opening = f"{cast.name} has {money} dollars and buys {bought} {cast.item} for {price} dollars each."
    closing = f"How many dollars does {cast.name} have now?"
    return _build("shopping", cast, [money, price, bought], steps + more, [opening, *told, closing])


def _sharing(rng: random.Random, cast: _Cast) -> Problem:
    """A gain, an equal share, and perhaps one more gain or loss of that share."""
    friends, share = rng.randint(2, 5), rng.randint(2, 9)
    total = friends * share
    gained = rng.randint(2, min(9, total - 1))
    steps = [Step("gain", total - gained, gained, total), Step("share", total, friends, share)]
    told = [f"{cast.name} has {total - gained} {cast.item} and gets {gained} more."]
    told.append(f"{cast.name} makes {friends} equal shares and keeps one.")
    more, later = _events(rng, cast, share, rng.choice((0, 1)))
    return _build(
        "sharing", cast, [total - gained, gained, friends], steps + more, [*told, *later, _how_many(cast)]
    )


def _how_many(cast: _Cast) -> str:
    return f"How many {cast.item} does {cast.name} have now?"


KINDS: dict[str, Callable[[random.Random, _Cast], Problem]] = {
    "counting": _counting,
    "boxes": _boxes,
    "together": _together,
    "shopping": _shopping,
    "sharing": _sharing,
}
KIND_WEIGHTS = (35, 20, 15, 15, 15)


def draw_problem(rng: random.Random, group: Group | None = None) -> Problem:
    """One problem, of the given group if one is named.

    Args:
        rng: the caller's generator; the same state gives the same problem.
        group: draw again until the content falls into this group.
    """
    while True:
        kind = rng.choices(tuple(KINDS), weights=KIND_WEIGHTS)[0]
        name, other = rng.sample(BOYS + GIRLS, 2)
        problem = KINDS[kind](rng, _Cast(name, other, rng.choice(ITEMS)))
        if group is None or problem.group == group:
            return problem

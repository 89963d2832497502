"""Worked answers in words: several wordings of different length for every sum, in three styles.

A wording is a line with alternatives in round brackets, `(Then|Now) {name} has {x} + {y} = {z}.`; one of
each is drawn. The variety is the point: it gives an autoregressive teacher real uncertainty (which
wording comes next) and a parallel decoder something to get wrong (two wordings started at once).

"base" is what the student is pre-trained on. "tuned", the fine-tuning set, is narrower: three of base's five
wordings, as instruction data is more uniform than pre-training data. "wide" is what the teacher knows: the
same vocabulary with more choices inside its sentences, so that it is surprised where "tuned" leaves none.
"""

import random
import re
from typing import Literal

from trims_core.demo.problems import Operation, Problem, Step

Style = Literal["base", "tuned", "wide"]

_ALTERNATIVES = re.compile(r"\(([^()]*)\)")

_BASE: dict[Operation, tuple[str, ...]] = {
    "gain": (
        "{x} + {y} = {z}.",
        "Then {name} has ({x} + {y}|{y} + {x}) = {z}.",
        "With {y} more (it is|there are) {x} + {y} = {z}.",
        "The (total|number) goes up to {x} + {y} = {z} {item}.",
        "Now we (add|count) {y}: {x} + {y} = {z}.",
    ),
    "lose": (
        "{x} - {y} = {z}.",
        "Then {name} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) goes down to {x} - {y} = {z} {item}.",
        "Now we (drop|subtract) {y}: {x} - {y} = {z}.",
    ),
    "times": (
        "{x} * {y} = {z}.",
        "{x} times {y} is ({x} * {y}|{y} * {x}) = {z}.",
        "At first (it is|there are) {x} * {y} = {z}.",
        "The (total|number) of {x} groups is {x} * {y} = {z}.",
        "Now we (add|count) {y} each: {x} * {y} = {z}.",
    ),
    "share": (
        "{x} / {y} = {z}.",
        "Then {name} has {x} / {y} = {z} (left|now).",
        "Shared by {y} (it is|there are) {x} / {y} = {z}.",
        "The (total|number) of each is {x} / {y} = {z} {item}.",
        "Now we (share|split) by {y}: {x} / {y} = {z}.",
    ),
    "more": (
        "{x} + {y} = {z}.",
        "Then {other} has ({x} + {y}|{y} + {x}) = {z}.",
        "With {y} more (it is|there are) {x} + {y} = {z}.",
        "The (total|number) of {other} is {x} + {y} = {z}.",
        "At first we (add|count) {y}: {x} + {y} = {z}.",
    ),
    "fewer": (
        "{x} - {y} = {z}.",
        "Then {other} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) of {other} is {x} - {y} = {z}.",
        "At first we (drop|subtract) {y}: {x} - {y} = {z}.",
    ),
    "join": (
        "{x} + {y} = {z}.",
        "Then they have ({x} + {y}|{y} + {x}) = {z}.",
        "Together (it is|there are) {x} + {y} = {z}.",
        "The (total|number) of both is {x} + {y} = {z} {item}.",
        "Now we (add|count) both: {x} + {y} = {z}.",
    ),
    "pay": (
        "{x} - {y} = {z}.",
        "Then {name} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) goes down to {x} - {y} = {z} {item}.",
        "Now we (drop|subtract) {y}: {x} - {y} = {z}.",
    ),
}
_PLUS = "({x} + {y}|{y} + {x}) = {z}"
_MINUS = "{x} - {y} = {z}"
_ITEM = "( {item}| now|)."
_WIDE: dict[Operation, tuple[str, ...]] = {
    "gain": (
        f"With {{y}} more (it is|there are) {_PLUS}{_ITEM}",
        f"The (total|number) (goes up to|is) {_PLUS}{_ITEM}",
        f"(Now|Then) we (add|count) {{y}}(: | and have ){_PLUS}{_ITEM}",
        f"{{y}} more (makes|gives) {_PLUS}{_ITEM}",
        f"{{name}} gets {{y}} (so|and) has {_PLUS}{_ITEM}",
    ),
    "lose": (
        f"Without {{y}} (it is|there are) {_MINUS}{_ITEM}",
        f"The (total|number) (goes down to|is) {_MINUS}{_ITEM}",
        f"(Now|Then) we (drop|subtract) {{y}}(: | and have ){_MINUS}{_ITEM}",
        f"{{y}} less (makes|gives) {_MINUS}{_ITEM}",
        f"{{name}} drops {{y}} (so|and) has {_MINUS}{_ITEM}",
    ),
    "times": (
        f"(At first|Together) (it is|there are) ({{x}} * {{y}}|{{y}} * {{x}}) = {{z}}{_ITEM}",
        f"The (total|number) (of {{x}} groups |)is ({{x}} * {{y}}|{{y}} * {{x}}) = {{z}}{_ITEM}",
        f"(Now|Then) we (add|count) {{y}} each(: | and have ){{x}} * {{y}} = {{z}}{_ITEM}",
        f"{{x}} groups (makes|gives) ({{x}} * {{y}}|{{y}} * {{x}}) = {{z}}{_ITEM}",
        f"Each is {{y}} (so|and) together {{x}} * {{y}} = {{z}}{_ITEM}",
    ),
    "share": (
        f"(Shared|Split) by {{y}} (it is|there are) {{x}} / {{y}} = {{z}}{_ITEM}",
        f"The (total|number) (of each |)is {{x}} / {{y}} = {{z}}{_ITEM}",
        f"(Now|Then) we (share|split) by {{y}}(: | and have ){{x}} / {{y}} = {{z}}{_ITEM}",
        f"{{y}} shares (makes|gives) {{x}} / {{y}} = {{z}}{_ITEM}",
        f"{{name}} keeps one (so|and) has {{x}} / {{y}} = {{z}}{_ITEM}",
    ),
    "more": (
        f"With {{y}} more (it is|there are) {_PLUS}{_ITEM}",
        f"The (total|number) of {{other}} is {_PLUS}{_ITEM}",
        f"At first we (add|count) {{y}}(: | and have ){_PLUS}{_ITEM}",
        f"{{y}} more (makes|gives) {_PLUS}{_ITEM}",
        f"{{other}} gets {{y}} more (so|and) has {_PLUS}{_ITEM}",
    ),
    "fewer": (
        f"Without {{y}} (it is|there are) {_MINUS}{_ITEM}",
        f"The (total|number) of {{other}} is {_MINUS}{_ITEM}",
        f"At first we (drop|subtract) {{y}}(: | and have ){_MINUS}{_ITEM}",
        f"{{y}} less (makes|gives) {_MINUS}{_ITEM}",
        f"{{other}} gets {{y}} less (so|and) has {_MINUS}{_ITEM}",
    ),
    "join": (
        f"Together (it is|there are) {_PLUS}{_ITEM}",
        f"The (total|number) (of both |)is {_PLUS}{_ITEM}",
        f"(Now|Then) we (add|count) both(: | and have ){_PLUS}{_ITEM}",
        f"Both (makes|gives) {_PLUS}{_ITEM}",
        f"{{name}} and {{other}} (so|now) have {_PLUS}{_ITEM}",
    ),
    "pay": (
        f"Without {{y}} (it is|there are) {_MINUS}{_ITEM}",
        f"The (total|number) (goes down to|is) {_MINUS}{_ITEM}",
        f"(Now|Then) we (drop|subtract) {{y}}(: | and have ){_MINUS}{_ITEM}",
        f"{{y}} less (makes|gives) {_MINUS}{_ITEM}",
        f"{{name}} drops {{y}} (so|and) has {_MINUS}{_ITEM}",
    ),
}
_TUNED: dict[Operation, tuple[str, ...]] = {
    operation: (wordings[1], wordings[2], wordings[4]) for operation, wordings in _BASE.items()
}
WORDINGS: dict[Style, dict[Operation, tuple[str, ...]]] = {"base": _BASE, "tuned": _TUNED, "wide": _WIDE}

_BASE_ENDINGS = (
    "The answer is {z}.",
    "So {name} has {z}. The answer is {z}.",
    "That is all. The answer is {z}.",
)
ENDINGS: dict[Style, tuple[str, ...]] = {
    "base": _BASE_ENDINGS,
    "tuned": _BASE_ENDINGS,
    "wide": (
        "The answer is {z}.",
        "(So|Now) {name} has {z}. The answer is {z}.",
        "(That is all|Now we are done). The answer is {z}.",
    ),
}


def _expand(rng: random.Random, wording: str) -> str:
    return _ALTERNATIVES.sub(lambda match: rng.choice(match.group(1).split("|")), wording)


def _sentence(rng: random.Random, style: Style, problem: Problem, step: Step) -> str:
    item = "dollars" if problem.kind == "shopping" else problem.item
    wording = _expand(rng, rng.choice(WORDINGS[style][step.operation]))
    return wording.format(
        x=step.left, y=step.right, z=step.result, name=problem.name, other=problem.other, item=item
    )


def worked_answer(rng: random.Random, problem: Problem, style: Style) -> str:
    """The worked answer in the given style; it always ends in `The answer is N.`."""
    sentences = [_sentence(rng, style, problem, step) for step in problem.steps]
    ending = _expand(rng, rng.choice(ENDINGS[style]))
    who = "everyone" if problem.kind == "together" else problem.name
    return " ".join([*sentences, ending.format(z=problem.answer, name=who)])

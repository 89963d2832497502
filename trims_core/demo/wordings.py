"""Worked answers in words: several wordings of different length for every sum, in two styles.

A wording is a line with alternatives in round brackets, `(Then|Now) {name} has {x} + {y} = {z}.`; one of each is drawn. The
variety is the point: it gives an autoregressive teacher real uncertainty (which wording comes next) and a parallel decoder
something to get wrong (two wordings started at once). The two styles share their vocabulary and most of their wordings;
each has some that the other lacks.
"""

import random
import re
from typing import Literal

from trims_core.demo.problems import Operation, Problem, Step

Style = Literal["base", "tuned"]
STYLES: tuple[Style, ...] = ("base", "tuned")

_ALTERNATIVES = re.compile(r"\(([^()]*)\)")

# Wordings 0-4 belong to the style "base", 2-6 to the style "tuned".
WORDINGS: dict[Operation, tuple[str, ...]] = {
    "gain": (
        "{x} + {y} = {z}.",
        "Then {name} has ({x} + {y}|{y} + {x}) = {z}.",
        "With {y} more (it is|there are) {x} + {y} = {z}.",
        "The (total|number) goes up to {x} + {y} = {z} {item}.",
        "Now we (add|count) {y}: {x} + {y} = {z}.",
        "{y} more (makes|gives) {x} + {y} = {z}.",
        "{name} gets {y} (so|and) has {x} + {y} = {z} {item}.",
    ),
    "lose": (
        "{x} - {y} = {z}.",
        "Then {name} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) goes down to {x} - {y} = {z} {item}.",
        "Now we (drop|subtract) {y}: {x} - {y} = {z}.",
        "{y} less (makes|gives) {x} - {y} = {z}.",
        "{name} drops {y} (so|and) has {x} - {y} = {z} {item}.",
    ),
    "times": (
        "{x} * {y} = {z}.",
        "{x} times {y} is ({x} * {y}|{y} * {x}) = {z}.",
        "At first (it is|there are) {x} * {y} = {z}.",
        "The (total|number) of {x} groups is {x} * {y} = {z}.",
        "Now we (add|count) {y} each: {x} * {y} = {z}.",
        "{x} groups (makes|gives) {x} * {y} = {z}.",
        "Each is {y} (so|and) together {x} * {y} = {z}.",
    ),
    "share": (
        "{x} / {y} = {z}.",
        "Then {name} has {x} / {y} = {z} (left|now).",
        "Shared by {y} (it is|there are) {x} / {y} = {z}.",
        "The (total|number) of each is {x} / {y} = {z} {item}.",
        "Now we (share|split) by {y}: {x} / {y} = {z}.",
        "{y} shares (makes|gives) {x} / {y} = {z}.",
        "{name} keeps one (so|and) has {x} / {y} = {z} {item}.",
    ),
    "more": (
        "{x} + {y} = {z}.",
        "Then {other} has ({x} + {y}|{y} + {x}) = {z}.",
        "With {y} more (it is|there are) {x} + {y} = {z}.",
        "The (total|number) of {other} is {x} + {y} = {z}.",
        "At first we (add|count) {y}: {x} + {y} = {z}.",
        "{y} more (makes|gives) {x} + {y} = {z}.",
        "{other} gets {y} more (so|and) has {x} + {y} = {z} {item}.",
    ),
    "fewer": (
        "{x} - {y} = {z}.",
        "Then {other} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) of {other} is {x} - {y} = {z}.",
        "At first we (drop|subtract) {y}: {x} - {y} = {z}.",
        "{y} less (makes|gives) {x} - {y} = {z}.",
        "{other} gets {y} less (so|and) has {x} - {y} = {z} {item}.",
    ),
    "join": (
        "{x} + {y} = {z}.",
        "Then they have ({x} + {y}|{y} + {x}) = {z}.",
        "Together (it is|there are) {x} + {y} = {z}.",
        "The (total|number) of both is {x} + {y} = {z} {item}.",
        "Now we (add|count) both: {x} + {y} = {z}.",
        "Both (makes|gives) {x} + {y} = {z}.",
        "{name} and {other} (so|now) have {x} + {y} = {z} {item}.",
    ),
    "pay": (
        "{x} - {y} = {z}.",
        "Then {name} has {x} - {y} = {z} (left|now).",
        "Without {y} (it is|there are) {x} - {y} = {z}.",
        "The (total|number) goes down to {x} - {y} = {z} {item}.",
        "Now we (drop|subtract) {y}: {x} - {y} = {z}.",
        "{y} less (makes|gives) {x} - {y} = {z}.",
        "{name} drops {y} (so|and) has {x} - {y} = {z} {item}.",
    ),
}
_SLICES: dict[Style, slice] = {"base": slice(0, 5), "tuned": slice(2, 7)}

# Endings 0-2 belong to the style "base", 1-3 to the style "tuned".
ENDINGS = (
    "The answer is {z}.",
    "So {name} has {z}. The answer is {z}.",
    "That is all. The answer is {z}.",
    "Now we are done. The answer is {z}.",
)
_ENDING_SLICES: dict[Style, slice] = {"base": slice(0, 3), "tuned": slice(1, 4)}


def _expand(rng: random.Random, wording: str) -> str:
    return _ALTERNATIVES.sub(lambda match: rng.choice(match.group(1).split("|")), wording)


def _sentence(rng: random.Random, style: Style, problem: Problem, step: Step) -> str:
    item = "dollars" if problem.kind == "shopping" else problem.item
    wording = _expand(rng, rng.choice(WORDINGS[step.operation][_SLICES[style]]))
    return wording.format(
        x=step.left, y=step.right, z=step.result, name=problem.name, other=problem.other, item=item
    )


def worked_answer(rng: random.Random, problem: Problem, style: Style) -> str:
    """The worked answer in the given style; it always ends in `The answer is N.`."""
    sentences = [_sentence(rng, style, problem, step) for step in problem.steps]
    ending = rng.choice(ENDINGS[_ENDING_SLICES[style]])
    who = "everyone" if problem.kind == "together" else problem.name
    return " ".join([*sentences, ending.format(z=problem.answer, name=who)])

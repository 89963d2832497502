"""How long an answer's canvas is depends on its own prompt, never on the prompts beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fakes.decoding_checkpoint import write_student

from trims_core.errors import ConfigError
from trims_core.generation import Assistant, GenerateOptions
from trims_core.students import load_student

CONTEXT = 256
OPTIONS: dict[str, Any] = {"threshold": 0.05, "block_length": 8, "stop_at_end": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """A random student whose canvas is 16 where nothing is said."""
    return Assistant(load_student(str(write_student(tmp_path_factory.mktemp("tiny")))), gen_length=16)


@pytest.fixture(scope="module")
def long(tiny: Assistant) -> list[dict[str, str]]:
    """A question that leaves room for 12 tokens."""
    return asked("x" * (CONTEXT - 12 - len(tiny.renderer.prompt_ids(asked("")))))


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"batch_size": 1}])
def test_a_long_prompt_beside_it_does_not_change_an_answer(
    tiny: Assistant, long: list[dict[str, str]], options: dict[str, Any]
) -> None:
    wanted = GenerateOptions(**OPTIONS, **options)
    talks = [asked("Hi"), long, asked("Ho")]
    together = tiny.answers(talks, wanted)
    first = tiny.answers(talks[:1], wanted)[0]
    lengths = [answer.settings.gen_length for answer in together]
    assert lengths == [16, 8, 16]
    assert together[0].decoded.token_ids == first.decoded.token_ids
    assert together[0].settings == first.settings
    neighbours = tiny.answers([talks[0], asked("He"), talks[2]], wanted)
    assert neighbours[2].decoded.token_ids == together[2].decoded.token_ids


def test_a_watch_hears_of_every_prompt_by_its_own_place(tiny: Assistant, long: list[dict[str, str]]) -> None:
    told: dict[int, Sequence[int]] = {}

    def watch(canvases: Mapping[int, Sequence[int]]) -> None:
        told.update(canvases)

    talks = [long, asked("Hi"), asked("Ho")]
    answers = tiny.answers(talks, GenerateOptions(**OPTIONS), watch)
    assert [list(told[place]) for place in range(3)] == [answer.decoded.token_ids for answer in answers]


@pytest.mark.parametrize(
    ("n_left", "options", "message"),
    [
        (200, {"block_length": 32}, "block_length 32: longer than the canvas of 16 positions .*gen_length"),
        (12, {"block_length": 16}, r"expected room for 16 \(block_length\)\. Shorten .*lower block_length"),
        (200, {"gen_length": 512}, r"expected room for 512 \(gen_length\)\. .*lower gen_length"),
        (3, {"block_length": 4}, r"prompt 2 has 253 tokens, which leaves 3 .*context of 256"),
    ],
)
def test_what_does_not_fit_is_named(
    tiny: Assistant, n_left: int, options: dict[str, int], message: str
) -> None:
    text = "x" * (CONTEXT - n_left - len(tiny.renderer.prompt_ids(asked(""))))
    fits = [] if "gen_length" in options else [asked("Hi")]
    with pytest.raises(ConfigError, match=message) as caught:
        tiny.answers([*fits, asked(text)], GenerateOptions(**options))
    assert ("Shorten" in str(caught.value)) == ("longer than" not in message)

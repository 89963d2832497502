"""One row → one example: what is kept, what is normalised, what is refused and with which remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from trims_core.config import CorpusConfig
from trims_core.corpus.examples import Example, content_digest, to_example
from trims_core.raw_rows import Row, UnusableRowError

PAIR = CorpusConfig(path=("x.jsonl",), prompt_column="q", completion_column="a")
CHAT = CorpusConfig(path=("x.jsonl",))


def example(values: Mapping[str, Any], config: CorpusConfig = CHAT) -> Example:
    found = to_example(Row("dir/x.jsonl:1", "x.jsonl", values), config)
    assert found is not None
    return found


def chat(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def test_a_pair_of_columns_is_one_user_turn_and_a_completion() -> None:
    found = example({"q": "1+1?", "a": "2"}, PAIR)
    assert found.messages == [{"role": "user", "content": "1+1?"}]
    assert (found.completion, found.normalised, found.source) == ("2", False, "x.jsonl")


def test_the_last_assistant_turn_is_the_completion() -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    found = example(chat(*turns))
    assert [message["role"] for message in found.messages] == ["system", "user", "assistant", "user"]
    assert found.completion == "d"


def test_the_completion_is_normalised_once() -> None:
    found = example(chat(("user", "e\u0301 "), ("assistant", "\n \n e\u0301\n")))
    assert found.completion == " é"
    assert found.normalised
    assert found.messages[0]["content"] == "e\u0301 ", "messages stay as they are given"


def test_the_system_prompt_goes_before_conversations_without_one() -> None:
    config = CorpusConfig(path=("x.jsonl",), system_prompt="Be brief.")
    assert example(chat(("user", "a"), ("assistant", "b")), config).messages[0]["content"] == "Be brief."
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    several = example(chat(*turns), config)
    assert [message["content"] for message in several.messages] == ["Be brief.", "a", "b", "c"]
    own = example(chat(("system", "own"), ("user", "a"), ("assistant", "b")), config)
    assert [message["content"] for message in own.messages] == ["own", "a"]


def test_ids_are_given_ones_or_a_hash_of_the_normalised_content() -> None:
    assert example(chat(("user", "a"), ("assistant", "b"), id=17)).id == "17"
    assert (
        example(chat(("user", "a"), ("assistant", "b"), id=None)).id
        == example(chat(("user", " a"), ("assistant", "b "))).id
    )


def test_ids_from_content_do_not_change_over_versions() -> None:
    # sha256sum of [[["user","a"]],"b"], first 32 digits
    assert content_digest([{"role": "user", "content": "a"}], "b") == "919eae1993eb1155fef5bcad41fd8227"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (chat(("user", "a"), ("assistant", "b"), ("user", "c")), "a user turn after the last assistant turn"),
        (chat(("user", "a")), "no assistant turn"),
        (chat(("assistant", "b")), "no user turn before the answer"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "b")), "not the first"),
        (chat(("human", "a"), ("assistant", "b")), "role 'human'"),
        (chat(("user", "a"), ("assistant", " \n ")), "the completion is empty"),
        (chat(("user", "a"), ("assistant", 4)), "the content of turn 2 is int 4"),
        (chat(("user", "a"), ("assistant", None)), "the content of turn 2 is null"),
        (chat(("user", "a"), ("assistant", "\ud800")), "half a surrogate pair"),
        (chat(("user", "a"), ("assistant", "b"), id=1.5), "the id in 'id' is float 1.5"),
        (chat(("user", "a"), ("assistant", "b"), id=True), "the id in 'id' is bool True"),
        (chat(("user", "a"), ("assistant", "b"), id=" "), "the id in 'id' is empty"),
        ({"messages": []}, "'messages' is list"),
        ({"messages": "hi"}, "'messages' is str 'hi'"),
        ({"messages": [{"from": "user", "value": "a"}]}, "turn 1 has keys from, value"),
        ({"text": "a"}, r"no column 'messages' \(found text\)"),
    ],
)
def test_unusable_rows_say_what_is_wrong(values: Mapping[str, Any], expected: str) -> None:
    with pytest.raises(UnusableRowError, match=expected) as caught:
        example(values)
    assert caught.value.remedy


def test_a_number_as_completion_is_refused_not_converted() -> None:
    with pytest.raises(UnusableRowError, match="'a' is int 2"):
        example({"q": "1+1?", "a": 2}, PAIR)

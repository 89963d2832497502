"""Conversations that show the right answer: their words, and that templates show all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import templates
from fakes.teacher import write_tokenizer

from trims_core.config import TemplateConfig
from trims_core.errors import ConfigError
from trims_core.privileged import privileged, shows
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.students.dream import CHAT_TEMPLATE as DREAM
from trims_core.students.llada import CHAT_TEMPLATE as LLADA

ASKED = [{"role": "user", "content": "How many?"}]
TOLD = [{"role": "system", "content": "Be brief."}, *ASKED]
FOLDING = (
    "{% for m in messages %}{{ m.content }}"
    "{{ '\\n\\n' if m.role == 'system' else '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '> ' }}{% endif %}"
)
"""No turn for the system: its text begins the question."""
ANSWER = "So 4.\nThe answer is 4."


def renderer(root: Path, template: str) -> Renderer:
    file = root / "template.jinja"
    file.write_text(template)
    tokenizer = load_tokenizer(str(write_tokenizer(root / "tokenizer")))
    return Renderer(tokenizer, TemplateConfig(template_file=str(file)), "student")


def test_the_answer_stands_in_a_system_message_of_its_own_or_behind_the_one_that_is_there() -> None:
    own, *rest = privileged("reference", ASKED, ANSWER, "")
    assert own == {"role": "system", "content": f"Reference Answer: {ANSWER}"} and rest == ASKED
    first, *rest = privileged("reference", TOLD, ANSWER, "unused")
    assert first["content"] == f"Be brief.\n\nReference Answer: {ANSWER}" and rest == ASKED
    late = [*ASKED, {"role": "assistant", "content": "4"}, *TOLD]
    changed = privileged("reference", late, ANSWER, "")
    assert [one["role"] for one in changed] == [one["role"] for one in late]
    assert changed[2]["content"].endswith(ANSWER) and changed[:2] == late[:2]


def test_what_a_template_says_by_itself_stays() -> None:
    first, *_ = privileged("reference", ASKED, ANSWER, "You help.")
    assert first["content"] == f"You help.\n\nReference Answer: {ANSWER}"


def test_as_published_the_question_has_the_solution_and_the_teacher_is_told_nothing() -> None:
    (asked,) = privileged("solution", ASKED, ANSWER, "You help.")
    assert asked == {"role": "user", "content": f"How many?\nReference Answer: {ANSWER}"}
    empty, again = privileged("empty-reference", ASKED, ANSWER, "")
    assert again == asked and empty["content"] == "Reference Answer: "
    assert ASKED == [{"role": "user", "content": "How many?"}]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (LLADA, ""),
        (DREAM, "You are a helpful assistant."),
        (templates.LLAMA3, ""),
        (templates.GPT_OSS, ""),
        (templates.PLAIN, ""),
        (FOLDING, ""),
    ],
)
def test_templates_show_system_messages_and_what_they_say_without(
    tmp_path: Path, template: str, says: str
) -> None:
    found = renderer(tmp_path, template)
    assert found.own_system() == says
    for messages in (ASKED, TOLD):
        (text,) = found.rows([privileged("reference", messages, ANSWER, says)], [ANSWER]).prompt_texts
        assert shows("reference", text, ANSWER) and (says in text or messages is TOLD)
        (plain,) = found.rows([messages], [ANSWER]).prompt_texts
        assert not shows("reference", plain, ANSWER)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (templates.GEMMA, "System role not supported"),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.content }}<|im_end|>{% endfor %}",
            "its text is not in what the template makes of one",
        ),
    ],
)
def test_a_template_without_system_messages_is_refused_by_name(
    tmp_path: Path, template: str, why: str
) -> None:
    with pytest.raises(ConfigError) as error:
        renderer(tmp_path, template).own_system()
    said = str(error.value)
    assert said.startswith("student: the chat template of") and "does not render a system message" in said
    assert why in said and "student.template_file" in said


def test_an_answer_that_is_not_shown_word_for_word_is_noticed() -> None:
    assert shows("solution", f"x Reference Answer: {ANSWER} y", ANSWER)
    assert not shows("solution", f"x Reference Answer: {ANSWER.upper()} y", ANSWER)
    assert not shows("empty-reference", f"x Reference Answer: {ANSWER}", ANSWER)
    assert shows("empty-reference", f"Reference Answer:\nx Reference Answer: {ANSWER}", ANSWER)

"""Finished turn = prompt + answer + end, whatever a template's generation header says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.teacher import CHATML, write_tokenizer
from fakes.templates import GEMMA, GPT_OSS, LLAMA3, MISTRAL, PLAIN, QWEN3, QWEN3_THINKING, R1

from trims_core.config import ScoresConfig, StudentConfig, TemplateConfig
from trims_core.errors import ConfigError, RejectBudgetError
from trims_core.rendering import RenderedRows, Renderer, load_tokenizer
from trims_core.settings import parse_config, template_config

MARKS = {
    "special": ["<eos>"],
    "eos_token": "<eos>",
    "added": ["<|im_end|>", "<|return|>", "<|eos|>", "</s>", "<|eot_id|>", "<end_of_turn>"],
}
ASKED = [{"role": "user", "content": "2 + 2?"}]
THOUGHT = "<think>\nadd\n</think>\n\n4"
CLOSES = "add\n</think>\n\n4"
CHATML_THINKING = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")
"""Finished turns show their answers as they are."""
CHATML_ASKED = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"


def renderer(folder: Path, source: str | None, /, *, decoded: bool = False, **settings: Any) -> Renderer:
    tokenizer = load_tokenizer(str(write_tokenizer(folder, source, **MARKS)))
    return Renderer(tokenizer, TemplateConfig(**settings), decoded=decoded)


def text_of(found: Renderer, rendered: RenderedRows, row: int = 0) -> str:
    """A row's tokens as text, prompt and targets."""
    targets = rendered.targets
    own = targets.ids_T[targets.offset_R1[row] : targets.offset_R1[row + 1]].tolist()
    return str(found._tokenizer.decode([*rendered.prompts[row], *own]))


@pytest.mark.parametrize(
    ("template", "settings", "answer", "wanted"),
    [
        (CHATML, {}, "4", CHATML_ASKED + "4<|im_end|>"),
        (CHATML, {}, THOUGHT, CHATML_ASKED + THOUGHT + "<|im_end|>"),
        (QWEN3, {}, "4", CHATML_ASKED + "<think>\n\n</think>\n\n4<|im_end|>"),
        (QWEN3, {}, THOUGHT, CHATML_ASKED + THOUGHT + "<|im_end|>"),
        (QWEN3, {}, CLOSES, CHATML_ASKED + "<think>\n" + CLOSES + "<|im_end|>"),
        (QWEN3, {}, "<b>4</b>", CHATML_ASKED + "<think>\n\n</think>\n\n<b>4</b><|im_end|>"),
        (
            QWEN3,
            {"template": {"enable_thinking": False}},
            "4",
            CHATML_ASKED + "<think>\n\n</think>\n\n4<|im_end|>",
        ),
        (QWEN3, {"template": {"enable_thinking": False}}, THOUGHT, CHATML_ASKED + THOUGHT + "<|im_end|>"),
        (QWEN3_THINKING, {}, "4", CHATML_ASKED + "<think>\n\n</think>\n\n4<|im_end|>"),
        (QWEN3_THINKING, {}, THOUGHT, CHATML_ASKED + THOUGHT + "<|im_end|>"),
        (QWEN3_THINKING, {}, CLOSES, CHATML_ASKED + "<think>\n" + CLOSES + "<|im_end|>"),
        (R1, {}, "4", "<|User|>2 + 2?<|Assistant|>4<|eos|>"),
        (R1, {}, THOUGHT, f"<|User|>2 + 2?<|Assistant|>{THOUGHT}<|eos|>"),
        # DeepSeek-V3.1's turns begin with a closed block, which an answer with a block of its own replaces
        (
            R1.replace("<|Assistant|>'", "<|Assistant|></think>'"),
            {},
            THOUGHT,
            f"<|User|>2 + 2?<|Assistant|>{THOUGHT}<|eos|>",
        ),
        (CHATML_THINKING, {}, "4", CHATML_ASKED + "4<|im_end|>"),
        (CHATML_THINKING, {}, THOUGHT, CHATML_ASKED + THOUGHT + "<|im_end|>"),
        (CHATML_THINKING, {}, CLOSES, CHATML_ASKED + "<think>\n" + CLOSES + "<|im_end|>"),
        (R1, {}, CLOSES, f"<|User|>2 + 2?<|Assistant|><think>\n{CLOSES}<|eos|>"),
        (
            GPT_OSS,
            {},
            "4",
            "<|start|>system<|message|>Current date: 2024-07-26<|end|><|start|>user<|message|>2 + 2?<|end|>"
            "<|start|>assistant<|channel|>final<|message|>4<|return|>",
        ),
        (MISTRAL, {}, "4", "<s>[INST] 2 + 2? [/INST] 4</s>"),
        (
            GEMMA,
            {},
            "4",
            "<bos><start_of_turn>user\n2 + 2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>",
        ),
        (PLAIN, {}, "4", "### user:\n2 + 2?\n### end\n\n### assistant:\n4\n### end"),
    ],
)
def test_a_row_is_what_the_template_makes_of_a_finished_turn(
    template: str, settings: dict[str, Any], answer: str, wanted: str, tmp_path: Path
) -> None:
    found = renderer(tmp_path, template, **settings)
    rendered = found.rows([ASKED], [answer])
    assert not rendered.refused
    assert text_of(found, rendered) == wanted
    assert rendered.targets.byte_end_T[-1 - len(found.end_ids)] == len(answer.encode())


@pytest.mark.parametrize("template", [CHATML, QWEN3, QWEN3_THINKING, R1, GPT_OSS, PLAIN, LLAMA3])
@pytest.mark.parametrize("answer", ["4", THOUGHT])
def test_turns_and_system_prompts_before_change_nothing(template: str, answer: str, tmp_path: Path) -> None:
    found = renderer(tmp_path, template)
    earlier = [*ASKED, {"role": "assistant", "content": "4"}, {"role": "user", "content": "+ 1?"}]
    talks = [earlier, [{"role": "system", "content": "Count."}, *ASKED]]
    rendered = found.rows(talks, [answer] * 2)
    for row, talk in enumerate(talks):
        turn = {"role": "assistant", "content": answer}
        finished = found._template._render([*talk, turn], generation=False)
        if template != R1 or answer == "4":  # R1's finished turns lose their thinking
            assert finished.startswith(text_of(found, rendered, row))


def test_a_space_before_an_answer_is_part_of_its_first_token(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "data/tokenizers/qwen3"
    template = MISTRAL.replace("<s>", "").replace("</s>", "<|endoftext|>")
    (tmp_path / "tokenizer.json").write_bytes(gzip.decompress((folder / "tokenizer.json.gz").read_bytes()))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    found = Renderer(load_tokenizer(str(tmp_path)))
    rendered = found.rows([ASKED], ["Four apples"])
    tokenizer = found._tokenizer
    whole = tokenizer.encode("[INST] 2 + 2? [/INST] Four apples<|endoftext|>")
    assert [*rendered.prompts[0], *rendered.targets.ids_T.tolist()] == whole
    assert rendered.targets.byte_end_T.tolist() == [4, 11, 11]

    # long answers that open tags of their own, which this template does not know
    path = shared_data / "data/reasoning_sft/marco_o1_cot_demo.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        examples = [json.loads(line) for line in file][:20]
    talks = [[{"role": "user", "content": one["instruction"]}] for one in examples]
    answers = [one["response"].strip() for one in examples]
    rendered = found.rows(talks, answers)
    for row, (talk, answer) in enumerate(zip(talks, answers, strict=True)):
        assert text_of(found, rendered, row) == f"[INST] {talk[0]['content']} [/INST] {answer}<|endoftext|>"


def test_a_template_that_rewrites_how_answers_begin_has_those_rows_refused(tmp_path: Path) -> None:
    template = CHATML.replace("message['content']", "message['content'].replace('<think>', '[THINK]')")
    rendered = renderer(tmp_path, template).rows([ASKED, ASKED], [THOUGHT, "4"])
    assert list(rendered.refused) == [0]
    assert rendered.refused[0].reason == "template_refuses"
    assert "[THINK]" in rendered.refused[0].detail and "'<think>'" in rendered.refused[0].detail


def test_templates_without_answers_or_with_another_conversation_are_refused(tmp_path: Path) -> None:
    silent = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ConfigError, match=r"the assistant's text is not in .*scores\.template_file"):
        renderer(tmp_path, silent)
    with pytest.raises(
        ConfigError, match=r"does not render a question and its answer: .*Expected an expression"
    ):
        renderer(tmp_path, "{% for %}")
    other = "{{ 'asked' if add_generation_prompt else 'done' }}" + CHATML
    refused = renderer(tmp_path, other).rows([ASKED], ["4"]).refused
    assert "expected the same conversation in both" in refused[0].detail


def test_what_is_decoded_begins_as_what_was_trained_on(tmp_path: Path) -> None:
    student = renderer(tmp_path, QWEN3, decoded=True)
    rendered = student.rows([ASKED] * 2, ["4", THOUGHT])
    assert list(rendered.refused) == [0]
    assert "'<think>\\n\\n</think>\\n\\n' inserted" in rendered.refused[0].detail
    assert rendered.prompts[1] == student.prompt_ids(ASKED)
    quick = renderer(tmp_path, QWEN3, decoded=True, template={"enable_thinking": False})
    rendered = quick.rows([ASKED] * 2, ["4", THOUGHT])
    assert list(rendered.refused) == [1] and rendered.prompts[0] == quick.prompt_ids(ASKED)
    opened = renderer(tmp_path, QWEN3_THINKING, decoded=True).rows([ASKED] * 3, ["4", THOUGHT, CLOSES])
    assert list(opened.refused) == [0]


def test_keywords_and_files_are_settings_of_teacher_and_student(tmp_path: Path) -> None:
    for section in (ScoresConfig, StudentConfig):
        plain = section(model="m").result_fields()
        assert not {"template", "template_file", "template_date"} & plain.keys()
        changed = section(model="m", template={"enable_thinking": False}, template_file="x.jinja")
        assert changed.result_fields() == {**plain, "template": {"enable_thinking": False}}
    with pytest.raises(ConfigError, match=r"template\.enable_thinkin: .*did you mean 'enable_thinking'"):
        renderer(tmp_path, QWEN3, template={"enable_thinkin": False})
    raw = {"name": "x", "corpus": {"path": "a"}, "student": {"model": "s"}}
    raw |= {
        "scores": {"model": "t", "template": {"messages": []}},
        "sweep": {"tasks": {"d": {"benchmark": "demo"}}},
    }
    with pytest.raises(ConfigError, match=r"template\.messages: given to every template already"):
        parse_config(raw)
    assert template_config(["enable_thinking=false"], None).template == {"enable_thinking": False}
    with pytest.raises(ConfigError, match="expected key=value"):
        template_config(["enable_thinking"], None)


def test_a_base_model_takes_a_template_from_a_file_whose_content_is_in_the_key(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    write_tokenizer(tmp_path / "teacher", None)
    with pytest.raises(ConfigError, match=r"has no chat template; set scores\.template_file"):
        world.run("scores")
    file = tmp_path / "own.jinja"
    with pytest.raises(ConfigError, match=r"own\.jinja.*cannot be read"):
        world.run("scores", scores={"template_file": str(file)})
    file.write_text(CHATML)
    first = world.run("scores", scores={"template_file": str(file)})["scores"]
    (tmp_path / "moved.jinja").write_text(CHATML)
    moved = {"template_file": str(tmp_path / "moved.jinja")}
    assert world.run("scores", scores=moved)["scores"].how == "cached"
    (tmp_path / "moved.jinja").write_text(PLAIN)
    second = world.run("scores", scores=moved)["scores"]
    assert second.artifact.fingerprint != first.artifact.fingerprint
    assert second.artifact.content_digest != first.artifact.content_digest


def test_the_cards_show_three_examples_as_they_are_read(tmp_path: Path) -> None:
    examples = rows(8)
    examples[6]["messages"][1]["content"] = THOUGHT
    world = ChainWorld(tmp_path).write(examples)
    write_tokenizer(tmp_path / "teacher", QWEN3)
    done = world.run("aligned")
    card = done["scores"].artifact.path.joinpath("card.md").read_text()
    asked = "<|im_start|>user\nWhat is {0} + {0}?<|im_end|>\n<|im_start|>assistant\n"
    assert asked.format(0) + "<think>\n\n</think>\n\nIt is 0.<|im_end|>\n" in card
    assert asked.format(6) + THOUGHT + "<|im_end|>\n" in card, "every form is shown before a second of one"
    assert card.count("the answer begins behind character") == 3
    assert "with '<think>\\n\\n</think>\\n\\n' inserted" in card and "header as it is" in card
    card = done["aligned"].artifact.path.joinpath("card.md").read_text()
    student = "<|start_header_id|>assistant<|end_header_id|>\n\nIt is 0.<|eot_id|>\n"
    assert "## As the student reads it" in card and student in card


def test_the_student_takes_keywords_too_and_refuses_what_it_could_not_decode(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    file = tmp_path / "student.jinja"
    file.write_text(QWEN3.replace("<|im_end|>", "<|eot_id|>"))
    student: dict[str, Any] = {"template_file": str(file)}
    with pytest.raises(RejectBudgetError, match=r"aligned: 4 of 4 .*r0, r1, r2, r3.*max_rejected_fraction"):
        world.run("aligned", student=student)
    done = world.run("aligned", student=student | {"template": {"enable_thinking": False}})
    ids = table(done["aligned"].artifact, "aligned")["input_ids"].to_pylist()[0]
    text = load_tokenizer(str(world.student)).decode(ids)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nIt is 0.<|eot_id|>")

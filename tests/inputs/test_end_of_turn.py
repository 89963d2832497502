"""What ends a turn is what the template shows behind one: any added token, or plain text; else the eos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.chain_world import ChainWorld, rows, table
from fakes.teacher import CHATML, SPECIALS, write_tokenizer
from fakes.templates import GEMMA, GPT_OSS, MISTRAL, PLAIN, R1

from trims_core.errors import ConfigError
from trims_core.rendering import Renderer, load_tokenizer

EOS = {"special": ["<eos>"], "eos_token": "<eos>"}
FAMILY_LIKE = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] + END }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


def renderer(folder: Path, template: str, **tokens: Any) -> Renderer:
    return Renderer(load_tokenizer(str(write_tokenizer(folder, template, **tokens))))


@pytest.mark.parametrize(
    ("template", "tokens", "end", "n_tokens"),
    [
        (CHATML, {**EOS, "added": ["<|im_start|>", "<|im_end|>"]}, "<|im_end|>", 1),
        (CHATML, {"special": SPECIALS}, "<|im_end|>", 1),
        (CHATML, EOS, "<|im_end|>", len("<|im_end|>")),
        (PLAIN, EOS, "\n### end", len("\n### end")),
        (GEMMA, {**EOS, "added": ["<start_of_turn>", "<end_of_turn>"]}, "<end_of_turn>", 1),
        (GPT_OSS, {**EOS, "added": ["<|start|>", "<|message|>", "<|end|>", "<|return|>"]}, "<|return|>", 1),
        (MISTRAL, {**EOS, "added": ["</s>"]}, "</s>", 1),
        (R1, {**EOS, "added": ["<|eos|>"]}, "<|eos|>", 1),
        (PLAIN.replace("\\n### end\\n\\n", "\\n"), EOS, "<eos>", 1),
        (CHATML.replace("<|im_end|>", ""), {**EOS, "added": ["<|im_start|>"]}, "<eos>", 1),
    ],
)
def test_the_end_is_what_stands_behind_a_finished_turn(
    template: str, tokens: dict[str, Any], end: str, n_tokens: int, tmp_path: Path
) -> None:
    found = renderer(tmp_path, template, **tokens)
    assert (found.end_text, len(found.end_ids)) == (end, n_tokens)


def test_the_next_header_is_no_end(tmp_path: Path) -> None:
    # a header behind every conversation, and no end before it
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}{% endfor %}"
        "{{ '<|im_start|>assistant\\n' }}"
    )
    assert renderer(tmp_path, template, **EOS, added=["<|im_start|>"]).end_text == "<eos>"
    named = template.replace("<|im_start|>' + m['role'] + '", "<|' + m['role'] + '|>").replace(
        "<|im_start|>assistant", "<|assistant|>"
    )
    tokens: dict[str, Any] = {**EOS, "added": ["<|user|>", "<|assistant|>", "<|end|>"]}
    assert renderer(tmp_path / "named", named, **tokens).end_text == "<eos>"
    ended = named.replace("m['content']", "m['content'] + '<|end|>'")
    assert renderer(tmp_path / "ended", ended, **tokens).end_text == "<|end|>"
    with pytest.raises(ConfigError, match=r"cannot be told from the header of the next.*template_file"):
        renderer(tmp_path / "plain", template, **EOS)


def test_an_end_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>", "")
    with pytest.raises(ConfigError, match="nothing ends an assistant turn"):
        renderer(tmp_path, template, special=["<|im_start|>"], eos_token=None, pad_token=None)


def test_a_teacher_is_asked_for_every_token_of_the_end_and_the_students_end_gets_their_sum(
    tmp_path: Path,
) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    write_tokenizer(tmp_path / "teacher", PLAIN, **EOS)
    done = world.run("aligned")
    scores, aligned = table(done["scores"].artifact, "scores"), table(done["aligned"].artifact, "aligned")
    n_end = len("\n### end")
    for score, row in zip(scores.to_pylist(), aligned.to_pylist(), strict=True):
        assert bytes(score["token_ids"][-n_end:]) != b"" and len(set(score["byte_end"][-n_end - 1 :])) == 1
        assert row["difficulty_nats"][-1] == pytest.approx(sum(score["nll_nats"][-n_end:]))
        assert sum(row["difficulty_nats"]) == pytest.approx(sum(score["nll_nats"]))


@pytest.mark.parametrize("content", ["[]", '{"chat_template": ["a"]}', '{"chat_template": [{"name": "a"}]}'])
def test_a_damaged_tokenizer_config_is_an_error_of_ours(content: str, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, CHATML, **EOS)
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(ConfigError, match="no tokenizer could be loaded"):
        load_tokenizer(str(folder))


def last_tokens(world: ChainWorld, **sections: Any) -> set[str]:
    aligned = table(world.run("aligned", **sections)["aligned"].artifact, "aligned")
    tokenizer = load_tokenizer(str(world.student))
    return {tokenizer.convert_ids_to_tokens(row["input_ids"][-1]) for row in aligned.to_pylist()}


def test_a_students_end_may_be_a_token_that_is_not_special(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    path = world.student / "tokenizer.json"
    path.write_text(
        path.read_text()
        .replace('"special": true', '"special": false')
        .replace('"special":true', '"special":false')
    )
    assert last_tokens(world) == {"<|eot_id|>"}
    assert last_tokens(world, buckets={"supervised_end": "eos"}) == {"<|endoftext|>"}


def test_a_student_is_not_taught_an_end_at_which_decoding_does_not_stop(tmp_path: Path) -> None:
    world = ChainWorld(tmp_path).write(rows(4))
    template = tmp_path / "student.jinja"
    for end in ("</turn>", "<|end_header_id|>"):
        template.write_text(FAMILY_LIKE.replace("END", repr(end)))
        with pytest.raises(
            ConfigError, match=rf"ends a turn with '{end}'.*supervised_end: eos".replace("|", r"\|")
        ):
            world.run("aligned", student={"template_file": str(template)})
    assert last_tokens(
        world, student={"template_file": str(template)}, buckets={"supervised_end": "eos"}
    ) == {"<|endoftext|>"}

"""An assistant's answers are the engine's: the same tokens, trimmed text, defaults that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream

from trims_core.decoding import CACHES, DecodeSettings, Threshold, decode
from trims_core.errors import ConfigError
from trims_core.generation import Answer, Assistant, Conversation, GenerateOptions
from trims_core.students import load_student

QUESTION = "Tom has 5 apples. He buys 3 more. How many apples does Tom have now?"
ASKED = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def demo(project_root: Path) -> Assistant:
    return Assistant.load(str(project_root / "data" / "demo" / "student"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """A random student with a context of 256 positions and no suggested length."""
    return Assistant.load(str(write_student(tmp_path_factory.mktemp("tiny"))))


def test_the_demo_student_answers_the_question(demo: Assistant) -> None:
    answer = demo.answer(QUESTION)
    assert answer.text.endswith("The answer is 8.")
    assert answer.decoded.finished
    assert answer.tokens_per_forward == answer.n_tokens / answer.n_forwards > 1


def test_an_answer_is_what_the_engine_decodes_with_the_defaults_filled_in(demo: Assistant) -> None:
    answer = demo.answer(QUESTION, threshold=0.7)
    settings = DecodeSettings(Threshold(0.7), 64, 32, cache=CACHES["dual"], batch_size=8)
    assert answer.settings == settings
    (found,) = decode(demo.student, [demo.renderer.prompt_ids(ASKED)], settings)
    assert (answer.decoded.token_ids, answer.decoded.reveal_step) == (found.token_ids, found.reveal_step)


def test_prompts_decoded_together_are_answered_in_order(demo: Assistant) -> None:
    other = [{"role": "user", "content": "Leo has 15 coins. He sells 3. How many coins does Leo have now?"}]
    together = demo.answers([other, ASKED], GenerateOptions())
    assert [answer.text for answer in together] == [
        demo.answers([one], GenerateOptions())[0].text for one in (other, ASKED)
    ]


def test_a_stop_string_and_what_follows_it_are_no_part_of_the_text(demo: Assistant) -> None:
    whole = demo.answer(QUESTION).text
    cut = demo.answer(QUESTION, stop=("The answer",))
    assert cut.text == whole[: whole.index("The answer")]
    assert cut.decoded.finished


def test_the_whole_canvas_is_decoded_on_request(demo: Assistant) -> None:
    answer = demo.answer(QUESTION, stop_at_end=False)
    assert min(answer.decoded.reveal_step) >= 0
    assert answer.text == demo.answer(QUESTION).text


@pytest.mark.parametrize(
    ("options", "cache", "block_length"),
    [
        ({}, "dual", 32),
        ({"rule": "entropy", "block_length": 16}, "dual", 16),
        ({"rule": "multi_block"}, "none", 32),
        ({"guidance": 0.5}, "none", 32),
        ({"rule": "dream_official"}, "none", 64),
        ({"rule": "dream_steps", "cache": "dual"}, "dual", 32),
        ({"gen_length": 8}, "dual", 8),
    ],
)
def test_defaults_fit_the_rule(
    demo: Assistant, options: dict[str, Any], cache: str, block_length: int
) -> None:
    settings = demo.answer(QUESTION, **options).settings
    assert (settings.cache.name, settings.block_length) == (cache, block_length)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "multi_block", "cache": "dual"}, "multi_block with cache dual: not defined"),
        ({"guidance": 1.0, "cache": "prefix"}, "guidance 1 with cache prefix: not defined"),
        ({"threshold": 1.5}, "threshold 1.5: expected a probability"),
        ({"rule": "dream_official", "threshold": 2.0}, "expected a probability"),
        ({"gen_length": 40}, "gen_length 40 with block_length 32"),
        ({"gen_length": 4096}, "tokens, which leaves 40.. of the student's context of 4096"),
        (
            {"suppress": ("<|nothing|>",)},
            "suppress '<|nothing|>': the student has no such token".replace("|", r"\|"),
        ),
        ({"begin_suppress": ("99999",)}, "begin_suppress '99999'.* an id below 496"),
    ],
)
def test_what_is_not_defined_is_refused_with_a_reason(
    demo: Assistant, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        demo.answer(QUESTION, **options)


def test_suppressed_tokens_go_by_word_text_and_id(demo: Assistant) -> None:
    family = demo.student.family
    named = demo.answer(QUESTION, suppress=("eos", "<|eot_id|>", "7")).settings.sampling
    assert named.suppress_ids == {family.eos_id, family.eot_id, 7}
    never = demo.answer(QUESTION, suppress=("eos", "eot"))
    assert not never.decoded.finished
    assert not family.end_ids & set(never.decoded.token_ids)


def test_the_canvas_is_as_long_as_the_context_allows_and_the_checkpoint_suggests(
    tiny: Assistant, tmp_path: Path
) -> None:
    answer = tiny.answer("Hi", stop_at_end=False, threshold=0.1)
    assert answer.settings.gen_length == (256 - answer.n_prompt) // 32 * 32 < 256
    folder = write_student(tmp_path / "student")
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 24}))
    settings = Assistant.load(str(folder)).answer("Hi").settings
    assert (settings.gen_length, settings.block_length) == (24, 24)


def test_a_prompt_that_leaves_no_room_is_refused(tiny: Assistant) -> None:
    with pytest.raises(
        ConfigError, match=r"leaves \d+ of the student's context of 256; expected room for 32"
    ):
        tiny.answer("x" * 210)


def test_noise_follows_the_seed(tiny: Assistant) -> None:
    def ids(seed: int) -> list[int]:
        found = tiny.answer("Hi", gen_length=16, temperature=1.0, seed=seed, stop_at_end=False)
        return found.decoded.token_ids

    assert ids(1) == ids(1) != ids(2)


def test_a_dream_student_answers_too(tmp_path: Path) -> None:
    folder = write_dream(tmp_path / "dream", with_tokenizer=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 256}))
    dream = Assistant.load(str(folder))
    for rule in ("threshold", "dream_official", "dream_steps"):
        answer = dream.answer("Hi", system="Short.", rule=rule, gen_length=8, stop_at_end=False)
        assert min(answer.decoded.reveal_step) >= 0


def test_an_adapter_changes_the_answers_as_peft_would(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from trims_core.students import save_adapter_official

    folder = write_student(tmp_path / "student")
    student = load_student(str(folder))
    wrapped = get_peft_model(
        student.model, LoraConfig(r=2, target_modules=student.family.lora_targets("attention"))
    )
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    save_adapter_official(wrapped, tmp_path / "adapter")

    def ids(answer: Answer) -> list[int]:
        return answer.decoded.token_ids

    options = {"gen_length": 16, "stop_at_end": False}
    tuned = Assistant.load(str(folder), adapter=tmp_path / "adapter").answer("Hi", **options)
    untuned = Assistant.load(str(folder)).answer("Hi", **options)
    expected = load_student(str(folder), adapter=tmp_path / "adapter")
    prompt = Assistant(expected).renderer.prompt_ids([{"role": "user", "content": "Hi"}])
    assert ids(tuned) == decode(expected, [prompt], tuned.settings)[0].token_ids
    assert ids(tuned) != ids(untuned)


def test_a_conversation_renders_its_history_and_forgets_on_reset(demo: Assistant) -> None:
    talk = Conversation(demo, system="Count.")
    first = talk.ask(QUESTION)
    second = talk.ask("And with 2 more?")
    roles = [message["role"] for message in talk.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert talk.messages[2]["content"] == first.text
    assert second.n_prompt == len(demo.renderer.prompt_ids(talk.messages[:-1])) > first.n_prompt
    talk.reset()
    assert talk.messages == [{"role": "system", "content": "Count."}]
    assert talk.ask(QUESTION).text == first.text


def test_a_turn_that_fails_leaves_the_conversation_as_it_was(demo: Assistant) -> None:
    talk = Conversation(demo)
    talk.ask(QUESTION)
    before = list(talk.messages)

    def interrupt(_canvases: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.ask("More?", watch=interrupt)
    talk.options = GenerateOptions(gen_length=4096)
    with pytest.raises(ConfigError, match="Shorten the prompt or the conversation"):
        talk.ask("More?")
    assert talk.messages == before

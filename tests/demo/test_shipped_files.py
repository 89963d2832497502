"""What data/demo ships is what the generator makes from the shipped seed, and it loads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trims_core.demo import DEFAULT_SEED, write_corpus
from trims_core.demo.tokenizers import student_tokenizer, teacher_tokenizer
from trims_core.students import load_student, read_family


@pytest.fixture(scope="module")
def shipped(project_root: Path) -> Path:
    return project_root / "data" / "demo"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_corpus_files_are_the_generators(shipped: Path, tmp_path: Path) -> None:
    for name, path in write_corpus(tmp_path, DEFAULT_SEED).items():
        assert path.read_bytes() == (shipped / name).read_bytes()


def test_the_corpus_files_have_the_promised_sizes_and_shapes(shipped: Path) -> None:
    train, held_out = rows(shipped / "train.jsonl"), rows(shipped / "test.jsonl")
    assert len(train) == 2000
    assert len(held_out) >= 1000
    assert len({row["id"] for row in train + held_out}) == len(train) + len(held_out)
    assert [m["role"] for m in train[0]["messages"]] == ["user", "assistant"]
    assert all(re.fullmatch(r"\d+", str(row["answer"])) for row in held_out)


def test_no_held_out_question_is_in_the_fine_tuning_set_under_other_names(shipped: Path) -> None:
    def numbers(question: str) -> str:
        return re.sub(r"\b(?!How|many|does)[A-Z][a-z]+\b", "N", question)

    train = {numbers(row["messages"][0]["content"]) for row in rows(shipped / "train.jsonl")}
    assert not train & {numbers(str(row["question"])) for row in rows(shipped / "test.jsonl")}


def test_the_tokenizers_are_the_generators(shipped: Path) -> None:
    for role, made in (("teacher", teacher_tokenizer), ("student", student_tokenizer)):
        loaded = AutoTokenizer.from_pretrained(str(shipped / role))
        assert loaded.backend_tokenizer.to_str() == made(DEFAULT_SEED).backend_tokenizer.to_str()


def test_the_teacher_loads_as_qwen3_with_its_tokenizers_size(shipped: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(shipped / "teacher"))
    assert model.config.model_type == "qwen3"
    assert model.config.head_dim >= 32
    assert model.config.max_position_embeddings >= 2048
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(str(shipped / "teacher")))
    assert model.dtype == torch.bfloat16


def test_the_student_loads_in_llada_layout_with_its_own_ids(shipped: Path) -> None:
    family = read_family(shipped / "student")
    student = load_student(str(shipped / "student"))
    assert (family.name, family.context_length >= 2048) == ("llada", True)
    assert len({family.mask_id, family.eos_id, family.eot_id}) == 3
    assert student.tokenizer.convert_tokens_to_ids("<|eot_id|>") == family.eot_id
    assert student.tokenizer.eos_token_id == family.eos_id


def test_the_student_fills_in_a_masked_sum(shipped: Path) -> None:
    student = load_student(str(shipped / "student"))
    tokenizer, mask = student.tokenizer, student.family.mask_id
    question = "Tom has 6 boxes with 4 pens each. He loses 5. How many pens does Tom have now?"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt + "6 * 4 = ", add_special_tokens=False)["input_ids"][:-1]
    with torch.no_grad():
        logits_BLV = student.forward(torch.tensor([ids + [mask] * 24]))
    assert tokenizer.decode(logits_BLV[0, len(ids) : len(ids) + 2].argmax(-1)).strip() == "24"


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_cards_and_logs_exist_and_say_how_the_model_was_made(shipped: Path, role: str) -> None:
    card = (shipped / role / "README.md").read_text(encoding="utf-8")
    assert f"--seed {DEFAULT_SEED}" in card
    assert "## Measured" in card
    log = rows(shipped / role / "training_log.jsonl")
    assert float(str(log[-1]["loss"])) < 0.2 * float(str(log[0]["loss"]))


def test_the_folder_stays_small(shipped: Path) -> None:
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < 12_000_000

"""Student tokenizers: published files give the published ids, templates and end tokens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_published_tokenizer

from trims_core.errors import ConfigError
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.students import load_student_tokenizer

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "4"}]


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A folder with the published tokenizer files of Dream and a config.json, no weights."""
    return write_published_tokenizer(tmp_path_factory.mktemp("dream"), shared_data)


def test_dreams_tokenizer_is_read_without_running_the_program_beside_it(dream: Path) -> None:
    (dream / "tokenization_dream.py").write_text("raise SystemExit('executed')")
    tokenizer, family = load_student_tokenizer(str(dream))
    assert (family.mask_id, family.eos_id, family.eot_id) == (151666, 151643, 151645)
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == ("<|mask|>", 151666)
    assert family.end_ids == {151643, 151645}
    # the ids of Qwen2's tokenizer; digits stay apart
    assert tokenizer.encode("Hello 12<|mask|>") == [9707, 220, 16, 17, 151666]


def test_dreams_prompt_has_the_default_system_prompt_and_one_generation_header(dream: Path) -> None:
    tokenizer, _ = load_student_tokenizer(str(dream))
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    user = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n"
    asked = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert asked == f"{system}{user}<|im_start|>assistant\n"
    answered = tokenizer.apply_chat_template(ANSWERED, tokenize=False)
    assert answered == f"{system}{user}<|im_start|>assistant\n4<|im_end|>\n"
    own = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert "helpful" not in tokenizer.apply_chat_template(own, tokenize=False)


def test_the_end_of_turn_of_dream_is_im_end(dream: Path) -> None:
    tokenizer, family = load_student_tokenizer(str(dream))
    assert Renderer(tokenizer).end_ids == (family.eot_id,) == (151645,)


def test_a_tokenizer_of_another_checkpoint_is_refused(dream: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dream, tmp_path / "copy"))
    settings = json.loads((dream / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"]["151666"]["content"] = "</tool_response>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"<\|mask\|>.*151666"):
        load_student_tokenizer(str(folder))


def test_lladas_template_opens_an_answer_only_where_one_is_asked_for(tmp_path: Path) -> None:
    tokenizer, family = load_student_tokenizer(str(write_student(tmp_path / "student")))
    header = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True).endswith(header)
    assert tokenizer.apply_chat_template(ANSWERED, tokenize=False).endswith(f"{header}4<|eot_id|>")
    assert tokenizer.mask_token_id == family.mask_id


def test_lladas_published_template_and_ours_make_the_same_prompts(shared_data: Path, tmp_path: Path) -> None:
    folder = write_student(tmp_path / "student")
    tokenizer, _ = load_student_tokenizer(str(folder))
    published = load_tokenizer(str(folder))
    source = shared_data / "data" / "tokenizers" / "llada" / "tokenizer_config.json"
    published.chat_template = json.loads(source.read_text())["chat_template"]
    long = [{"role": "system", "content": " Be brief.\n"}, *ANSWERED, *ASKED]
    for conversation in (ASKED, long):
        ours, theirs = (
            one.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
            for one in (tokenizer, published)
        )
        assert ours == theirs


def test_a_mask_token_that_the_tokenizer_lacks_is_added_where_config_json_expects_it(
    dream: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(dream, tmp_path / "copy"))
    settings_file, config_file = folder / "tokenizer_config.json", folder / "config.json"
    settings = json.loads(settings_file.read_text())
    del settings["added_tokens_decoder"]["151666"]
    settings_file.write_text(json.dumps(settings))
    assert load_student_tokenizer(str(folder))[0].encode("<|mask|>") == [151666]
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"mask_token_id": 151667}))
    with pytest.raises(ConfigError, match="151667"):
        load_student_tokenizer(str(folder))


def test_a_checkpoint_without_tokenizer_files_says_so(tmp_path: Path, dream: Path) -> None:
    (tmp_path / "config.json").write_bytes((dream / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        load_student_tokenizer(str(tmp_path))


def test_a_hub_name_is_read_from_the_local_cache_without_network(dream: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--owner--dream"
    shutil.copytree(dream, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    program = """
import sys
from trims_core.errors import ConfigError
from trims_core.rendering import load_tokenizer
from trims_core.students import load_student_tokenizer
tokenizer, family = load_student_tokenizer("owner/dream")
assert (family.name, tokenizer.mask_token_id) == ("dream", 151666)
assert load_tokenizer("owner/dream").encode("Hello 12") == [9707, 220, 16, 17]
try:
    load_student_tokenizer("owner/other")
except ConfigError as error:
    sys.exit(str(error))
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.startswith("owner/other: neither a folder in "), found.stderr

"""Rendering: ids and byte offsets that are exactly the text's, for the tokenizers the field uses."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fakes.teacher import CHATML, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.errors import AlignmentError, ConfigError, CorpusError
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.token_bytes import Encoded, EncodedRows

HARD_TEXTS = (
    "é 你好 𝒳 \ufffd e \x00 end",
    "    indented\n\t\tcode  with   runs",
    "a<|im_end|>b <|endoftext|> <think>x</think>",
    "\u1e9b\u0323 \u200b\u200d👩\u200d👩\u200d👧 नमस्ते",
    "x",
)
FINISHED = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="session", params=["qwen3", "gptneox20b", "gpt2"])
def published(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Renderer:
    """A published vocabulary with a ChatML template."""
    folder = tmp_path_factory.mktemp(request.param)
    for packed in sorted((shared_data / "data" / "tokenizers" / request.param).glob("*.gz")):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    if request.param == "gpt2":
        from tokenizers import AddedToken
        from tokenizers.implementations import ByteLevelBPETokenizer

        gpt2 = ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        gpt2.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
        gpt2.save(str(folder / "tokenizer.json"))
    about = {"chat_template": CHATML, "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return Renderer(load_tokenizer(str(folder)))


@pytest.fixture(scope="session")
def marco_texts(shared_data: Path) -> list[str]:
    """Long completions in English and Chinese; some hold U+FFFD."""
    path = shared_data / "data/reasoning_sft/marco_o1_cot_demo.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [unicodedata.normalize("NFC", json.loads(line)["response"]).strip() for line in file]


@pytest.fixture(scope="session")
def byte_renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer(load_tokenizer(str(write_tokenizer(tmp_path_factory.mktemp("bytes")))))


def assert_covers(encoded: Encoded, text: str) -> None:
    assert len(encoded.ids) == len(encoded.byte_end)
    assert encoded.byte_end == sorted(encoded.byte_end)
    assert encoded.byte_end[-1] == len(text.encode())


def test_offsets_cover_chinese_and_damaged_real_text(published: Renderer, marco_texts: list[str]) -> None:
    assert any("\ufffd" in text for text in marco_texts)
    for text, encoded in zip(marco_texts, published.completions(marco_texts), strict=True):
        assert_covers(encoded, text)


def test_the_published_number_of_tokens_is_reproduced(
    published: Renderer, marco_texts: list[str], shared_data: Path
) -> None:
    facts = json.loads((shared_data / "data/tokenizers/alignment_facts.json").read_text())
    about = facts["marco_o1_responses"]
    known = {about["gpt2"]["qwen_tokens"], *(about[name]["other_tokens"] for name in ("gpt2", "gptneox20b"))}
    assert sum(len(encoded.ids) for encoded in published.completions(marco_texts)) in known


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_every_token_ends_where_its_bytes_end(published: Renderer, text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    encoded = published.completion(text)
    assert_covers(encoded, text)
    # the slow way: decode ever longer prefixes; those of whole characters must be the text's prefix
    tokenizer = published._tokenizer
    for count, end in enumerate(encoded.byte_end, start=1):
        prefix = text.encode()[:end]
        shown = tokenizer.decode(encoded.ids[:count], clean_up_tokenization_spaces=False)
        if "\ufffd" not in shown:
            assert shown.encode() == prefix


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_normalised_text_is_covered(byte_renderer: Renderer, text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    encoded = byte_renderer.completion(text)
    assert encoded.byte_end == list(range(1, len(text.encode()) + 1))


def test_a_special_token_written_in_a_completion_is_text(published: Renderer) -> None:
    encoded = published.completion("a<|endoftext|>b<|im_end|>")
    assert published._tokenizer.eos_token_id not in encoded.ids
    assert_covers(encoded, "a<|endoftext|>b<|im_end|>")


def test_the_end_of_turn_is_the_templates_not_the_eos(byte_renderer: Renderer, tmp_path: Path) -> None:
    assert byte_renderer._tokenizer.convert_ids_to_tokens(byte_renderer.end_ids[0]) == "<|im_end|>"
    llada_like = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + m['content'] | trim + '<|endoftext|>' }}"
        "{% endfor %}"
        "{{ '<|im_start|>assistant' }}"
    )
    always_header = Renderer(load_tokenizer(str(write_tokenizer(tmp_path, llada_like))))
    assert always_header._tokenizer.convert_ids_to_tokens(always_header.end_ids[0]) == "<|endoftext|>"


def test_prompts_end_with_the_generation_header(byte_renderer: Renderer) -> None:
    text = byte_renderer._tokenizer.decode(byte_renderer.prompt_ids(FINISHED))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_many_at_once_equal_one_by_one(byte_renderer: Renderer) -> None:
    assert byte_renderer.completions(HARD_TEXTS) == [byte_renderer.completion(t) for t in HARD_TEXTS]
    assert byte_renderer.prompts([FINISHED, FINISHED]) == [byte_renderer.prompt_ids(FINISHED)] * 2


def test_an_empty_list_gives_an_empty_list(byte_renderer: Renderer) -> None:
    assert byte_renderer.completions([]) == []
    assert byte_renderer.prompts([]) == []


def save_changed(folder: Path, **parts: object) -> str:
    """The byte tokenizer with other parts in its tokenizer.json."""
    path = write_tokenizer(folder) / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))
    return str(folder)


@pytest.mark.parametrize("normalizer", [{"type": "Lowercase"}, {"type": "NFKC"}, {"type": "NFD"}])
def test_a_tokenizer_that_changes_text_is_refused_naming_the_example(
    normalizer: dict[str, str], tmp_path: Path
) -> None:
    renderer = Renderer(load_tokenizer(save_changed(tmp_path, normalizer=normalizer)))
    with pytest.raises(AlignmentError, match=r"example 'r7': .* at byte [123]: .*byte-level"):
        renderer.completions(["fine", "xÉﬁ"], ["r6", "r7"])


def test_an_nfc_normaliser_sees_normalised_text_and_is_accepted(tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(save_changed(tmp_path, normalizer={"type": "NFC"})))
    assert_covers(renderer.completion("é"), "é")
    with pytest.raises(AlignmentError):
        renderer.completion("e\u0301")


def test_byte_fallback_and_marked_spaces_are_undone(tmp_path: Path) -> None:
    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for token in ("▁", "a", "b", "▁a"):
        vocab[token] = len(vocab)
    parts = {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [["▁", "a"]],
            "byte_fallback": True,
            "unk_token": "<unk>",
            "fuse_unk": True,
        },
        "added_tokens": [],
    }
    folder = Path(save_changed(tmp_path, **parts))
    about = {"chat_template": CHATML, "eos_token": "a"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    encoded = Renderer(load_tokenizer(str(folder))).completion("a é b")
    assert encoded.byte_end == [1, 2, 3, 4, 5, 6]


def test_vocab_and_merges_alone_are_enough(tmp_path: Path, byte_renderer: Renderer) -> None:
    path = write_tokenizer(tmp_path) / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    path.unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    about = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|im_end|>", "chat_template": CHATML}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    encoded = Renderer(load_tokenizer(str(tmp_path))).completion("é")
    assert encoded == byte_renderer.completion("é")


def test_a_missing_template_or_tokenizer_is_a_config_error(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "t")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no chat template"):
        Renderer(load_tokenizer(str(folder)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no tokenizer could be loaded"):
        load_tokenizer(str(tmp_path / "empty"))


def test_a_template_that_refuses_a_conversation_names_the_example(tmp_path: Path) -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    )
    renderer = Renderer(load_tokenizer(str(write_tokenizer(tmp_path, template))))
    with pytest.raises(CorpusError, match=r"example 'r3'.*no system"):
        renderer.prompt_ids([{"role": "system", "content": "x"}, *FINISHED], "r3")


def test_rows_are_flat_and_an_end_repeats_the_last_offset(byte_renderer: Renderer) -> None:
    texts = ["ab", "", "é"]
    rows = byte_renderer.completion_rows(texts)
    assert rows.offset_R1.tolist() == [0, 2, 2, 4] and rows.byte_end_T.tolist() == [1, 2, 1, 2]
    ended = rows.with_end([7])
    assert ended.offset_R1.tolist() == [0, 3, 4, 7]
    assert ended.byte_end_T.tolist() == [1, 2, 2, 0, 1, 2, 2]
    assert ended.ids_T[[2, 3, 6]].tolist() == [7, 7, 7]
    again = EncodedRows.joined([byte_renderer.completion_rows([text]) for text in texts])
    assert all(np.array_equal(getattr(again, name), getattr(rows, name)) for name in EncodedRows.__slots__)

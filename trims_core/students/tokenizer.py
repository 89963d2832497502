"""A student's tokenizer: mask token registered, the family's chat template in place of the shipped one.

The published tokenizers leave both to the reader: LLaDA's names no mask token and its template opens an
assistant turn after every conversation, finished or not. Prompts in training and decoding come from the
tokenizer made here, so they cannot differ. Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trims_core.errors import ConfigError
from trims_core.hub import TOKENIZER_FILES, checkpoint_folder
from trims_core.rendering import load_tokenizer
from trims_core.students.config_json import refuse_ids_beyond
from trims_core.students.family import Family, read_family
from trims_core.text_files import object_of

_ONLY_HERE: Final = ("backend", "is_local", "local_files_only", "auto_map")
"""How the tokenizer was loaded, and programs that read other files than those that are written."""

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_student_tokenizer(
    model: str, revision: str | None = None, family: str = "auto"
) -> tuple[PreTrainedTokenizerFast, Family]:
    """Tokenizer and family of a checkpoint folder or hub name, its weights neither read nor downloaded.

    Raises:
        ConfigError: no such checkpoint, an unknown family, no tokenizer, or one of another checkpoint.
    """
    folder = checkpoint_folder(model, revision, TOKENIZER_FILES)
    described = read_family(folder, family)
    tokenizer = read_tokenizer(folder, described)
    if tokenizer is None:
        raise ConfigError(f"{model}: no tokenizer.json, or vocab.json and merges.txt, beside config.json")
    return tokenizer, described


def read_tokenizer(folder: Path, family: Family) -> PreTrainedTokenizerFast | None:
    """The tokenizer in a checkpoint folder; None where there are no tokenizer files.

    Raises:
        ConfigError: its mask token has another id than config.json says, or it has ids beyond the embedding.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return None
    tokenizer = load_tokenizer(str(folder))
    tokenizer.mask_token = family.mask_token
    if tokenizer.mask_token_id is None or tokenizer.mask_token_id == tokenizer.unk_token_id:
        tokenizer.add_special_tokens({"mask_token": family.mask_token})
    if tokenizer.mask_token_id != family.mask_id:
        raise ConfigError(
            f"{folder}: the tokenizer gives {family.mask_token} the id {tokenizer.mask_token_id}, config.json"
            f" says {family.mask_id}; the tokenizer belongs to another checkpoint"
        )
    tokenizer.chat_template = family.chat_template
    refuse_ids_beyond(family.vocab_size, tokenizer.get_vocab(), f"{folder}: tokens")
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json so that transformers 4.38 and later read the same.

    Version 5 calls the class and the further special tokens by names that version 4 does not know, and lists
    merges in pairs, which only tokenizers 0.20 and later read.
    """
    tokenizer.save_pretrained(str(folder), save_jinja_files=False)
    about_file, whole_file = folder / "tokenizer_config.json", folder / "tokenizer.json"
    about = object_of(about_file, "a tokenizer's settings")
    about |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    extra = about.pop("extra_special_tokens", None)
    if extra:
        about["additional_special_tokens"] = extra
    for key in _ONLY_HERE:
        about.pop(key, None)
    about_file.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    whole = object_of(whole_file, "a tokenizer")
    merges = whole["model"].get("merges")
    if merges and not any(" " in part for pair in merges for part in pair):
        whole["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
        whole_file.write_text(json.dumps(whole, indent=2, ensure_ascii=False), encoding="utf-8")


def token_id(token: str | int, family: Family, tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The id of `eos`, `eot`, a token's text, or an id; None where the student has no such token."""
    if isinstance(token, str):
        ends = {"eos": family.eos_id, "eot": family.eot_id}
        number = ends[token] if token in ends else tokenizer.get_vocab().get(token)
    else:
        number = token
    return None if number is None or number >= family.vocab_size else number

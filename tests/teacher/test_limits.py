"""What config.json says about context and vocabulary: the same as the family says for students."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from fakes.tiny_teacher import CONTEXT, VOCAB_SIZE, write_tiny_qwen3

from trims_core.errors import ConfigError
from trims_core.students import read_family
from trims_core.teacher.limits import Limits, context_limit, read_limits


@pytest.mark.parametrize("write", [write_student, write_dream])
def test_a_students_limits_are_those_of_its_family(write: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = write(tmp_path)
    family, limits = read_family(folder), read_limits(str(folder), None)
    assert (limits.context, limits.vocab_size) == (family.context_length, family.vocab_size)
    assert context_limit(limits, None) == family.context_length
    with pytest.raises(ConfigError, match=f"context of {family.context_length} tokens"):
        context_limit(limits, family.context_length + 1)


def test_a_llada_vocabulary_is_as_large_as_its_embedding(tmp_path: Path) -> None:
    about = json.loads((write_student(tmp_path) / "config.json").read_text())
    for wider in (about["vocab_size"] + 10, None):
        (tmp_path / "config.json").write_text(json.dumps({**about, "embedding_size": wider}))
        assert read_limits(str(tmp_path), None).vocab_size == read_family(tmp_path).vocab_size


def test_elsewhere_embedding_size_is_a_width_and_counts_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "electra", "embedding_size": 128}))
    assert read_limits(str(tmp_path), None) == Limits()


def test_an_autoregressive_teachers_limits_are_read(tmp_path: Path) -> None:
    limits = read_limits(str(write_tiny_qwen3(tmp_path)), None)
    # keys and values, 2 layers, one head of 32
    assert limits == Limits(CONTEXT, VOCAB_SIZE, 2 * 2 * 32)

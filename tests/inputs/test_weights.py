"""Which tensors a checkpoint folder holds: one truth, or an error that names the file. Both families."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from fakes.tiny_teacher import scored_by, write_tiny_qwen3
from safetensors.torch import load_file, save_file

from trims_core.errors import ConfigError
from trims_core.students import load_student, read_family, save_official

INDEX = "model.safetensors.index.json"


@pytest.fixture(params=[write_student, write_dream], ids=["llada", "dream"])
def single(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint in one file."""
    folder: Path = request.param(tmp_path / "single")
    return folder


@pytest.fixture
def sharded(single: Path, tmp_path: Path) -> Path:
    """The same in several files with an index."""
    student = load_student(str(single))
    save_official(student.model, student.family.config, None, tmp_path / "sharded", max_shard_bytes=20_000)
    return tmp_path / "sharded"


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_student(str(folder)).forward(torch.arange(12)[None])


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def rewrite(path: Path, more: dict[str, torch.Tensor], without: str = "-") -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items() if name != without}
    save_file({**tensors, **more}, path)


def test_each_tensor_is_read_from_the_shard_that_the_index_names(
    single: Path, sharded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = logits(single)
    places = json.loads((sharded / INDEX).read_text())["weight_map"]
    for path in shards(sharded):
        elsewhere = [name for name in places if places[name] != path.name]
        old = load_file(single / "model.safetensors")
        rewrite(path, {name: torch.zeros_like(old[name]) for name in elsewhere})
    assert torch.equal(logits(sharded), before)
    rewrite(shards(sharded)[0], {"optimizer.step": torch.zeros(1)})
    with caplog.at_level(logging.WARNING):
        assert torch.equal(logits(sharded), before)
    assert "1 tensors that the index does not name are left out, e.g. optimizer.step" in caplog.text


def test_a_tensor_that_is_not_in_its_shard_is_named(sharded: Path) -> None:
    first = shards(sharded)[0]
    lost = next(iter(load_file(first)))
    rewrite(first, {"other": torch.zeros(1)}, without=lost)
    with pytest.raises(ConfigError, match=rf"{first.name}: 1 tensors are not in it.*{lost}.*will not help"):
        load_student(str(sharded))


def test_two_sets_of_weights_in_a_folder_are_refused(single: Path, sharded: Path) -> None:
    (sharded / "model.safetensors").write_bytes((single / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"both model\.safetensors and model\.safetensors\.index\.json"):
        load_student(str(sharded))


def test_saving_again_leaves_only_the_new_weights(single: Path, sharded: Path) -> None:
    student = load_student(str(single))
    with torch.no_grad():
        student.model.get_input_embeddings().weight.mul_(2)
    now = student.forward(torch.arange(12)[None])
    for max_shard_bytes in (10**9, 30_000, 15_000, 10**9):
        save_official(student.model, student.family.config, None, sharded, max_shard_bytes=max_shard_bytes)
        assert torch.equal(logits(sharded), now)
    assert [path.name for path in sharded.glob("*.safetensors*")] == ["model.safetensors"]


def test_weights_may_be_saved_over_those_that_they_were_loaded_from(single: Path) -> None:
    before = logits(single)
    student = load_student(str(single), dtype="auto")
    save_official(student.model, student.family.config, None, single)
    assert torch.equal(logits(single), before)


def tied(folder: Path) -> tuple[Path, str, str]:
    """The folder with head and embedding one; names of the two in the file."""
    path = folder / "config.json"
    family = read_family(folder)
    key = "weight_tying" if family.name == "llada" else "tie_word_embeddings"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: True}))
    names = (family.official_name(name) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    return folder / "model.safetensors", *names


def test_a_tied_head_may_be_stored_once_or_twice_but_not_differ(single: Path) -> None:
    path, embedding, head = tied(single)
    with pytest.raises(ConfigError, match=r"model\.safetensors: the stored head differs from the embedding"):
        load_student(str(single))
    table = load_file(path)[embedding].clone()
    rewrite(path, {head: table.clone()})
    twice = logits(single)
    rewrite(path, {}, without=head)
    assert torch.equal(logits(single), twice)
    rewrite(path, {head: table}, without=embedding)
    assert torch.equal(logits(single), twice)


def test_buffers_of_old_programs_are_ignored(single: Path) -> None:
    before = logits(single)
    names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", "inv_freq")
    rewrite(single / "model.safetensors", {name: torch.ones(8) for name in names})
    assert torch.equal(logits(single), before)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 16060556688\n"


@pytest.mark.parametrize("damage", ["cut", "empty", "pointer", "text", "head"])
def test_damaged_weights_name_the_file_and_say_that_running_again_does_not_help(
    single: Path, sharded: Path, damage: str
) -> None:
    for path in (single / "model.safetensors", shards(sharded)[1]):
        whole = path.read_bytes()
        path.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "empty": b"",
                "pointer": POINTER.encode(),
                "text": b"<html>404</html>",
                "head": whole[:40],
            }[damage]
        )
        with pytest.raises(ConfigError, match="unning again will not help") as caught:
            load_student(str(path.parent))
        assert str(path) in str(caught.value)
        assert damage != "pointer" or "git lfs pull" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b"}}',
        '{"weight_map": {"a": ""}}',
    ],
)
def test_a_damaged_index_is_named(sharded: Path, content: str) -> None:
    (sharded / INDEX).write_text(content)
    with pytest.raises(ConfigError, match=r"index\.json"):
        load_student(str(sharded))


def test_a_shape_or_type_unlike_config_json_is_named(single: Path) -> None:
    path = single / "model.safetensors"
    name, tensor = next(iter(load_file(path).items()))
    for other in (torch.zeros(3, 5), torch.zeros(tensor.shape, dtype=torch.int8)):
        rewrite(path, {name: other})
        with pytest.raises(ConfigError, match=rf"model\.safetensors: {name} is of shape .*another config"):
            load_student(str(single))


def test_a_name_of_another_program_is_an_error_that_names_the_file(single: Path) -> None:
    rewrite(single / "model.safetensors", {"transformer.h.0.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"transformer\.h\.0\.weight"):
        load_student(str(single))


def test_a_damaged_teacher_is_named_too(tmp_path: Path) -> None:
    folder = write_tiny_qwen3(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"model\.safetensors: cannot be read.*will not help"):
        scored_by("transformers", 8, folder, [])


def test_auto_is_the_type_of_most_weights(single: Path) -> None:
    path = single / "model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in load_file(path).items() if tensor.ndim > 1}
    rewrite(path, weights)
    assert load_student(str(single), dtype="auto").model.dtype == torch.bfloat16

"""Block-causal students: what is seen, several blocks in flight, a cache that changes nothing, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.decoding_rules import RULES
from fakes.decoding_students import TinyTransformer, noisy, scripted
from fakes.dream_checkpoint import write_dream
from peft import LoraConfig, get_peft_model

from trims_core.decoding import (
    CACHES,
    Ass,
    Decoded,
    DecodeSettings,
    DreamThreshold,
    MultiBlock,
    Pipelined,
    Progress,
    Proposals,
    Sampling,
    Threshold,
    TopK,
    decode,
)
from trims_core.errors import ConfigError
from trims_core.students import Student, load_student, save_adapter_official

BLOCK = 4
GEN = 16
PROMPTS = [[(7 * i + j) % 29 + 1 for j in range(1 + 5 * i % 13)] for i in range(7)]
STORED = {
    "one token per forward": TopK(GEN),
    "topk": TopK(8),
    "threshold": Threshold(0.4),
    "entropy": RULES["entropy"],
    "factor": RULES["factor"],
    "eoser": RULES["eoser"],
    "multi_block": MultiBlock(1.5, 0.25),
    "pipelined": Pipelined(0.4, 0.25, 0.5),
    "pipelined, all open": Pipelined(0.9, 0.01, 0.0),
}
"""Rules with blocks of one length: the exact cache is defined for all of them."""


class Recorded(Student):
    """Remembers what each forward was fed and what it was allowed to see."""

    fed: list[tuple[int, int]]
    masks: list[Any]

    def hidden(
        self, ids_BQ: Any, position_ids_BQ: Any = None, attention_mask: Any = None, cache: Any = None
    ) -> Any:
        self.fed.append(tuple(ids_BQ.shape))
        self.masks.append(attention_mask)
        return super().hidden(ids_BQ, position_ids_BQ, attention_mask, cache)


@pytest.fixture(scope="module", params=["llada", "dream"])
def student(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A tiny student with a random adapter that was trained in blocks of BLOCK."""
    folder = tmp_path_factory.mktemp(request.param)
    write = write_student if request.param == "llada" else write_dream
    checkpoint = str(write(folder / "student"))
    plain = load_student(checkpoint)
    targets = plain.family.lora_targets("all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tuned = get_peft_model(plain.model, LoraConfig(r=2, lora_alpha=8, target_modules=targets))
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.4)
    save_adapter_official(tuned, folder / "adapter", block_causal_length=BLOCK)
    loaded = load_student(checkpoint, adapter=folder / "adapter")
    found = Recorded(loaded.model, loaded.family)
    found.fed, found.masks = [], []
    return found


@pytest.fixture(autouse=True)
def _forget(request: Any) -> Iterator[None]:
    if "student" in request.fixturenames:
        found = request.getfixturevalue("student")
        found.fed.clear()
        found.masks.clear()
    yield


def same(one: list[Decoded], other: list[Decoded]) -> None:
    """Equal tokens and steps, and confidences up to rounding."""
    for left, right in zip(one, other, strict=True):
        assert (left.token_ids, left.reveal_step) == (right.token_ids, right.reveal_step)
        assert left.n_forwards == right.n_forwards
        for name in ("confidence", "entropy"):
            assert getattr(left, name) == pytest.approx(getattr(right, name), abs=2e-5, rel=2e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("rule", STORED)
def test_the_exact_cache_changes_nothing(student: Recorded, rule: str, batch_size: int) -> None:
    settings = DecodeSettings(STORED[rule], GEN, BLOCK, False, batch_size)
    plain = decode(student, PROMPTS, settings)
    n_plain = sum(rows * columns for rows, columns in student.fed)
    student.fed.clear()
    cached = decode(student, PROMPTS, replace(settings, cache=CACHES["exact"]))
    same(plain, cached)
    assert sum(rows * columns for rows, columns in student.fed) < 0.75 * n_plain


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_the_other_caches_lose_nothing_either_as_long_as_one_block_is_open(
    student: Recorded, cache: str
) -> None:
    settings = DecodeSettings(Threshold(0.4), GEN, BLOCK, False, 3)
    same(decode(student, PROMPTS, settings), decode(student, PROMPTS, replace(settings, cache=CACHES[cache])))


@pytest.mark.parametrize("options", [{"temperature": 1.0, "seed": 3}, {"top_k": 3}, {"suppress_ids": {5}}])
def test_the_exact_cache_changes_nothing_of_what_is_sampled(
    student: Recorded, options: dict[str, Any]
) -> None:
    sampling = Sampling(**options)
    settings = DecodeSettings(Pipelined(0.5, 0.25), GEN, BLOCK, True, 3, sampling=sampling)
    same(
        decode(student, PROMPTS, settings), decode(student, PROMPTS, replace(settings, cache=CACHES["exact"]))
    )


def test_a_stored_column_never_changes(student: Recorded) -> None:
    """Keys and values of a block that was fed finished are those of a forward of everything at the end."""
    stores: list[Any] = []

    class Keeping(Recorded):
        def hidden(self, ids: Any, positions: Any = None, mask: Any = None, cache: Any = None) -> Any:
            stores.append(cache)
            return super().hidden(ids, positions, mask, cache)

    keeping = Keeping(student.model, student.family)
    keeping.fed, keeping.masks = [], []
    kept: list[torch.Tensor] = []

    def watch(_canvases: Any) -> None:
        keys, _ = stores[-1]._buffers[1]
        kept.append(keys[0].clone())

    prompt = PROMPTS[3]
    settings = DecodeSettings(Pipelined(0.5, 0.5), GEN, BLOCK, False, 1, CACHES["exact"])
    (found,) = decode(keeping, [prompt], settings, watch=watch)
    done = [max(found.reveal_step[block : block + BLOCK]) for block in range(0, GEN, BLOCK)]
    for block in range(GEN // BLOCK - 1):
        # the forward behind the one that finished it and all before it feeds it for the last time
        final = max(done[: block + 1]) + 1
        columns = slice(len(prompt) + block * BLOCK, len(prompt) + (block + 1) * BLOCK)
        for later in kept[final + 1 :]:
            torch.testing.assert_close(later[columns], kept[final][columns], atol=1e-5, rtol=1e-4)
        if max(done[: block + 1]) < len(kept) - 1 and final < len(kept):
            assert not torch.equal(kept[0][columns], kept[final][columns])


def test_what_the_exact_cache_feeds(student: Recorded) -> None:
    back, prompt = student.family.lookback, PROMPTS[3]
    decode(student, [prompt], DecodeSettings(TopK(8), GEN, BLOCK, False, 1, CACHES["exact"]))
    width = len(prompt)
    # prompt and block; the block again; that block once more, finished, with the next; …
    expected = [width + BLOCK, BLOCK + back, 2 * BLOCK + back, BLOCK + back]
    assert [columns for _, columns in student.fed[:4]] == expected
    assert len(student.fed) == 8


@pytest.mark.parametrize("cache", ["none", "exact"])
def test_no_forward_sees_beyond_a_columns_block(student: Recorded, cache: str) -> None:
    decode(student, [PROMPTS[3]], DecodeSettings(Pipelined(0.5, 0.25), GEN, BLOCK, False, 1, CACHES[cache]))
    assert student.masks and all(mask is not None and mask.dim() == 3 for mask in student.masks)
    width = len(PROMPTS[3])
    whole = student.masks[0][0]
    for query in range(whole.shape[0]):
        block = (query - width) // BLOCK if query >= width else -1
        assert whole[query].sum() == min(width + (block + 1) * BLOCK, width + GEN)


def test_later_blocks_change_nothing_before_them(student: Recorded) -> None:
    """What decodes a shorter canvas is what decodes the beginning of a longer one, guidance and all."""
    for sampling in (Sampling(), Sampling(guidance=0.5)):
        settings = DecodeSettings(Threshold(0.4), GEN, BLOCK, False, 2, sampling=sampling)
        long = decode(student, PROMPTS, settings)
        short = decode(student, PROMPTS, replace(settings, gen_length=2 * BLOCK))
        for one, other in zip(long, short, strict=True):
            assert one.token_ids[: 2 * BLOCK] == other.token_ids


def test_a_batch_gives_every_sequence_what_it_gets_alone(student: Recorded) -> None:
    settings = DecodeSettings(Pipelined(0.4, 0.25), GEN, BLOCK, True, 1, CACHES["exact"])
    alone = [decode(student, [prompt], settings)[0] for prompt in PROMPTS]
    same(alone, decode(student, PROMPTS, replace(settings, batch_size=4)))


def test_a_canvas_shorter_than_a_block_is_a_part_of_one(student: Recorded) -> None:
    settings = DecodeSettings(TopK(2), 2, 2, False, 2)
    same(
        decode(student, PROMPTS, settings), decode(student, PROMPTS, replace(settings, cache=CACHES["exact"]))
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            DecodeSettings(Threshold(0.5), GEN, 8),
            "blocks of 8: this student was trained to attend in blocks of 4",
        ),
        (DecodeSettings(Threshold(0.5), GEN, GEN), "set block_length to 4"),
        (DecodeSettings(Ass(2), GEN, 4), "with a rule whose blocks are of one length"),
        (DecodeSettings(DreamThreshold(0.5, 4), GEN, GEN), "blocks of 16"),
        (DecodeSettings(DreamThreshold(0.5, 4), GEN, 4, cache=CACHES["exact"]), "that loop has no blocks"),
        (
            DecodeSettings(Threshold(0.5), GEN, 4, cache=CACHES["exact"], sampling=Sampling(guidance=1.0)),
            "guidance 1 with cache exact: not defined",
        ),
        (
            DecodeSettings(Pipelined(0.5), GEN, 4, cache=CACHES["dual"]),
            "pipelined with cache dual: not defined",
        ),
        (DecodeSettings(Pipelined(0.5, 0.0), GEN, 4), "pipelined add 0.0: expected a share"),
        (DecodeSettings(Pipelined(0.5, 0.5, 1.5), GEN, 4), "pipelined activate 1.5: expected a share"),
        (DecodeSettings(Pipelined(0.0), GEN, 4), "threshold 0.0: expected a probability"),
    ],
)
def test_what_is_not_defined_is_refused(student: Recorded, settings: DecodeSettings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        decode(student, PROMPTS, settings)
    assert not student.fed


def test_the_exact_cache_is_refused_for_a_student_that_attends_in_both_directions(tmp_path: Path) -> None:
    for plain in (TinyTransformer(), load_student(str(write_student(tmp_path)))):
        with pytest.raises(ConfigError, match="cache exact with this student: it attends in both directions"):
            decode(plain, PROMPTS, DecodeSettings(Threshold(0.5), GEN, BLOCK, cache=CACHES["exact"]))


def proposals(
    masked: list[int], confidence: list[float], rule: Pipelined, gen: int = 12
) -> tuple[Proposals, torch.Tensor]:
    """Proposals at the positions that a rule opens, and which these are."""
    masked_BG = torch.zeros(1, gen, dtype=torch.bool)
    masked_BG[0, masked] = True
    first = min(masked) // 4
    zero_B = torch.zeros(1, dtype=torch.int64)
    progress = Progress(
        masked_BG=masked_BG,
        block_range_B2=torch.tensor([[4 * first, 4 * first + 4]]),
        block_step_B=zero_B,
        step_B=zero_B,
        last_block_B=zero_B,
        block_lengths=(4,) * (gen // 4),
        cached=False,
    )
    candidate_BG = rule.candidates(progress)
    confidence_BG = torch.tensor([confidence], dtype=torch.float64).masked_fill(~candidate_BG, -torch.inf)
    nothing = torch.zeros(1, gen)
    found = Proposals(progress, candidate_BG, nothing.long(), confidence_BG, nothing, nothing.bool())
    return found, candidate_BG


def chosen(masked: list[int], confidence: list[float], rule: Pipelined) -> list[int]:
    found, _ = proposals(masked, confidence, rule)
    return rule.choose(found)[0].nonzero()[:, 0].tolist()


def opened(masked: list[int], rule: Pipelined) -> list[int]:
    return proposals(masked, [0.5] * 12, rule)[1][0].nonzero()[:, 0].tolist()


def test_the_next_block_opens_at_a_share_of_the_newest() -> None:
    rule = Pipelined(0.9, add=0.5)
    assert opened(list(range(12)), rule) == [0, 1, 2, 3]
    assert opened(list(range(1, 12)), rule) == [1, 2, 3]
    assert opened(list(range(2, 12)), rule) == list(range(2, 8))
    assert opened([1, *range(4, 12)], rule) == [1, 4, 5, 6, 7]
    assert opened([1, 5, *range(8, 12)], rule) == [1, 5, 8, 9, 10, 11]
    # the newest is judged, not those before it
    assert opened([0, 1, 2, 5, *range(8, 12)], rule) == [0, 1, 2]


def test_a_block_reveals_something_once_its_predecessor_is_almost_done() -> None:
    level = [0.3, 0.4, 0.2, 0.1, 0.2, 0.5, 0.3, 0.1, 0.2, 0.3, 0.4, 0.1]
    lazy = Pipelined(0.9, add=0.25, activate=0.75)
    # the first block has no predecessor; the second's is half done
    assert chosen([1, 2, *range(4, 12)], level, lazy) == [1]
    assert chosen([2, *range(4, 12)], level, lazy) == [2, 5]
    # every active one, also where another has something sure
    sure = list(level)
    sure[2] = 0.95
    assert chosen([2, *range(4, 12)], sure, lazy) == [2, 5]
    sure[6] = 0.95
    assert chosen([2, *range(4, 12)], sure, lazy) == [2, 6]
    # what is sure is revealed in blocks that are not active too
    assert chosen([1, 2, *range(4, 12)], sure, lazy) == [2, 6]


def test_only_what_exceeds_the_threshold_is_sure() -> None:
    level = [0.5, 0.6, 0.6, 0.7] + [0.1] * 8
    assert chosen(list(range(12)), level, Pipelined(0.6)) == [3]
    assert chosen(list(range(12)), level, Pipelined(0.59)) == [1, 2, 3]


def test_a_pipeline_of_one_open_block_is_the_threshold_rule() -> None:
    student = noisy(4)
    for tau in (0.3, 0.5, 0.8):
        found = [
            decode(noisy(4), PROMPTS, DecodeSettings(rule, GEN, BLOCK, False))
            for rule in (Threshold(tau), Pipelined(tau, add=1.0, activate=1.0))
        ]
        same(*found)
    del student


def test_several_blocks_are_in_flight_and_all_is_revealed() -> None:
    tokens = [(3 * i) % 29 + 1 for i in range(GEN)]
    confident = [20.0 if i % 2 else 1.0 for i in range(GEN)]
    (found,) = decode(
        scripted(tokens, confident), [[1, 2]], DecodeSettings(Pipelined(0.9, 0.5), GEN, BLOCK, False)
    )
    assert found.token_ids == tokens
    first, second = found.reveal_step[:BLOCK], found.reveal_step[BLOCK : 2 * BLOCK]
    assert min(second) < max(first) and min(second) == 1
    assert found.n_forwards < 2 * GEN // BLOCK + BLOCK

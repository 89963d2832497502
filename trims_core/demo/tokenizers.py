"""The demo's two tokenizers: byte-level BPE, in Qwen3's manner for the teacher, in LLaDA's for the student.

Both hold all 256 bytes, so any text can be encoded, and split digits one by one. They are trained on
different samples with different pre-tokenisation (the teacher keeps a space before a digit apart, the
student joins the two), so each splits what the other keeps whole; on words outside this world their
boundaries also cross.
"""

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trims_core.demo.problems import draw_problem
from trims_core.demo.wordings import Style, worked_answer
from trims_core.students.llada import CHAT_TEMPLATE

TEACHER_VOCAB_SIZE = 480
STUDENT_VOCAB_SIZE = 496
SAMPLE_PROBLEMS = 3000

TEACHER_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
STUDENT_SPECIALS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)

TEACHER_SPLIT = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
STUDENT_SPLIT = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s+"

TEACHER_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _sample(seed: int, owner: str, styles: tuple[Style, ...], roles: str) -> Iterator[str]:
    """Texts a tokenizer is trained on: questions, worked answers and the role names of its template."""
    rng = random.Random(f"{seed}/tokenizer/{owner}")
    for _ in range(SAMPLE_PROBLEMS):
        problem = draw_problem(rng, "pre-training")
        yield problem.question
        yield worked_answer(rng, problem, rng.choice(styles))
        yield roles


def _train_bpe(texts: Iterator[str], split: str, specials: tuple[str, ...], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _fast(tokenizer: Tokenizer, template: str, **specials: Any) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        **specials,
    )
    fast.chat_template = template
    return fast


@cache
def teacher_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The teacher's tokenizer: Qwen3's special tokens and ChatML; `<|im_end|>` ends a turn."""
    texts = _sample(seed, "teacher", ("base", "wide"), "user assistant\n")
    bpe = _train_bpe(texts, TEACHER_SPLIT, TEACHER_SPECIALS, TEACHER_VOCAB_SIZE)
    return _fast(
        bpe,
        TEACHER_TEMPLATE,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )


@cache
def student_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The student's tokenizer: LLaDA's special tokens and template, which honours add_generation_prompt."""
    texts = _sample(seed, "student", ("base",), "user assistant\n\n")
    bpe = _train_bpe(texts, STUDENT_SPLIT, STUDENT_SPECIALS, STUDENT_VOCAB_SIZE)
    return _fast(
        bpe,
        CHAT_TEMPLATE,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        mask_token="<|mdm_mask|>",
        extra_special_tokens=["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    )

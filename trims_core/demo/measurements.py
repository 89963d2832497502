"""What the finished demo models can do, as tables for their model cards.

Shape legend: L positions, V vocabulary.
"""

import re
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from trims_core.curves import wilson_interval
from trims_core.decoding import DecodeSettings, RevealRule, Threshold, decode, one_per_forward
from trims_core.demo.corpus_files import test_rows, train_rows
from trims_core.demo.pretraining import Progress
from trims_core.rendering import Renderer, load_tokenizer
from trims_core.students import load_student

CANVAS = 64
BLOCK = 32
THRESHOLDS = (0.9, 0.7, 0.5, 0.4, 0.3)
N_BUCKETS = 8
HARD_NATS = 0.05
_ANSWER = re.compile(r"The answer is (\d+)\.")


def measure_student(folder: Path, seed: int, n_problems: int, progress: Progress) -> str:
    """Accuracy and tokens per forward on held-out problems at one token per forward and by confidence."""
    student = load_student(str(folder))
    renderer = Renderer(student.tokenizer)
    rows = list(test_rows(seed, n_problems))
    prompts = [renderer.prompt_ids([{"role": "user", "content": str(row["question"])}]) for row in rows]
    rules: list[tuple[str, RevealRule]] = [("one token per forward", one_per_forward(CANVAS))]
    rules += [(f"confidence ≥ {value}", Threshold(value)) for value in THRESHOLDS]
    lines = [
        f"{n_problems} held-out problems, canvas {CANVAS} in blocks of {BLOCK}, float32:\n",
        "| revealed per forward | right | 95 % interval | tokens per forward |",
        "| --- | --- | --- | --- |",
    ]
    for label, rule in rules:
        settings = DecodeSettings(rule=rule, gen_length=CANVAS, block_length=BLOCK, batch_size=32)

        def step(done: int, total: int, label: str = label) -> None:
            progress(f"measuring the student, {label}", done, total)

        decoded = decode(student, prompts, settings, step)
        right = 0
        for row, one in zip(rows, decoded, strict=True):
            text = student.tokenizer.decode(one.token_ids[: one.n_tokens], skip_special_tokens=True)
            found = _ANSWER.findall(text)
            right += bool(found) and found[-1] == row["answer"]
        low, high = wilson_interval(right, len(rows))
        parallel = sum(one.n_tokens for one in decoded) / sum(one.n_forwards for one in decoded)
        interval = f"{low:.1%} to {high:.1%}"
        lines.append(f"| {label} | {right / len(rows):.1%} | {interval} | {parallel:.2f} |")
    return "\n".join(lines)


def measure_teacher(folder: Path, seed: int, n_examples: int, progress: Progress) -> str:
    """How hard the teacher finds the fine-tuning set's answer tokens: mean, share above a bar, edges."""
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    renderer = Renderer(load_tokenizer(str(folder)))
    nll_nats: list[float] = []
    rows = list(train_rows(seed, n_examples))
    for number, row in enumerate(rows):
        question, answer = row["messages"]
        prompt = renderer.prompt_ids([question])
        completion = [*renderer.completion(answer["content"]).ids, *renderer.end_ids]
        with torch.inference_mode():
            logits_LV = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        nll_L = torch.nn.functional.cross_entropy(logits_LV, torch.tensor(completion), reduction="none")
        nll_nats += nll_L.clamp(min=0).tolist()
        if number % 20 == 0:
            progress("measuring the teacher", number, len(rows))
    values = np.asarray(nll_nats)
    edges = np.quantile(values, np.arange(1, N_BUCKETS) / N_BUCKETS)
    return (
        f"{len(values):,} answer tokens (end of turn included) of {n_examples} fine-tuning examples, float32:"
        f" mean {values.mean():.3f} nats; {np.mean(values > HARD_NATS):.1%} above {HARD_NATS} nats; edges of"
        f" {N_BUCKETS} equal buckets: {', '.join(f'{edge:.1e}' for edge in edges)} nats."
    )

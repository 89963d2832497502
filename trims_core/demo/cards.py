"""Model cards of the demo's models: what they are, how they were trained, what was measured."""

from collections.abc import Mapping, Sequence

from trims_core.demo.pretraining import Recipe

_ABOUT = {
    "teacher": (
        "Demo teacher: a small Qwen3 trained on generated word problems",
        "An autoregressive Qwen3 (query and key norms, head size 32) with its own byte-level BPE and a ChatML"
        " template. It scores how hard each token of a worked answer is.",
        "next-token loss on the answers, end of turn included",
    ),
    "student": (
        "Demo student: a small masked diffusion model in LLaDA's layout",
        "A masked diffusion language model with LLaDA's weight names, config keys and template and its own"
        " byte-level BPE and ids. Inside it is a Llama without the causal mask.",
        "LLaDA's fine-tuning objective: answer tokens (padding with EOS included) masked with probability t"
        " and weighted by 1/t, prompts never masked",
    ),
}
_LOG_ROWS = 20


def model_card(
    recipe: Recipe,
    seed: int,
    seconds: float,
    log: Sequence[Mapping[str, float]],
    n_parameters: int,
    measured: str = "",
) -> str:
    """The card as markdown, with a front matter that hubs understand."""
    title, about, objective = _ABOUT[recipe.role]
    every = max(1, len(log) // _LOG_ROWS)
    shown = [*log[every - 1 :: every]]
    if log and shown[-1] is not log[-1]:
        shown.append(log[-1])
    curve = "\n".join(
        f"| {row['step']:.0f} | {row['loss']:.4f} | {row['learning_rate']:.2e} |" for row in shown
    )
    measured_part = f"\n## Measured\n\n{measured.strip()}\n" if measured else ""
    steps = int(log[-1]["step"]) if log else 0
    return f"""---
license: apache-2.0
language: en
---

# {title}

{about}

Made for the demo of TRIMS-Pipeline; of no use outside its world of small sums. {n_parameters:,} parameters,
stored in bfloat16. Context 4,096 positions; trained on at most {recipe.width}.

## Training

- Command: `python -m trims_core.demo models --only {recipe.role} --seed {seed}` (resumable).
- Data: problems of the group "pre-training" drawn anew at every step, answers in the style(s)
  {", ".join(recipe.styles)}; held-out and fine-tuning problems never appear.
- Objective: {objective}.{_curriculum(recipe)}
- {steps:,} of {recipe.all_steps:,} steps of {recipe.rows} rows of {recipe.width} tokens, seed {seed}; Muon
  for the blocks' matrices (rate × {recipe.matrix_rate_factor}), AdamW for the rest; learning rate
  {recipe.learning_rate:g}, {recipe.warmup_steps} steps of warm-up, constant, then linear to zero over the
  last {recipe.decay_fraction:.0%}{_polish(recipe)};
  weight decay {recipe.weight_decay}, gradient clip 1; bfloat16 autocast.
- {seconds:,.0f} s on two shared x86-64 CPU cores (AVX-512, no GPU). The loss at each logged step is in
  training_log.jsonl; an excerpt:

| step | loss | learning rate |
| --- | --- | --- |
{curve}
{measured_part}"""


def _curriculum(recipe: Recipe) -> str:
    if recipe.sums_in_order_from is None:
        return ""
    return (
        f" From step {recipe.sums_in_order_from:,} three of four rows hide every digit from the result of a"
        "\n  random sum on, and few words: with independent masks alone the model hardly learned to add."
    )


def _polish(recipe: Recipe) -> str:
    if not recipe.polish_steps:
        return ""
    rate = f"{recipe.polish_rate:g}"
    return f" of {recipe.steps:,} steps, then\n  {recipe.polish_steps:,} steps from {rate} to zero"

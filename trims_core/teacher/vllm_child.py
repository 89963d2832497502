"""The process that holds the vLLM engine (argument: descriptor of the channel to its parent).

It talks to its parent in pickled tuples over a socket; everything vLLM prints goes to the log file that is
its stdout. From the parent: ("start", model and engine arguments), ("score", rows), ("stop",). To the parent:
("ready", facts), ("failed", text), ("scored", id, nll), ("refused", id, text), ("done",).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

Row = tuple[str, list[int], int]
"""Id, prompt and target ids in one list, length of the prompt."""
Answer = tuple[Any, ...]


def main(arguments: Sequence[str]) -> None:
    """Serves one parent until it says stop or goes away; never returns (vLLM's exit handlers can abort)."""
    with Connection(int(arguments[0])) as parent:
        try:
            _serve(parent)
        except EOFError:
            pass
        except Exception as error:
            parent.send(("failed", f"{type(error).__name__}: {error}"))
            raise
    sys.stdout.flush()
    os._exit(0)


def _serve(parent: Connection) -> None:
    _, engine_arguments, chunk_rows = parent.recv()
    from vllm import LLM, SamplingParams
    from vllm import __version__ as version
    from vllm.exceptions import VLLMClientError

    refusals = (ValueError, VLLMClientError)
    engine = LLM(**engine_arguments)
    wanted = SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, flat_logprobs=True
    )
    generate = partial(engine.generate, sampling_params=wanted, use_tqdm=False)
    parent.send(("ready", {"version": version}))
    while True:
        message = parent.recv()
        if message[0] == "stop":
            return
        rows: list[Row] = message[1]
        for start in range(0, len(rows), chunk_rows):
            for answer in score_rows(generate, refusals, rows[start : start + chunk_rows]):
                parent.send(answer)
        parent.send(("done",))


def score_rows(
    generate: Callable[[list[dict[str, list[int]]]], Sequence[Any]],
    refusals: tuple[type[Exception], ...],
    rows: Sequence[Row],
) -> Iterator[Answer]:
    """Answers to some rows. vLLM refuses a whole call for one bad row: then the call is halved down to it.

    Args:
        refusals: what the engine raises about a row; anything else is the end of the engine.
    """
    try:
        outputs = generate([{"prompt_token_ids": ids} for _, ids, _ in rows])
    except refusals as error:
        if len(rows) == 1:
            yield ("refused", rows[0][0], str(error))
            return
        half = len(rows) // 2
        yield from score_rows(generate, refusals, rows[:half])
        yield from score_rows(generate, refusals, rows[half:])
        return
    for (row_id, ids, n_prompt), output in zip(rows, outputs, strict=True):
        yield ("scored", row_id, target_nll(output.prompt_logprobs, ids, n_prompt))


def target_nll(logprobs: Any, ids: Sequence[int], n_prompt: int) -> list[float]:
    """−log p of ids[n_prompt:], from vLLM's prompt_logprobs: one entry per place, None for the first.

    Raises:
        LookupError: the engine's answer is not about these ids.
    """
    if len(logprobs) != len(ids):
        raise LookupError(f"{len(logprobs)} places came back for {len(ids)} tokens")
    starts = getattr(logprobs, "start_indices", None)
    if starts is None:
        return [-logprobs[place][ids[place]].logprob for place in range(n_prompt, len(ids))]
    nll = []
    for place in range(n_prompt, len(ids)):
        at = starts[place]
        if logprobs.token_ids[at] != ids[place]:
            raise LookupError(f"token {logprobs.token_ids[at]} came back for {ids[place]} at place {place}")
        nll.append(-logprobs.logprobs[at])
    return nll


if __name__ == "__main__":
    main(sys.argv[1:])

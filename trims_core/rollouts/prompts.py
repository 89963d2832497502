"""Which prompts are answered: the first ones up to a limit, or a round's part of an endless stream of all.

The stream goes through the shards in an order of its own, and through the rows of a shard in another, so that
a round reads few shards; then through all of them again, in other orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trims_core.keyed import hash_order
from trims_core.rollouts.settings import RolloutsSettings, RoundPrompts


def chosen_rows(shard_rows: Sequence[int], chosen: RolloutsSettings) -> list[list[int]]:
    """Of each shard the rows whose prompts are answered, in their order.

    Args:
        shard_rows: how many rows each shard has.
    """
    if chosen.prompts is not None:
        return _of_round(shard_rows, chosen.prompts)
    left, found = math.inf if chosen.limit is None else chosen.limit, []
    for n_rows in shard_rows:
        found.append(list(range(int(min(left, n_rows)))))
        left -= len(found[-1])
    return found


def _of_round(shard_rows: Sequence[int], wanted: RoundPrompts) -> list[list[int]]:
    """The rows at the round's places of the stream. Where an epoch ends inside the round, what the next one
    would bring again is passed over, so that no prompt is answered twice in a round."""
    n_rows = sum(shard_rows)
    count = min(wanted.count, n_rows)
    first = wanted.round * count
    found: set[tuple[int, int]] = set()
    epoch, place = divmod(first, n_rows) if n_rows else (0, 0)
    while len(found) < count:
        stream = _epoch(shard_rows, wanted.seed, epoch)
        found.update([one for one in stream[place:] if one not in found][: count - len(found)])
        epoch, place = epoch + 1, 0
    return [sorted(row for shard, row in found if shard == number) for number in range(len(shard_rows))]


def _epoch(shard_rows: Sequence[int], seed: int, epoch: int) -> list[tuple[int, int]]:
    """(shard, row) of every prompt once."""
    shards = hash_order(map(str, range(len(shard_rows))), f"shards\0{seed}\0{epoch}").tolist()
    return [
        (shard, row)
        for shard in shards
        for row in hash_order(map(str, range(shard_rows[shard])), f"rows\0{seed}\0{epoch}\0{shard}").tolist()
    ]

"""Named places where a test may kill, break or stall a process.

`TRIMS_FAULT="scores.before_shard:kill:2"` (site : kind : n-th hit) makes the second passage through that
site end the process with SIGKILL. Kinds: kill, raise, hang, enospc, term. Without the variable a fault
point costs one dictionary lookup. Covered: one fault per process. Not covered: faults in other processes'
code (vLLM, DeepSpeed).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter

_hits: Counter[str] = Counter()


class InjectedFaultError(RuntimeError):
    """Raised by a fault point of kind `raise`."""


def fault_point(site: str) -> None:
    """Do nothing, unless the environment variable TRIMS_FAULT names this site."""
    wanted = os.environ.get("TRIMS_FAULT")
    if not wanted:
        return
    name, kind, nth = (*wanted.split(":"), "1")[:3]
    if name != site:
        return
    _hits[site] += 1
    if _hits[site] == int(nth):
        _strike(site, kind)


def _strike(site: str, kind: str) -> None:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif kind == "hang":
        while True:
            time.sleep(0.05)
    elif kind == "enospc":
        raise OSError(errno.ENOSPC, f"no space left on device (injected at {site})")
    elif kind == "raise":
        raise InjectedFaultError(f"fault injected at {site}")
    else:
        raise ValueError(f"TRIMS_FAULT: unknown kind {kind!r}; known: kill, raise, hang, enospc, term")

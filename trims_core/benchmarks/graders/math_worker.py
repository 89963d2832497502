"""A process that compares mathematical answers with math_verify, one request after the other.

    python -P math_worker.py DESCRIPTOR MEMORY_MIB CPU_S IDLE_S

A request on the descriptor is JSON, [text, right answer]; the answer to it {"extracted", "right"} or
{"problem"}. Limits: the kernel ends the process after CPU_S seconds of CPU time with one request, also inside
C code, and refuses memory beyond MEMORY_MIB. Whoever asks ends one that waits instead of computing. It ends
by itself, with 0, where nobody asks for IDLE_S, and once a request has grown it. math_verify's own time
limits are off: they count seconds of a busy machine, and give "wrong" where they strike.

Imports nothing of the project: it runs beside it, in a fresh interpreter.
"""

import json
import logging
import resource
import signal
import sys
from itertools import product
from multiprocessing.connection import Connection

from math_verify import parse, verify

_OUT_OF_ROOM = (MemoryError, RecursionError)


def main(descriptor: int, memory_mib: int, cpu_s: float, idle_s: float) -> None:
    """Answer requests until nobody asks."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    line = Connection(descriptor)
    line.send_bytes(b"{}")
    while line.poll(idle_s):
        try:
            text, gold = json.loads(line.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # its signal ends the process
        try:
            found = _judged(text, gold)
        except _OUT_OF_ROOM as error:
            found = {"problem": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if peak_mib > memory_mib // 2:  # math_verify may have met a MemoryError and kept it to itself
            found = {"problem": f"MemoryError: needs more than {memory_mib // 2} MiB"}
        line.send_bytes(json.dumps(found).encode())
        if peak_mib > memory_mib // 4:
            return


def _judged(text: str, gold: str) -> dict[str, object]:
    golds = _parsed(f"\\boxed{{{gold}}}")
    if not golds:
        return {"problem": f"ValueError: finds no answer in the right answer {gold[:80]!r}"}
    answers = _parsed(text)
    named = [answer for answer in answers if isinstance(answer, str)]
    right = any(_equal(one, other) for one, other in product(golds, answers))
    return {"extracted": named[-1] if named else None, "right": right}


def _parsed(text: str) -> list[object]:
    """As `parse` gives it, which keeps all errors to itself, but for those of room."""
    try:
        return parse(text, parsing_timeout=None, raise_on_error=True)
    except _OUT_OF_ROOM:
        raise
    except Exception:  # noqa: BLE001
        return []


def _equal(gold: object, answer: object) -> bool:
    """As `verify` says it of one pair, but for errors of room."""
    try:
        return bool(verify(gold, answer, timeout_seconds=None, raise_on_error=True))
    except _OUT_OF_ROOM:
        raise
    except Exception:  # noqa: BLE001
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))

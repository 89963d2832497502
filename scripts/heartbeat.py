"""Run a command that may be silent for minutes, saying every few seconds that it lives.

usage: python scripts/heartbeat.py LABEL LOGFILE -- COMMAND [ARG ...]
The command's output goes to LOGFILE; its last lines are shown if it fails, and its status is ours.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

PERIOD_S = 8.0
TAIL_LINES = 30


def main() -> int:
    """The command's exit status."""
    label, log_name, _, *command = sys.argv[1:]
    log = Path(log_name)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while True:
            try:
                status = child.wait(PERIOD_S)
                break
            except subprocess.TimeoutExpired:
                _say(f"{label} … {time.monotonic() - start:.0f} s")
            except KeyboardInterrupt:
                child.terminate()
                child.wait()
                raise
    _say(f"{label}: {'done' if status == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s")
    if status:
        _say("\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]) + f"\n(whole log: {log})")
    return status


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Stand-ins of `ssh HOST COMMAND` and `pdsh … -w HOSTS COMMAND` that run commands on this host.

pdsh: one process a host, `%n` is its number, `%h` its name; the lines it would print begin with the host.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def ssh(words: Sequence[str]) -> int:
    """Options and the host are dropped; a host is asked for its address only."""
    if words[-2:] == ["hostname", "-I"]:
        sys.stdout.write("127.0.0.1\n")
    return 0


def pdsh(words: Sequence[str]) -> int:
    """The worst exit code of all hosts."""
    at = words.index("-w")
    hosts, command = words[at + 1].split(","), " ".join(words[at + 2 :])
    running = []
    for number, host in enumerate(hosts):
        text = command.replace("%n", str(number)).replace("%h", host)
        sys.stdout.write(f"{host}: {text}\n")
        running.append(subprocess.Popen(["sh", "-c", text]))
    sys.stdout.flush()
    return max(abs(process.wait()) for process in running)


if __name__ == "__main__":
    sys.exit({"ssh": ssh, "pdsh": pdsh}[sys.argv[1]](sys.argv[2:]))

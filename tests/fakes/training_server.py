"""Training processes that fork from one that has PyTorch imported already: real processes, really killed.

`python -m fakes.training_server` reads one JSON line per run, {"spec", "fault", "log"}, and answers with two:
{"pid"} once the process runs, {"code"} when it has ended. Single-threaded, so that forking is safe.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trims_core.training.spec import TrainSpec

TESTS = Path(__file__).resolve().parent.parent


class TrainingServer:
    """The asking side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fakes.training_server"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
                "OMP_NUM_THREADS": "1",
                "DS_ACCELERATOR": "cpu",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, spec: TrainSpec, fault: str = "") -> int:
        """Begin a run; gives back its process id."""
        log = spec.folder / "server.log"
        request = {"spec": str(spec.write()), "fault": fault, "log": str(log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer()["pid"])

    def wait(self) -> int:
        """Exit code of the run; negative: the signal that killed it."""
        return self._answer()["code"]

    def run(self, spec: TrainSpec, fault: str = "") -> int:
        """Exit code of a whole run."""
        self.start(spec, fault)
        return self.wait()

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


def serve() -> None:
    """Fork a process per request."""
    import trims_core.students.loading
    import trims_core.training.adapter
    import trims_core.training.trainer  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_training(request)
        _say({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _say({"code": os.waitstatus_to_exitcode(status)})


def _become_training(request: dict[str, str]) -> None:
    from trims_core.training.run import main

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ["TRIMS_FAULT"] = request["fault"]
    code = 1
    try:
        code = main(Path(request["spec"]))
    finally:
        if code == 1:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)


def _say(answer: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()

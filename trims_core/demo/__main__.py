"""`python -m trims_core.demo corpus|models`: makes the files of data/demo again."""

import argparse
import logging
from pathlib import Path

from trims_core.demo import DEFAULT_SEED, write_corpus


def main() -> None:
    """Parses the command line and runs one of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m trims_core.demo", description=__doc__)
    parser.add_argument("what", choices=("corpus", "models"))
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write into")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--only", choices=("all", "teacher", "student"), default="all")
    parser.add_argument("--work", type=Path, default=None, help="folder for the trainings' checkpoints")
    parser.add_argument("--workers", type=int, default=2, help="processes that share a training step")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.what == "corpus":
        written = write_corpus(arguments.out, arguments.seed)
    else:
        from trims_core.demo import train_models

        written = train_models(
            arguments.out, arguments.seed, _show, arguments.only, arguments.work, arguments.workers
        )
    for path in written.values():
        print(path)


def _show(note: str, done: int, total: int) -> None:
    print(f"{done}/{total} {note}", flush=True)


if __name__ == "__main__":
    main()

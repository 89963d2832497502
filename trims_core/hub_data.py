"""Data sets of the hub: which files a split consists of, and their rows.

Which files: what `datasets` would read for a configuration and split, by the `configs` of the data set's card
or else by the files' names. It is asked over a folder of empty files with the repository's names, so that
nothing but the card is fetched to ask. JSON lines and Parquet are then read as local files are: a local copy
has the same rows and the same digest. Other kinds (JSON, CSV, text, …) are read by `datasets`, streaming.

Not covered: archives, into which `datasets` would have to look.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from trims_core.errors import ConfigError
from trims_core.hub import commit_of, fetch, files_of, local_copy
from trims_core.text_files import text_of

CARDS: Final = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""What decides, beside names, which files are read and how."""
_PLAIN: Final = (".jsonl", ".jsonl.gz", ".parquet")
_PARSING: Final = ("configs", "dataset_info")


@dataclass(frozen=True)
class HubData:
    """A split of a hub data set at a commit."""

    name: str
    config: str | None
    split: str
    commit: str

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of its files, in the order in which they are read.

        Raises:
            ConfigError: there is no such configuration or split, or `datasets` cannot tell by the names.
        """
        with self._laid_out() as folder:
            splits = self._splits(folder)
            if self.split not in splits:
                raise ConfigError(
                    f"{self.name}: no split {self.split!r}; it has {', '.join(splits)}. Correct the split;"
                    " for a part of one set limit"
                )
            return tuple(Path(path).relative_to(folder).as_posix() for path in splits[self.split])

    @property
    def is_plain(self) -> bool:
        """Whether its files are read as local files are."""
        return all(file.endswith(_PLAIN) for file in self.files)

    def paths(self) -> list[Path]:
        """Its files in the local cache, fetched where they are missing. Raises: ConfigError."""
        folder = fetch("dataset", self.name, self.commit, self.files)
        return [folder / file for file in self.files]

    def parsing(self) -> dict[str, Any]:
        """What the card and the files beside it say about how files are read; no prose."""
        from huggingface_hub.repocard import metadata_load

        card, *others = (self._cards() / name for name in CARDS)
        about = (metadata_load(card) if card.is_file() else None) or {}
        found = {name: about[name] for name in _PARSING if name in about}
        expected = "what a data set says of its files"
        return found | {path.name: text_of(path, expected) for path in others if path.is_file()}

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Its rows as `datasets` reads them. Raises: ConfigError."""
        from datasets import load_dataset

        with self._laid_out() as folder:
            for file, path in zip(self.files, self.paths(), strict=True):
                (folder / file).unlink()
                (folder / file).symlink_to(path)
            try:
                yield from load_dataset(
                    str(folder),
                    self.config,
                    split=self.split,
                    streaming=True,
                    cache_dir=str(folder / ".cache"),
                )
            except Exception as error:
                raise self._refused(error, folder) from error

    def _splits(self, folder: Path) -> dict[str, list[str]]:
        """Split → its files."""
        from datasets import load_dataset_builder

        try:
            builder = load_dataset_builder(str(folder), self.config, cache_dir=str(folder / ".cache"))
        except Exception as error:
            raise self._refused(error, folder) from error
        return {str(split): list(files) for split, files in builder.config.data_files.items()}

    @contextmanager
    def _laid_out(self) -> Iterator[Path]:
        """The repository as a folder: its cards, everything else empty."""
        names = files_of("dataset", self.name, self.commit).files
        cards = self._cards()
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary).resolve()
            for name in names:
                path = folder / name
                if not path.resolve().is_relative_to(folder):
                    continue  # no repository has such names; what answers here may be none
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((cards / name).read_bytes() if name in CARDS else b"")
            yield folder

    def _cards(self) -> Path:
        return local_copy("dataset", self.name, self.commit, CARDS)

    def _refused(self, error: Exception, folder: Path) -> ConfigError:
        why = str(error).replace(str(folder), self.name).replace(folder.name, self.name)
        return ConfigError(
            f"{self.name}: configuration {self.config or 'default'}, split {self.split} at commit"
            f" {self.commit[:12]} cannot be read ({why}). Correct the names, or download it, convert it to"
            " JSON lines or Parquet and set the path"
        )


def hub_data(name: str, config: str | None, split: str, revision: str | None) -> HubData:
    """A split at the commit its revision stands for now; a full commit is asked for nowhere."""
    return HubData(name, config, split, commit_of("dataset", name, revision))

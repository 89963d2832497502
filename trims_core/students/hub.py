"""Where a student's files are: a folder here, or a hub name fetched into the local cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trims_core.errors import ConfigError

TOKENIZER_FILES: Final = ("*.json", "*.jinja", "*.txt")
ALL_FILES: Final = (*TOKENIZER_FILES, "*.safetensors")
COMPANION_FILES: Final = ("*.py", "generation_config.json")
"""What a copy of the checkpoint carries along for other tools."""


def checkpoint_folder(model: str, revision: str | None, files: Sequence[str] = ALL_FILES) -> Path:
    """The folder itself, or the local copy of a hub repository with these files (glob patterns).

    Nothing that a repository brings along is ever run.

    Raises:
        ConfigError: neither a folder nor a hub name that could be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    folder = Path(model)
    if folder.is_dir():
        return folder
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1
    if looks_local:
        raise ConfigError(
            f"{model}: no such folder; expected a student checkpoint's folder or a hub name OWNER/NAME"
        )
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{model}: neither a folder here nor a hub model that could be fetched ({first_line});"
            " check the name, the network and HF_HUB_OFFLINE"
        ) from error

"""A hub on loopback: repositories with commits one can add, that moves under its users or is away.

It answers what huggingface_hub asks to resolve a revision, list a commit and fetch files. Large files
(`LARGE`) have the sha256 that the real hub keeps of them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LARGE = (".safetensors", ".parquet", ".bin")


class FakeHub:
    """`models/org/name` and `datasets/org/name` with branches and commits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.cache = cache
        self.asked: list[str] = []
        """What was asked for since this list was emptied: `info R`, `list R@COMMIT`, `file R@COMMIT NAME`."""
        self.after_info: Callable[[str], object] = lambda _repo: None
        """Called whenever a repository's revision was resolved: here somebody may push."""
        self._monkeypatch = monkeypatch
        self._commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self._branches: dict[tuple[str, str], str] = {}
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.come_back()
        from huggingface_hub import constants

        endpoint = f"http://127.0.0.1:{self._port}"
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        self.offline(False)

    def commit(self, repo: str, files: Mapping[str, bytes | str | None], branch: str = "main") -> str:
        """The new commit: the branch's files with these changed (None: removed); the branch moves to it."""
        before = self._branches.get((repo, branch)) or self._branches.get((repo, "main"), "")
        tree = dict(self._commits.get((repo, before), {}))
        for name, data in files.items():
            if data is None:
                del tree[name]
            else:
                tree[name] = data.encode() if isinstance(data, str) else data
        commit = hashlib.sha1(repr((before, sorted(tree.items()))).encode()).hexdigest()
        self._commits[repo, commit] = tree
        self._branches[repo, branch] = commit
        return commit

    def upload(self, repo: str, folder: Path, **more: bytes | str) -> str:
        """A commit with all files of a folder."""
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        return self.commit(repo, {**files, **more})

    def go_away(self) -> None:
        """Nobody answers any more."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def come_back(self) -> None:
        """The hub answers, at the address it had."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self.go_away()

    def offline(self, value: bool = True) -> None:
        """As with HF_HUB_OFFLINE in the environment."""
        from huggingface_hub import constants

        self._monkeypatch.setattr(constants, "HF_HUB_OFFLINE", value)

    def copy(self, repo: str, commit: str, folder: Path) -> Path:
        """A commit's files as a folder of one's own."""
        for name, data in self._commits[repo, commit].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        if parts[0] == "api":
            repo, rest = "/".join(parts[1:4]), parts[4:]
            known = any(name == repo for name, _ in self._branches)
            if not known:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            what, revision = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
            commit = self._resolve(repo, revision)
            if commit is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            if what == "revision":
                self.asked.append(f"info {repo}")
                self.after_info(repo)
                return 200, {}, json.dumps({"id": repo.partition("/")[2], "sha": commit}).encode()
            self.asked.append(f"list {repo}@{commit}")
            return 200, {}, json.dumps(_tree(self._commits[repo, commit])).encode()
        if parts[0] != "datasets":
            parts.insert(0, "models")
        repo, revision, name = "/".join(parts[:3]), parts[4], "/".join(parts[5:])
        commit = self._resolve(repo, revision)
        data = self._commits.get((repo, commit or ""), {}).get(name)
        if commit is None or data is None:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            return 404, {"X-Error-Code": code, "X-Repo-Commit": commit or ""}, b""
        self.asked.append(f"file {repo}@{commit} {name}")
        etag = hashlib.sha256(data).hexdigest() if name.endswith(LARGE) else _blob_id(data)
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "X-Linked-Size": str(len(data))}, data

    def _resolve(self, repo: str, revision: str) -> str | None:
        return revision if (repo, revision) in self._commits else self._branches.get((repo, revision))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(with_body=True)

            def do_HEAD(self) -> None:
                self._reply(with_body=False)

            def _reply(self, with_body: bool) -> None:
                status, headers, body = hub.answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return None

        return Handler


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    found = []
    for name, data in files.items():
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _blob_id(data)}
        if name.endswith(LARGE):
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
        found.append(entry)
    return found


def _blob_id(data: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

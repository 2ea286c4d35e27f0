"""A model hub on this machine: just enough of the real one's protocol for huggingface_hub to talk to it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

NOT_FOUND = {404: ("RevisionNotFound", "Invalid rev id"), 401: ("RepoNotFound", "Repository not found")}


class FakeHub:
    """Serves folders as model repositories: ``{"some/name": {"main": folder, "<commit>": folder}}``."""

    def __init__(self, models: dict[str, dict[str, Path]]) -> None:
        self.models = models
        self.fetched: list[str] = []

    def commit(self, revision: str) -> str:
        return revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest()

    def folder(self, name: str, revision: str) -> Path | None:
        by_name = self.models.get(name, {})
        by_commit = {self.commit(other): folder for other, folder in by_name.items()}
        return by_name.get(revision) or by_commit.get(revision)


@contextmanager
def fake_hub(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    models: dict[str, dict[str, Path]],
) -> Iterator[FakeHub]:
    """Run the hub and point huggingface_hub at it, with an empty cache."""
    from huggingface_hub import constants

    hub = FakeHub(models)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._answer_about("/".join(parts[2:4]), parts[4] if len(parts) > 4 else "", "/".join(parts[5:]))
        elif "resolve" not in parts:  # not about a model
            self._refuse(404)
        else:
            where = parts.index("resolve")
            name, revision, file = "/".join(parts[:where]), "/".join(parts[where + 1 : -1]), parts[-1]
            folder = self.hub.folder(name, revision)
            if folder is None or not (folder / file).is_file():
                self._refuse(404)
                return
            if self.command == "GET":
                self.hub.fetched.append(file)
            data = (folder / file).read_bytes()
            self._send(data, {"X-Repo-Commit": self.hub.commit(revision), "ETag": f'"{_blob(data)}"'})

    def _answer_about(self, name: str, what: str, rest: str) -> None:
        if name not in self.hub.models:
            self._refuse(401)
        else:
            revision = rest if what in ("revision", "tree") else "main"
            folder = self.hub.folder(name, revision)
            if folder is None:
                self._refuse(404)
            else:
                files = sorted(folder.iterdir())
                self._send_json(_tree(files) if what == "tree" else self._info(name, revision, files))

    def _info(self, name: str, revision: str, files: list[Path]) -> dict[str, object]:
        siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in files]
        return {"id": name, "sha": self.hub.commit(revision), "siblings": siblings, "private": False}

    def _refuse(self, status: int) -> None:
        code, message = NOT_FOUND[status]
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": message}, status)

    def _send_json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _tree(files: list[Path]) -> list[dict[str, object]]:
    return [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _blob(f.read_bytes())} for f in files]


def _blob(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

"""A model hub on this machine: just enough of the real one's protocol for huggingface_hub to talk to it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

NOT_FOUND = {404: ("RevisionNotFound", "Invalid rev id"), 401: ("RepoNotFound", "Repository not found")}


class FakeHub:
    """Serves folders as model repositories: ``{"some/name": {"main": folder, "<commit>": folder}}``.

    Repositories are created and committed to in ``uploads``, with the token ``TOKEN`` and by ``someone`` only.
    """

    TOKEN = "hf_of_someone"
    address: str

    def __init__(self, models: dict[str, dict[str, Path]], uploads: Path) -> None:
        self.models, self.uploads = models, uploads
        self.fetched: list[str] = []
        self.visibility: dict[str, str] = {}
        self.commits: list[str] = []

    def create(self, name: str, visibility: str) -> None:
        folder = self.uploads / name
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.models[name], self.visibility[name] = {"main": folder}, visibility

    def change(self, name: str, lines: list[str]) -> None:
        """Carry out a commit, whose operations are lines of JSON."""
        folder = self.models[name]["main"]
        for line in map(json.loads, lines):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "deletedFile":
                (folder / value["path"]).unlink()
            else:
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))

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

    hub = FakeHub(models, cache.parent / "uploads")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = address = f"http://127.0.0.1:{server.server_port}"
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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {self.hub.TOKEN}":
            self._send(b"{}", {}, 401)
        elif parts == ["api", "validate-yaml"]:
            self._send_json({"warnings": [], "errors": []})
        elif parts == ["api", "repos", "create"]:
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            if about["organization"] != "someone":
                self._send(b"{}", {}, 403)
            else:
                known = name in self.hub.models
                if not known:
                    self.hub.create(name, about["visibility"])
                self._send_json({"url": f"http://{self.headers['Host']}/{name}"}, 409 if known else 200)
        elif parts[4] == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._send_json({"files": files})
        else:
            self.hub.change("/".join(parts[2:4]), body.decode().splitlines())
            url = f"http://{self.headers['Host']}/{'/'.join(parts[2:4])}/commit/{self.hub.commit('main')}"
            self._send_json({"commitUrl": url, "commitOid": self.hub.commit("main"), "success": True})

    def _chunks(self) -> bytes:
        """Read a body that is sent in chunks."""
        parts = []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._answer_about("/".join(parts[2:4]), parts[4] if len(parts) > 4 else "", "/".join(parts[5:]))
        elif "resolve" not in parts:  # not about a model
            self._refuse(404)
        else:
            where = parts.index("resolve")
            name, revision, file = "/".join(parts[:where]), parts[where + 1], "/".join(parts[where + 2 :])
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
                self._send_json(_tree(folder) if what == "tree" else self._info(name, revision, folder))

    def _info(self, name: str, revision: str, folder: Path) -> dict[str, object]:
        siblings = [{"rfilename": file["path"], "size": file["size"]} for file in _tree(folder)]
        card = folder / "README.md"
        text = card.read_text("utf-8") if card.is_file() else ""
        front = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
        about = {"id": name, "sha": self.hub.commit(revision), "siblings": siblings, "tags": front.get("tags", [])}
        return about | {"private": self.hub.visibility.get(name) == "private"}

    def _refuse(self, status: int) -> None:
        code, message = NOT_FOUND[status]
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": message}, status)

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"}, status)

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _tree(folder: Path) -> list[dict[str, object]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {
            "type": "file",
            "path": file.relative_to(folder).as_posix(),
            "size": file.stat().st_size,
            "oid": _blob(file.read_bytes()),
        }
        for file in files
    ]


def _blob(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

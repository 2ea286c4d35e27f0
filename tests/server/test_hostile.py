"""Requests that are broken or meant to break something: each is answered with a 4xx, and the server goes on."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from captionless.server import arrivals, service
from captionless.server.errors import ApiError
from server_cases import Served, data_url, png, serving, unread

if sys.platform == "win32":
    pytest.skip("not tried on Windows", allow_module_level=True)
OTHERS = pytest.mark.skipif(sys.platform != "linux", reason="this system has one local address")
PHOTO = png()
JSON = "application/json"
NUMBERS = ("n", "steps", "seed", "partial_images", "guidance", "variety", "strength", "output_compression")
CHOICES = ("sampler", "response_format", "output_format", "background", "size")
TEXTS = ("prompt", "model", "negative_prompt", "user", "safety_identifier")


@dataclass(frozen=True)
class Bad:
    """A request as it is sent, apart from its length."""

    name: str
    body: bytes = b""
    kind: str | None = JSON
    path: str = "/v1/images/generations"
    method: str = "POST"
    headers: tuple[str, ...] = ()

    def sent(self) -> bytes:
        head = [f"{self.method} {self.path} HTTP/1.1", "connection: close", *self.headers]
        named = {line.partition(":")[0].lower() for line in self.headers}
        head += ["host: localhost"] * ("host" not in named)
        head += [f"content-type: {self.kind}"] * bool(self.kind)
        head += [f"content-length: {len(self.body)}"] * (not named & {"content-length", "transfer-encoding"})
        return "\r\n".join([*head, "", ""]).encode("latin-1") + self.body


def fields() -> Iterator[Bad]:
    """Fields of the wrong type, out of range, or absurd."""
    wrong: list[tuple[str, Any]] = [
        (name, value) for name in (*NUMBERS, *CHOICES, *TEXTS) for value in ([], {"a": [1]})
    ]
    wrong += [(name, value) for name in NUMBERS for value in (1e308, -1e300, 10**40, "x", "\x00", -(10**19))]
    wrong += [(name, value) for name in CHOICES for value in (3, "x" * 5000, "../../etc/passwd", "auto\n")]
    wrong += [(name, 5) for name in TEXTS]
    wrong += [
        ("size", value) for value in ("1x1", "-8x8", "8x", "99999x99999", "１６x１６", "0x10x10", "1e3x1e3", "512X512 ")
    ]
    wrong += [("stream", value) for value in ("perhaps", 7, [], {})]
    wrong += [
        ("n", 10**6),
        ("steps", 10**9),
        ("steps", 0),
        ("prompt", "x" * 10_000),
        ("prompt", " \t\n"),
        ("seed", 1.5),
    ]
    for name, value in wrong:
        yield Bad(f"{name}={str(value)[:20]!r}", json.dumps({"prompt": "a rose", name: value}).encode())


def bodies() -> Iterator[Bad]:
    """What is no JSON object, or no form."""
    texts = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"a"',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"prompt": "\\ud800"}',
        b"{'a': 1}",
    ]
    texts += [b"[" * 200_000, b'{"a":' * 100_000, b'{"n":' + b"9" * 50_000 + b"}", b'{"prompt": NaN}', b"\x00" * 1000]
    texts += [
        '{"prompt": "a"}'.encode("utf-16"),
        pickle.dumps({"prompt": "a"}),
        b'{"prompt": "a"',
        b'{"prompt": "a"} x',
    ]
    for text in texts:
        yield Bad(f"json {text[:12]!r}", text)
    for kind in (None, "", "text/plain", "text/xml", "application/x-python-pickle", "multipart/mixed", "x" * 3000):
        yield Bad(f"type {str(kind)[:20]}", b'{"prompt": "a rose"}', kind)
    form = "multipart/form-data"
    for kind in (form, f"{form}; boundary=", f"{form}; boundary=" + "b" * 500, f"{form}; boundary=b; charset=utf-7"):
        for body in (b"", b"--b", b"--b\r\n\r\n", b"--c\r\nx", b"x" * 5000):
            yield Bad(f"form {kind[-20:]} {body[:6]!r}", body, kind, "/v1/images/edits")


def part(name: str, data: bytes, file: str | None = "a.png") -> bytes:
    file = "" if file is None else f'; filename="{file}"'
    return f'--b\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def crafted(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def images() -> Iterator[Bad]:
    """Files that are no images, or bombs."""
    jpeg, webp, bmp = io.BytesIO(), io.BytesIO(), io.BytesIO()
    for file, kind in ((jpeg, "JPEG"), (webp, "WEBP"), (bmp, "BMP")):
        Image.new("RGB", (16, 16)).save(file, kind)
    bomb = zlib.compress(b"\0" * 200_000_000)
    files = {
        "bmp": bmp.getvalue(),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "gif": b"GIF89a" + bytes(100),
        "pickle": pickle.dumps(print),
        "huge": crafted(100_000, 100_000),
        "wide": crafted(2**31 - 1, 1),
        "zero": crafted(0, 0),
        "text bomb": crafted(8, 8, chunk(b"zTXt", b"a\0\0" + bomb)),
        "profile bomb": crafted(8, 8, chunk(b"iCCP", b"a\0\0" + bomb)),
    }
    files |= {f"png {end}": PHOTO[:end] for end in (1, 8, 20, 33, 40, 60)}
    files |= {f"jpeg {end}": jpeg.getvalue()[:end] for end in (3, 10, 100, 300)}
    files |= {f"webp {end}": webp.getvalue()[:end] for end in (12, 16, 30)}
    for name, data in files.items():
        body = part("image", data) + part("prompt", b"a rose", None) + b"--b--\r\n"
        yield Bad(f"file {name}", body, "multipart/form-data; boundary=b", "/v1/images/edits")
        sent = {"prompt": "a rose", "image": data_url(data)}
        yield Bad(f"url {name}", json.dumps(sent).encode(), path="/v1/images/variations")
    many = part("image", PHOTO) * 50
    fields = part("x", b"y", None) * 500
    long = part("prompt", b"x" * 3_000_000, None)
    lone = part("prompt", b"+2AA-", None)
    kind = "multipart/form-data; boundary=b; charset=utf-7"
    yield Bad("form surrogate", part("image", PHOTO) + lone + b"--b--\r\n", kind, "/v1/images/edits")
    values = b'{"prompt": "a rose", "x": [' + b"0," * 1_000_000 + b"0]}"
    yield Bad("json values", values)
    for name, body in {
        "many": many,
        "fields": fields,
        "long": long,
        "path": part("image", b"", "../../etc/passwd"),
    }.items():
        yield Bad(f"form {name}", body + b"--b--\r\n", "multipart/form-data; boundary=b", "/v1/images/edits")


def paths() -> Iterator[Bad]:
    """Addresses and heads of requests."""
    wrong = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/..%2f..%2fetc",
        "/v1/models/%00",
        "/v1",
        "//etc/passwd",
        "/..%2fapp.py",
        "/%2e%2e/app.py",
    ]
    wrong += ["/v1/images/links/../../../etc/passwd", "/v1/images/links/%00", "/x" * 3000, "/.git/config", "/openapi"]
    wrong += ["/v1/models/" + "x" * 3000, "/v1/models/%ff%fe", "/v1/images/links/" + "A" * 32, "/healthz/x", "*"]
    for path in wrong:
        yield Bad(f"get {path[:20]}", path=path, method="GET", kind=None)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"):
        yield Bad(f"method {method}", method=method)
    good = b'{"prompt": "a rose"}\r\n'
    for line in (
        "host: evil.example",
        "origin: https://evil.example",
        "content-length: -1",
        "content-length: 1e3",
        "content-length: 999999999999",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked",
        "x: " + "y" * 100_000,
        "no colon",
        "host: localhost\r\nhost: evil.example",
    ):
        yield Bad(f"head {line[:24]}", good, headers=(line,))


TABLE = [*fields(), *bodies(), *images(), *paths()]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_upload=4) as server:
        assert server.post("generations", prompt="a rose").status_code == 200
        yield server
        assert server.places == 0
        assert server.post("generations", prompt="a rose").status_code == 200


@pytest.fixture(scope="module")
def peak() -> Iterator[None]:
    """Fail if the memory of this process, in which the server is, grows by 400 MB at any time."""
    if sys.platform != "linux":
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = megabytes("VmRSS")
    yield
    assert megabytes("VmHWM") - before < 400


def megabytes(name: str) -> float:
    """The memory of this process on Linux: now (VmRSS), or at the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


@OTHERS
def test_who_sends_slowly_holds_no_place_and_holds_up_nobody_else() -> None:
    with serving(queue=10) as served, ExitStack() as stack:
        address = ("127.0.0.1", served.socket.getsockname()[1])
        slow = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(70)]
        body = b'{"prompt": "a rose"}'
        for connection in slow:
            connection.sendall(Bad("slow", body).sent().removesuffix(body))
        other = httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2"))
        url = f"{served.url}/v1/images/generations"
        assert other.post(url, json={"prompt": "a rose"}, timeout=20).status_code == 200
        assert served.places == 0
        statuses = []
        for connection in reversed(slow):
            with suppress(ConnectionError):  # those that are too many are answered already
                connection.sendall(body)
            statuses.append(int(connection.makefile("rb").readline().split()[1]))
        assert set(statuses) == {200, 429}
        assert statuses.count(200) == 5  # half of the places


@OTHERS
def test_many_large_uploads_of_one_address_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    order, go, prepare = list[str](), threading.Event(), service.prepare_request

    def wait(name: str, one: Any, request: Any, *rest: Any) -> Any:
        order.append(request.prompt)
        assert go.wait(20)
        return prepare(name, one, request, *rest)

    monkeypatch.setattr(service, "prepare_request", wait)
    with serving() as served, ThreadPoolExecutor(6) as pool:
        many = [pool.submit(served.post, "generations", prompt="many") for _ in range(5)]
        served.wait(places=5)
        other = httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2"), timeout=20)
        few = pool.submit(other.post, f"{served.url}/v1/images/generations", json={"prompt": "few"})
        served.wait(places=6)
        go.set()
        assert [answer.result().status_code for answer in (*many, few)] == [200] * 6
    assert order.index("few") == 1


def test_who_reads_nothing_holds_no_place_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "READ_SECONDS", 0.5)
    with serving(queue=10) as served, unread(served.url) as connection:
        served.wait(places=10)
        served.wait(places=0)
        assert served.post("generations", prompt="a rose").status_code == 200
        until = time.monotonic() + 60
        while served.server.server_state.tasks:
            assert time.monotonic() < until, "the request goes on"
            time.sleep(0.01)
        received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        assert not received.endswith(b"0\r\n\r\n")  # what ends a complete answer


@OTHERS
def test_connections_are_limited_and_those_without_a_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_CONNECTIONS", 5)
    monkeypatch.setattr(arrivals, "HEAD_SECONDS", 0.5)
    with serving() as served, ExitStack() as stack:
        address = ("127.0.0.1", served.socket.getsockname()[1])
        idle = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(6)]
        assert idle[-1].recv(1) == b""  # at once, as there are too many
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2")) as other:
            assert other.get(f"{served.url}/healthz").status_code == 200
        idle[0].sendall(b"GET / HT")
        assert idle[0].recv(1) == b""  # after a while, as there is no request


@pytest.mark.parametrize(("seconds", "status"), [(0.0, 408), (60.0, 503)], ids=["late", "stopped"])
def test_a_body_that_does_not_come_is_answered(monkeypatch: pytest.MonkeyPatch, seconds: float, status: int) -> None:
    monkeypatch.setattr(arrivals, "SECONDS", seconds)
    waiting = arrivals.Arrivals(4)

    async def receive() -> None:
        async with waiting.receiving("somewhere"):
            if seconds:
                asyncio.get_running_loop().call_soon(waiting.abandon)
            await asyncio.Event().wait()

    with pytest.raises(ApiError) as error:
        asyncio.run(receive())
    assert error.value.status == status


def test_there_are_two_hundred() -> None:
    assert len(TABLE) >= 200


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
@pytest.mark.usefixtures("peak")
def test_what_is_hostile_is_answered_with_a_4xx(served: Served, bad: Bad) -> None:
    assert 400 <= status_of(served, bad) < 500


@pytest.mark.skipif(sys.platform != "linux", reason="this system does not tell how much memory is used now")
def test_nothing_of_a_hostile_request_is_kept(served: Served) -> None:
    large = [bad for bad in TABLE if len(bad.body) > 1_000_000]
    sizes = []
    for times in (3, 20):  # the first few decide how much the allocator keeps for the next
        statuses = {status_of(served, bad) for bad in large * times}
        assert statuses == {400}
        sizes.append(megabytes("VmRSS"))
    sent = 20 * sum(len(bad.body) for bad in large) / 1024**2
    assert sent > 90
    assert sizes[1] - sizes[0] < sent / 3


def status_of(served: Served, bad: Bad) -> int:
    """Send a request, and return the status of the answer."""
    with socket.create_connection(("127.0.0.1", served.socket.getsockname()[1]), timeout=20) as connection:
        with suppress(ConnectionError):  # it may answer before all is sent
            connection.sendall(bad.sent())
        status = connection.makefile("rb").readline().split()
    assert status, "no answer"
    return int(status[1])

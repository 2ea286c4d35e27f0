"""The command, in a process of its own: what it says, what it does with a signal, and what stops it from starting."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from PIL import Image

import tiny
from captionless.config.sampling import SamplingConfig
from captionless.server.run import load_models
from platforms import SIGNALS
from server_cases import png, unread

LOG = "stderr"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "CAPTIONLESS_API_KEY"}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], str]]]:
    """Start `captionless serve` with a tiny model of classes; return the process and its address."""
    started = []
    tiny.saved(tiny.class_model(), tmp_path / "tiny")

    def start(*options: str) -> tuple[subprocess.Popen[bytes], str]:
        words = [sys.executable, "-m", "captionless", "serve", str(tmp_path / "tiny"), "--port", "0", *options]
        # To a file: a pipe that nobody reads is full after some hundred requests, each a line, and holds up the server.
        with (tmp_path / LOG).open("w") as log:
            process = subprocess.Popen(words, stderr=log, env=ENVIRONMENT)
        started.append(process)
        while "\n" not in (said := (tmp_path / LOG).read_text()) and process.poll() is None:
            time.sleep(0.02)
        assert said.startswith("Serving tiny at http://127.0.0.1:"), said
        return process, said.split()[3]

    yield start
    for process in started:
        process.kill()
        process.wait()


def ask(url: str, **fields: object) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/images/generations", json={"prompt": "rose", **fields}, timeout=60)


def wait_for_queue(url: str, images: int, metric: str = "queue_images") -> None:
    until = time.monotonic() + 60
    while f"captionless_{metric} {images}.0" not in httpx2.get(f"{url}/metrics", timeout=60).text:
        assert time.monotonic() < until, f"not {images} images"
        time.sleep(0.02)


@SIGNALS
def test_every_request_is_finished_after_a_signal_and_logged_without_its_prompt(
    command: Callable[..., tuple[subprocess.Popen[bytes], str]], tmp_path: Path
) -> None:
    process, url = command("--batch", "2")
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, url, n=2, seed=i, steps=60, negative_prompt="daisy") for i in range(3)]
        wait_for_queue(url, 6)
        process.send_signal(signal.SIGTERM)
        results = [answer.result() for answer in answers]
    assert [result.status_code for result in results] == [200] * 3
    assert all(len(result.json()["data"]) == 2 for result in results)
    process.wait(timeout=30)
    errors = (tmp_path / LOG).read_text()
    assert process.returncode == 130
    lines = [json.loads(line) for line in errors.splitlines()[1:]]
    posts = [line for line in lines if line["path"] == "/v1/images/generations"]
    assert {line["request_id"] for line in posts} == {result.headers["x-request-id"] for result in results}
    assert {(line["status"], line["images"], line["model"]) for line in posts} == {(200, 2, "tiny")}
    assert "daisy" not in errors


@pytest.mark.slow
def test_clients_are_shown_no_path(command: Callable[..., tuple[subprocess.Popen[bytes], str]], tmp_path: Path) -> None:
    _, url = command()
    made = ask(url).json()["data"][0]["b64_json"]
    assert Image.open(io.BytesIO(base64.b64decode(made))).text["model"] == "tiny"  # type: ignore[attr-defined]
    refused = httpx2.post(f"{url}/v1/images/variations", files={"image": png()})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("the model tiny is class-conditional")
    assert str(tmp_path) not in refused.text + httpx2.get(f"{url}/v1/models").text


@pytest.mark.slow
@SIGNALS
def test_what_cannot_be_finished_in_time_is_answered(
    command: Callable[..., tuple[subprocess.Popen[bytes], str]],
) -> None:
    process, url = command("--grace", "0.5", "--max-steps", "10000")
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, url, steps=10_000, n=10, stream=stream) for stream in (False, True)]
        wait_for_queue(url, 20)
        process.send_signal(signal.SIGTERM)
        plain, stream = (answer.result() for answer in answers)
    assert (plain.status_code, plain.headers["retry-after"]) == (503, "10")
    assert plain.json()["error"]["code"] == "stopping"
    assert stream.text.startswith("event: error\ndata: ")
    process.wait(timeout=30)


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("stream", [True, False])
def test_who_reads_nothing_does_not_keep_the_server_from_ending(
    command: Callable[..., tuple[subprocess.Popen[bytes], str]], stream: bool
) -> None:
    process, url = command("--grace", "0.5")
    with unread(url, stream=stream, n=4):
        wait_for_queue(url, 4, "images_total")
        wait_for_queue(url, 0)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def test_a_port_that_is_in_use_a_missing_model_and_a_missing_key_are_reported(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTIONLESS_API_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert run("serve", "--port", str(other.getsockname()[1])) == 2
        assert "Choose another --port or --host" in capsys.readouterr().err
    assert run("serve", "nowhere", "--port", "0") == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert run("serve", "--host", "0.0.0.0") == 2
    assert "CAPTIONLESS_API_KEY, or pass --no-key" in capsys.readouterr().err
    assert run("serve", "--training-images", "nowhere", "--port", "0") == 2
    assert "--training-images nowhere does not exist" in capsys.readouterr().err
    assert run("serve", "a/tiny", "b/tiny", "--port", "0") == 2  # neither is there: names come first
    assert "two models are called tiny" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("captionless.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert run("serve") == 2
    assert "pip install 'captionless[serve]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals that hang up")
def test_a_terminal_that_is_closed_is_a_signal_to_stop(
    command: Callable[..., tuple[subprocess.Popen[bytes], str]],
) -> None:
    process, url = command()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, url, n=5, steps=20)
        wait_for_queue(url, 5)
        process.send_signal(signal.SIGHUP)
        assert answer.result().status_code == 200
    process.wait(timeout=30)
    assert process.returncode == 130


def test_the_first_image_of_a_model_is_made_without_remarks(recwarn: pytest.WarningsRecorder) -> None:
    (one,) = load_models(["bundled"], SamplingConfig()).values()
    assert not [each for each in recwarn if "unfamiliar" in str(each.message)]
    with pytest.warns(UserWarning, match="unfamiliar"):  # which is what the prompt is
        one.generate("an image", steps=1, upsample_steps=1)

"""The container files, as far as they can be tested without a container: what they copy, say, need and run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from server_cases import serving

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")


def instruction(name: str) -> list[str]:
    """Return the words of the only such instruction, which end in a JSON list."""
    (line,) = re.findall(rf"^{name} .*?(\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(line)
    return words


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall("^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_asks_the_server_and_needs_no_key() -> None:
    _, *words = instruction("HEALTHCHECK")
    with serving(key="sk-a-key-of-some-length") as served:
        command = [sys.executable, *(word.replace("http://127.0.0.1:8000", served.url) for word in words)]
        assert served.url in command[-1]
        assert subprocess.run(command, timeout=60).returncode == 0
    assert subprocess.run(command, timeout=60, stderr=subprocess.DEVNULL).returncode != 0


def test_the_container_serves_others_as_another_user_and_only_with_a_key(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DOCKERFILE.index("\nUSER captionless") < DOCKERFILE.index("\nENTRYPOINT")
    program, *words = instruction("ENTRYPOINT")
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["captionless"]
    assert program == "captionless"
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    monkeypatch.delenv("CAPTIONLESS_API_KEY", raising=False)
    assert run(*words) == 2
    assert "CAPTIONLESS_API_KEY, or pass --no-key" in capsys.readouterr().err
    monkeypatch.setenv("CAPTIONLESS_API_KEY", "short")  # the command is understood
    assert run(*words, *service["command"]) == 2
    assert "at least 16 characters" in capsys.readouterr().err

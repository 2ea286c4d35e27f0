"""Let a file operation fail in the middle of each command, and check how the command ends.

    python tests/faults.py [--number 300] [--seed 0] [--log FILE] [COMMAND ...]

First each command runs undisturbed, and what it does to files is listed. Then it runs again and again, each time in a
fresh copy of the same folder, where one operation of this list fails, once or from then on. A disk that becomes full is
a limit of the system on the size of files, which other libraries meet as well. A command must end with exit code 2 and
one line (after remarks), or succeed; no traceback, no bug, and the model as it was or newer. The server succeeds if it
answers each of some requests, with what was asked for or with an error, until a signal stops it. Of commands that are
called ``(workers)``, the worker processes that read images fail. Each fault becomes a
line of the log, and those that a log has already are not tried again. The log of the last run is in
``tests/faults.log``.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

import captionless.exports.diffusers
import captionless.server  # noqa: F401  # once, not in each copy of this process
import forked
from captionless.checkpoints.config import load_config
from captionless.checkpoints.model import STATE, load_model
from captionless.encoders.dual_encoder import load_encoder
from captionless.encoders.hub import BUNDLED
from captionless.errors import CaptionlessError
from captionless.exports import export
from captionless.exports.runtime import FILES, GRAPHICS
from captionless.latents.autoencoder import import_diffusers, load_autoencoder
from captionless.tensor_files import read_tensors
from captionless.training import feature_distance
from export_models import traced_once
from fault_operations import REMOVAL, WORKERS, Fault, Operations, watch_workers

_SHARDS = ["embed", "photos", "--encoder", "encoder", "--shard-size", "5", "--shards"]
_VECTORS = ["--encoder", "encoder", "--vectors", "vectors"]
_LATENTS = ["--size", "16", "--crop", "16", "--factor", "4", "--width", "8", "--batch", "4"]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", "photos", "--encoder", "encoder", *forked.TRAINING, "--images", "8", "--out", "new"],
    "train --resume": ["train", "photos", "--out", "model", "--resume", "--images", "24"],
    "train --classes": ["train", "photos", "--classes", *forked.TRAINING, "--images", "8", "--out", "new"],
    "embed": ["embed", "photos", "--encoder", "encoder", "--csv", "clip.csv"],
    "generate": ["generate", "a rose", "--model", "model", "-n", "2", "--steps", "2", "--out", "images"],
    "evaluate": ["evaluate", "seen", "--data", "many", "--prompts", "prompts.txt", "--steps", "1", "--out", "report"],
    "encoder": ["encoder", "many", "--out", "learned"],
    "autoencoder": ["autoencoder", "photos", *_LATENTS, "--images", "8", "--out", "coded"],
    "autoencoder --resume": ["autoencoder", "photos", *_LATENTS, "--images", "16", "--out", "ae", "--resume"],
    "embed --shards": [*_SHARDS, "shards"],
    "train --vectors": ["train", "photos", *_VECTORS, *forked.TRAINING, "--images", "8", "--out", "new"],
    "info": ["info", "model"],
    "info photos": ["info", "photos"],
    "serve": ["serve", "model", "--training-images", "photos", "--port", "0"],
    "export hub": ["export", "model", "--to", "hub", "--prompt", "a rose", "--out", "exported"],
    "export onnx": ["export", "classes", "--to", "onnx", "--out", "exported"],
    "export web": ["export", "classes", "--to", "web", "--runtime", "runtime", "--out", "exported"],
    "export diffusers": ["export", "model", "--to", "diffusers", "--prompt", "a rose", "--out", "exported"],
}
COMMANDS[f"embed --shards{WORKERS}"] = COMMANDS["embed --shards"]


def run(command: str, folder: Path, before: Callable[[], object]) -> tuple[int, str]:
    """Run a command; return its exit code, and what is wrong with the answers of the server."""
    process = forked.start(COMMANDS[command], folder, before)
    if command != "serve":
        return forked.finish(process), ""
    wrong = ask_server(process, folder)
    code = forked.finish(process)
    return (0 if code == 130 else code), wrong  # it goes on until a signal ends it


def ask_server(process: int, folder: Path) -> str:
    """Send requests to a server as soon as it listens, then stop it; return what is wrong with an answer, or ""."""
    while not (found := re.search(r"http://\S+", (folder / "err").read_text())):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return ""
        time.sleep(0.05)
    photo = next((folder / "photos").glob("*/*.png")).read_bytes()
    fields = {"prompt": "a rose", "steps": 1, "n": 2}
    like = {"like": f"data:image/png;base64,{base64.b64encode(photo).decode()}"}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/", {}),
        ("/v1/models", {}),
        ("/v1/images/generations", {"json": fields}),
        ("/v1/images/generations", {"json": fields | like}),
        ("/v1/images/edits", {"data": fields, "files": {"image": photo}}),
        ("/v1/images/nearest", {"files": {"image": photo}}),
    ]
    try:
        for path, body in requests:
            answer = httpx2.request("POST" if body else "GET", found[0] + path, timeout=100, **body)
            told = answer.status_code == 200 or answer.json()["error"]["message"]
            if not told or "Traceback" in answer.text:
                return f"{path} was answered with {answer.status_code}: {answer.text[:500]}"
    except (httpx2.HTTPError, ValueError, LookupError) as error:
        return f"{path} was not answered: {error}"
    finally:
        os.kill(process, signal.SIGTERM)
    return ""


def listed(root: Path, command: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Run a command undisturbed, and list what it does to files."""
    with copy(root) as folder:
        notes = folder.parent / "operations"

        def before() -> None:
            if command.endswith(WORKERS):
                watch_workers(folder, notes=notes)
            else:
                Operations(folder, notes=notes).watch()

        assert run(command, folder, before) == (0, ""), (folder / "err").read_text()
        rows = [line.split("\t") for line in notes.read_text().splitlines()]
    return [(name, path, tuple(errors.split(","))) for name, path, errors in rows]


class copy:  # noqa: N801
    """A copy of a folder, for as long as it is used."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Path:
        self.folder = Path(tempfile.mkdtemp(dir=self.root.parent)) / "work"
        shutil.copytree(self.root, self.folder)
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder.parent)


def faults(root: Path, number: int, seed: int, commands: list[str]) -> Iterator[Fault]:
    """Draw faults: one in ten a full disk, the others any operation of any command, each call of a command as often."""
    draw = random.Random(seed)
    operations = {command: listed(root, command) for command in commands}
    for turn in range(number):
        command = commands[turn % len(commands)]
        if turn % 10 == 9:
            yield Fault(command, -draw.choice([1, 100, 1_000, 10_000, 100_000]), "", "", "EFBIG", lasting=True)
            continue
        call = draw.choice(sorted({name for name, _, _ in operations[command]}))
        chosen = draw.choice([i for i, (name, _, _) in enumerate(operations[command]) if name == call])
        _, path, errors = operations[command][chosen]
        yield Fault(command, chosen, call, path, draw.choice(errors), lasting=draw.random() < 0.5)


def problem(root: Path, fault: Fault) -> tuple[str, str]:
    """Run a command with a fault; return what is wrong with its end, or "", and how it ended."""
    with copy(root) as folder:

        def before() -> None:
            signal.alarm(900)
            if fault.number < 0:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (-fault.number, -fault.number))
            elif fault.workers:
                watch_workers(folder, fault)
            else:
                Operations(folder, fault).watch()

        code, wrong = run(fault.command, folder, before)
        said = (folder / "err").read_text()
        lines = [line for line in said.splitlines() if line.strip()]
        end = "success, with a remark" if code == 0 and any(line.startswith("captionless:") for line in lines) else ""
        end = end or ("success" if code == 0 else "one line, exit code 2")
        if code not in (0, 2) or "Traceback" in said or wrong:
            return f"exit code {code}: {wrong} {said[-1500:]}", end
        cut = fault.number < 0 and len(said.encode()) >= -fault.number  # the limit applies to what is printed too
        if code == 2 and not cut and not (lines and lines[-1].startswith("captionless: ")):
            return f"no line says why: {said[-500:]}", end
        if fault.workers and fault.call == "io.open" and not code and "have no vector" not in said:
            return "the fault has not reached the worker processes", end
        try:
            begins = fault.command.startswith("train") and fault.command != "train --resume"
            if fault.command == "export hub" and not code:
                load_model(folder / "exported")
            if (folder / "ae").exists():
                load_autoencoder(folder / "ae")
                read_tensors(folder / "ae" / STATE)
            complete = [folder / "model", *([folder / "new"] if begins and not code else [])]
            for model in complete:
                load_model(model)
                read_tensors(model / STATE)
            seen = load_config(complete[-1]).training.images_seen
        except CaptionlessError as error:
            return f"a model was lost: {error}", end
        images = {"train": 8, "train --classes": 8, "train --vectors": 8, "train --resume": 24}.get(fault.command)
        if code == 0 and images is not None and seen != images:
            return f"success, but the model has seen {seen} images, not {images}", end
        wanted = {"evaluate": "report/index.html", "encoder": "learned/model.safetensors", "embed": "clip.csv"}
        wanted |= {"autoencoder": "coded/reconstructions.png", "autoencoder --resume": "ae/reconstructions.png"}
        wanted |= {"embed --shards": "shards/0001-000002.parquet", "export onnx": "exported/captionless.json"}
        wanted |= {"export web": "exported/sw.js", "export diffusers": "exported/model_index.json"}
        if code and (folder / "exported").exists():
            return "half an export was left behind", end
        if code == 0 and not (folder / wanted.get(fault.command.removesuffix(WORKERS), "")).exists():
            return "success, but nothing was written", end
        if code == 0 and fault.command == "generate" and len(list((folder / "images").glob("0*.png"))) != 2:
            return "success, but not two images", end
        left = [path.name for path in folder.rglob("*.tmp")]
        excused = fault.call == "os.unlink" or (fault.lasting and fault.call in REMOVAL)
        return (f"left behind: {left}" if left and not excused else ""), end


def try_faults(log: Path, number: int, seed: int, commands: list[str]) -> None:
    """Try the faults that a log lacks, and add a line for each of them."""
    done = {int(line.split()[0]) for line in log.read_text().splitlines() if line[:1] == " "} if log.exists() else set()
    with tempfile.TemporaryDirectory() as name, log.open("a", buffering=1) as file, traced_once():
        root = forked.prepare(Path(name) / "prepared")
        assert forked.call([*_SHARDS, "vectors"], root) == 0, (root / "err").read_text()
        assert forked.call([*COMMANDS["train --classes"][:-1], "classes"], root) == 0, (root / "err").read_text()
        if {"autoencoder", "autoencoder --resume"} & set(commands):
            import_diffusers()  # once, not in each copy, where threads that load files may not start
            encoder = load_encoder(BUNDLED)
            _ = encoder.model, encoder.image_processor
            feature_distance.load_encoder = lambda _: encoder
            assert forked.call([*COMMANDS["autoencoder"][:-1], "ae"], root) == 0, (root / "err").read_text()
        (root / "runtime").mkdir()
        for one in (*FILES, *GRAPHICS):
            (root / "runtime" / one).write_text(one)
        if {"export onnx", "export web"} & set(commands):  # the copies of this process then know the graphs
            export(root / "classes", "onnx", root.parent / "traced", progress=False)
        for turn, fault in enumerate(faults(root, number, seed, commands)):
            if turn not in done:
                wrong, end = problem(root, fault)
                text = f"{fault} -> {f'BAD: {wrong}' if wrong else end}"
                print(f" {turn:5d}  {' '.join(text.split())}", file=file)


def main() -> None:
    """Try faults, and count how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"some of {', '.join(COMMANDS)}; all by default")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("faults.log"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    try_faults(given.log, given.number, given.seed, given.commands or [*COMMANDS])
    lines = given.log.read_text().splitlines()
    ends = Counter(f"{line.split(':')[0][8:]}: {line.rpartition(' -> ')[2]}" for line in lines if " -> BAD" not in line)
    for end, count in sorted(ends.items()):
        print(f"{count:4d}  {end}")
    bad = [line for line in lines if " -> BAD" in line]
    print(*bad, f"{len(lines)} faults, {len(bad)} of them ended badly", sep="\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()

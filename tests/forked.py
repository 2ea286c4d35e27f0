"""Run the command line in a copy of this process: nothing is imported again, and nothing that it does is left here."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import encoder_factory
from captionless.checkpoints.image_list import write_image_list
from captionless.cli import main
from evaluation_cases import sample_photos
from training_cases import save_photos

TRAINING = ["--size", "8", "--width", "16", "--batch", "4", "--precision", "float32", "--dropout", "0.1"]


def start(words: list[str], folder: Path, before: Callable[[], object] = lambda: None) -> int:
    """Start a command in a folder; its output goes to the files ``out`` and ``err`` there. Return the process's id."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        for name in ("stdout", "stderr"):
            setattr(sys, name, getattr(sys, f"__{name}__"))
        os.environ["CAPTIONLESS_CACHE"] = str(folder / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        sys.argv = ["captionless", *words]
        before()
        main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(99)  # an exception that the command line did not catch


def finish(process: int) -> int:
    """Wait for a process; return its exit code, negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def call(words: list[str], folder: Path, before: Callable[[], object] = lambda: None) -> int:
    """Run a command in a folder; return its exit code."""
    return finish(start(words, folder, before))


def prepare(root: Path) -> Path:
    """Make a folder with twelve ``photos``, an ``encoder`` and a trained ``model``.

    To evaluate, there is a model that has ``seen`` a quarter of ``many`` photos, and ``prompts.txt``.
    """
    torch.set_num_threads(1)
    save_photos(root / "photos")
    (root / "photos" / "CREDITS.csv").write_text("file,photographer\ndaisy/0.png,Ada\n")
    encoder_factory.small_pair(root / "encoder")
    words = ["train", "photos", "--encoder", "encoder", *TRAINING, "--sample-grids", "1"]
    assert call([*words, "--images", "16", "--out", "model"], root) == 0, (root / "err").read_text()
    shutil.copytree(root / "model", root / "seen")
    many = sample_photos(root / "many", 28)
    names = [path.relative_to(many).as_posix() for path in sorted(many.glob("*/*"))]
    digests = [hashlib.sha256((many / name).read_bytes()).hexdigest() for name in names]
    write_image_list(root / "seen", [(*one, "train") for one in zip(names[:7], digests[:7], strict=True)])
    (root / "prompts.txt").write_text("a red rose\na white daisy\n")
    shutil.rmtree(root / "cache")  # with it, a fault in reading would not be met
    return root

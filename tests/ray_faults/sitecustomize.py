"""Faults for a real run, in every process that has this folder on its ``PYTHONPATH``; ``FAULTS`` is a folder for notes.

``flaky://`` is a store that fails on the first read of an image named ``flaky.png``, and notes every read. An image
of 13 x 37 pixels kills the process that decodes it.
"""

import os
import signal
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

NOTES = Path(os.environ["FAULTS"])


class Flaky(LocalFileSystem):
    protocol = "flaky"

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("flaky://"))

    def cat_file(self, path, start=None, end=None, **more):
        with (NOTES / "reads").open("a") as notes:
            notes.write(f"{path}\n")
        if path.endswith("flaky.png") and not (NOTES / "failed").exists():
            (NOTES / "failed").touch()
            raise ConnectionError("503 Slow Down")
        return super().cat_file(path, start, end, **more)


fsspec.register_implementation("flaky", Flaky)
opened = Image.open


def open_or_die(*arguments, **more):
    image = opened(*arguments, **more)
    if image.size == (13, 37):
        (NOTES / "poisoned").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return image


Image.open = open_or_die

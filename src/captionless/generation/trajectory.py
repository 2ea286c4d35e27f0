"""How pictures come out of the noise, step by step: a strip to read and an animation to watch.

    sampling = Sampling(steps=20)
    film = Film(generator.steps(sampling))
    generator.generate("a daisy", sampling=sampling, on_step=film)
    (frames,) = film.take()
    strip(frames).save("daisy-film.png")

Every step goes from a noisy picture ``xt`` by way of the clean one that is predicted from it, ``x0``. The prediction of
the last step is the finished picture. Where a second model enlarges the pictures, its steps follow those of the first,
whose small pictures are shown in blocks of the same size.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from captionless.data.arrays import denormalise
from captionless.diffusion.reverse import Step
from captionless.generation.grids import MARGIN, sample_grid, scaled
from captionless.generation.sample import to_images

CELL = 128
"""Least side of a drawn picture, in pixels."""
COLUMNS = 10
"""Of a strip, at most."""
MAX_FRAMES = 60
"""Steps that are kept of a picture."""
FRAME_MILLISECONDS, PAUSE_MILLISECONDS = 120, 2500


@dataclass(frozen=True)
class Frame:
    """One step of a picture.

    Args:
        step: its number, from 0.
        t: the time it begins at, from 1 (noise) to 0 (picture).
        xt: the noisy picture.
        x0: the clean picture predicted from it.
    """

    step: int
    t: float
    xt: Image.Image
    x0: Image.Image


class Trajectory:
    """Keeps the steps of pictures while they are drawn: the ``on_step`` of a generator.

    Keeps pixels of 8 bits, on the CPU: at most 60 steps a picture, 1.5 MB at 64 x 64 pixels. Many pictures are best
    streamed, and their frames taken after each batch.

    Args:
        steps: of each picture, ``Generator.steps``. Of more than ``MAX_FRAMES``, as many are kept, evenly chosen.
    """

    def __init__(self, steps: int) -> None:
        self.kept = frozenset(evenly(steps, MAX_FRAMES))
        self._batches: list[list[_Shot]] = []

    def __call__(self, step: Step) -> None:
        """Keep a step of all images of a batch; step 0 begins the next batch."""
        if step.number == 0:
            self._batches.append([])
        if step.number in self.kept:
            self._batches[-1].append(_Shot(step.number, step.t, denormalise(step.x), denormalise(step.x0)))

    def take(self) -> list[list[Frame]]:
        """Return the frames of each picture drawn since the last call, in the order of the pictures."""
        taken = [frames for batch in self._batches for frames in _by_image(batch)]
        self._batches = []
        return taken


@dataclass(frozen=True)
class _Shot:
    """One step of a batch, its pixels uint8 (n, channels, size, size)."""

    step: int
    t: float
    xt: Tensor
    x0: Tensor


def _by_image(batch: Sequence[_Shot]) -> list[list[Frame]]:
    developed = [(shot, to_images(shot.xt), to_images(shot.x0)) for shot in batch]
    return [[Frame(shot.step, shot.t, xt[i], x0[i]) for shot, xt, x0 in developed] for i in range(len(batch[0].xt))]


def strip(frames: Sequence[Frame], columns: int = COLUMNS) -> Image.Image:
    """Draw a picture's steps on one sheet: the noisy pictures above, and below what was predicted from each.

    Args:
        frames: at least one.
        columns: how many to show, evenly chosen, the first and the last among them.
    """
    shown = [frames[i] for i in evenly(len(frames), columns)]
    rows = [[frame.xt for frame in shown], [frame.x0 for frame in shown]]
    heads = [f"step {frame.step + 1}, t = {frame.t:.2f}" for frame in shown]
    return sample_grid(rows, ["noisy picture xt", "predicted picture x0"], _cell(frames), heads)


def animation(frames: Sequence[Frame]) -> bytes:
    """Return the steps as a GIF, the noisy picture beside the predicted one, that starts over after a pause.

    Args:
        frames: at least one.
    """
    pages = [_page(frame, _cell(frames)) for frame in frames]
    # Pillow's best choice of 256 colours takes longer than the painting: only for the page that stays to be looked at.
    pages = [page.quantize(method=Image.Quantize.FASTOCTREE) for page in pages[:-1]] + [pages[-1].quantize()]
    durations = [FRAME_MILLISECONDS] * (len(pages) - 1) + [PAUSE_MILLISECONDS]
    file = io.BytesIO()
    pages[0].save(file, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)
    return file.getvalue()


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers from 0 to ``count - 1``, evenly chosen, the last among them."""
    if count <= most or most < 2:
        return list(range(count))[-most:]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _page(frame: Frame, cell: int) -> Image.Image:
    """Draw the noisy picture and the predicted one side by side."""
    page = Image.new("RGB", (2 * cell + MARGIN, cell), "white")
    for left, picture in ((0, frame.xt), (cell + MARGIN, frame.x0)):
        page.paste(scaled(picture.convert("RGB"), cell), (left, 0))
    return page


def _cell(frames: Sequence[Frame]) -> int:
    return max(CELL, frames[0].x0.width)

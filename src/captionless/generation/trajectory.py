"""Denoising trajectories: how an image emerges from noise, as a strip of steps and as an animation.

    (image,) = generator.generate("a daisy", trajectory=True)
    image.trajectory.strip().save("daisy-trajectory.png")

Every step leads from a noisy image ``xt`` through ``x0``, the clean image that is predicted from it. The prediction of
the last step is the finished image. The steps of a super-resolution stage follow those of the base model, whose smaller
images are drawn at the same size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from captionless.data.arrays import denormalise
from captionless.diffusion.reverse import Step
from captionless.generation.grids import MARGIN, resize_to_cell, sample_grid
from captionless.generation.sample import to_images

CELL = 128
"""Least side of a drawn image, in pixels."""
MAX_FRAMES = 60
"""Most steps that are kept of an image."""
FRAME_MILLISECONDS, PAUSE_MILLISECONDS = 120, 2500


@dataclass(frozen=True)
class Frame:
    """One denoising step of an image: its number, its time ``t``, the noisy image, and the image predicted from it."""

    step: int
    t: float
    xt: Image.Image
    x0: Image.Image


@dataclass(frozen=True)
class Trajectory:
    """The denoising steps of one image: at most 60, evenly chosen."""

    frames: tuple[Frame, ...]

    def strip(self, columns: int = 10) -> Image.Image:
        """Draw the noisy images in one row and the predictions in a second, at most ``columns`` of each."""
        shown = [self.frames[i] for i in choose_frames(len(self.frames), columns)]
        rows = [[frame.xt for frame in shown], [frame.x0 for frame in shown]]
        heads = [f"step {frame.step + 1}, t = {frame.t:.2f}" for frame in shown]
        return sample_grid(rows, ["noisy image xt", "predicted image x0"], self._cell, heads)

    def animation(self) -> bytes:
        """Return a GIF of the noisy image next to the predicted one, which repeats after a pause."""
        pages = [self._page(frame) for frame in self.frames]
        # Pillow's best choice of 256 colours takes longer than sampling, so only the last page, shown longest, gets it.
        pages = [page.quantize(method=Image.Quantize.FASTOCTREE) for page in pages[:-1]] + [pages[-1].quantize()]
        durations = [FRAME_MILLISECONDS] * (len(pages) - 1) + [PAUSE_MILLISECONDS]
        file = io.BytesIO()
        pages[0].save(file, format="GIF", save_all=True, append_images=pages[1:], duration=durations, loop=0)
        return file.getvalue()

    def _page(self, frame: Frame) -> Image.Image:
        cell = self._cell
        page = Image.new("RGB", (2 * cell + MARGIN, cell), "white")
        for left, image in ((0, frame.xt), (cell + MARGIN, frame.x0)):
            page.paste(resize_to_cell(image.convert("RGB"), cell), (left, 0))
        return page

    @property
    def _cell(self) -> int:
        return max(CELL, self.frames[0].x0.width)


class TrajectoryRecorder:
    """Records the steps of every image that a generator samples, as its ``on_step``.

    Of the ``steps`` per image at most ``MAX_FRAMES`` are kept, evenly chosen, as pixels of 8 bits.
    """

    def __init__(self, steps: int) -> None:
        self._kept = frozenset(choose_frames(steps, MAX_FRAMES))
        self._steps: list[Step] = []

    def record(self, step: Step) -> None:
        """Keep one step of all images of a batch, if it is among the chosen ones."""
        if step.number in self._kept:
            self._steps.append(Step(step.number, step.t, denormalise(step.x), denormalise(step.x0)))

    def take(self) -> list[Trajectory]:
        """Return the trajectories of the images recorded since the last call, and clear the recorder."""
        images = [
            [Frame(step, t, *pair) for pair in zip(to_images(xt), to_images(x0), strict=True)]
            for step, t, xt, x0 in self._steps
        ]
        self._steps = []
        return [Trajectory(frames) for frames in zip(*images, strict=True)]


def choose_frames(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of the numbers from 0 to ``count - 1``, evenly spaced, the last one included."""
    return [round(i) for i in np.linspace(count - 1, 0, min(count, most))[::-1]]

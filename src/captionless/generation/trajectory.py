"""Denoising trajectories, which show the steps from noise to image as a strip or an animation.

    (image,) = generator.generate("a daisy", trajectory=True)
    image.trajectory.strip().save("daisy-trajectory.png")

Every step has a noisy image ``xt`` and the clean image ``x0`` predicted from it. The prediction of the last step is the
final image. The steps of a super-resolution stage follow those of the base model, whose images are enlarged to the same
size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from captionless.data.arrays import denormalise
from captionless.diffusion.sampler_run import Step
from captionless.generation.grids import MARGIN, resize_to_cell, sample_grid
from captionless.generation.sample import to_images
from captionless.generation.stage import ImageStep

CELL = 128
"""Minimum side length of a drawn image, in pixels."""
MAX_FRAMES = 60
"""Maximum number of steps that are kept per image."""
FRAME_MILLISECONDS, PAUSE_MILLISECONDS = 120, 2500


@dataclass(frozen=True)
class Frame:
    """One denoising step of an image: its index, its time ``t``, the noisy image, and the predicted clean image."""

    step: int
    t: float
    xt: Image.Image
    x0: Image.Image


@dataclass(frozen=True)
class Trajectory:
    """The denoising steps of one image, at most 60, evenly spaced."""

    frames: tuple[Frame, ...]

    def strip(self, columns: int = 10) -> Image.Image:
        """Draw a row of noisy images and a row of predictions, for at most ``columns`` evenly spaced steps."""
        shown = [self.frames[i] for i in choose_frames(len(self.frames), columns)]
        rows = [[frame.xt for frame in shown], [frame.x0 for frame in shown]]
        heads = [f"step {frame.step + 1}, t = {frame.t:.2f}" for frame in shown]
        return sample_grid(rows, ["noisy image xt", "predicted image x0"], self._cell, heads)

    def animation(self) -> bytes:
        """Return a looping GIF that shows the noisy image next to the predicted image."""
        pages = [self._page(frame) for frame in self.frames]
        # Pillow's default quantisation takes longer than sampling, so it is only used for the last page.
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
    """Record the steps of all images that a generator samples; ``record`` is used as its ``on_step``.

    Of the ``steps`` per image, at most ``MAX_FRAMES`` evenly spaced steps are kept, as 8-bit images.
    """

    def __init__(self, steps: int) -> None:
        self._kept = frozenset(choose_frames(steps, MAX_FRAMES))
        self._steps: list[Step] = []

    def record(self, step: ImageStep) -> None:
        """Keep a step of all images of a batch, if it is among the steps to keep."""
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
    """Return at most ``most`` evenly spaced indices from 0 to ``count - 1``, including the last."""
    return [round(i) for i in np.linspace(count - 1, 0, min(count, most))[::-1]]

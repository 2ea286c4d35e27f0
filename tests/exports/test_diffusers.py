"""The contract of captionless.exports.diffusers: the same images as ours, also with other schedulers of diffusers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from huggingface_hub import ModelCard
from PIL import Image

import captionless
import encoder_factory
import tiny
from captionless.checkpoints.config import EncoderReference
from captionless.checkpoints.model import Model
from captionless.diffusion.schedules import AnySchedule, CosineSchedule, FlowSchedule, LinearSchedule
from captionless.errors import CaptionlessError
from captionless.exports.diffusers import CaptionlessPipeline, make_pipeline
from captionless.generation.generator import Generator

Run = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def cascade(folder: Path, schedule: AnySchedule = CosineSchedule()) -> Path:  # noqa: B008  # it is frozen
    """A class-conditional model with a super-resolution stage."""
    base = tiny.class_model()
    base = replace(base, config=replace(base.config, schedule=schedule))
    network = tiny.denoiser(condition_width=2, low_res_channels=4)
    config = replace(base.config, size=16, denoiser=network.config, base_size=8)
    tiny.saved(Model("tiny", config, network, base.bank), folder)
    tiny.saved(base, folder / "base")
    return folder


def worded(folder: Path) -> Path:
    """A model with a small encoder in a folder."""
    encoder = encoder_factory.small_pair(folder.parent / "words")
    known = captionless.load_encoder(str(encoder), "cpu")
    reference = EncoderReference(str(encoder), known.digest, known.width, known.logit_scale)
    network = tiny.denoiser(condition_width=known.width)
    config = replace(tiny.model().config, denoiser=network.config, encoder=reference)
    return tiny.saved(Model("tiny", config, network, tiny.unit_vectors(12, known.width)), folder)


def deviation(theirs: list[Any], ours: list[captionless.GeneratedImage]) -> float:
    """Return the largest difference of two lists of images, in levels of 255."""
    assert len(theirs) == len(ours)
    pairs = zip(theirs, (one.image for one in ours), strict=True)
    return max(np.abs(np.asarray(a, float) - np.asarray(b, float)).max() for a, b in pairs)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pipe(tmp_path: Path) -> tuple[Any, Generator]:
    """A cascade as a pipeline, and as it is."""
    return pipeline(tmp_path / "run")


def pipeline(folder: Path, **options: Any) -> tuple[Any, Generator]:
    generator = captionless.load(cascade(folder, **options), device="cpu")
    pipe = make_pipeline(generator)
    pipe.set_progress_bar_config(disable=True)
    return pipe, generator


@pytest.mark.parametrize(
    "schedule", [CosineSchedule(), LinearSchedule(), LinearSchedule(zero_terminal_snr=True), FlowSchedule()]
)
def test_images_are_ours_for_any_number_of_steps_and_any_schedule(tmp_path: Path, schedule: AnySchedule) -> None:
    theirs, ours = pipeline(tmp_path / "run", schedule=schedule)
    for steps in (7, 15):
        images = theirs(["rose", "daisy"], 3, steps, 3.0, generator=seeded(7)).images
        expected = ours.generate(["rose", "daisy"], 3, seed=7, steps=steps, guidance=2, precision="float32")
        assert deviation(images, expected) <= 1


@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [(DDIMScheduler, "ddim"), (DPMSolverMultistepScheduler, "dpmpp-2m"), (EulerDiscreteScheduler, "euler")],
)
def test_a_scheduler_of_diffusers_gives_the_images_of_our_sampler(
    pipe: tuple[Any, Generator], scheduler: Any, sampler: Any
) -> None:
    theirs, ours = pipe
    theirs.scheduler = scheduler.from_config(theirs.scheduler.config)
    images = theirs("rose", 3, 20, 3.0, generator=seeded(7)).images
    assert deviation(images, ours.generate("rose", 3, seed=7, steps=20, guidance=2, sampler=sampler)) <= 2


def test_stochastic_schedulers_draw_from_the_generator_of_each_image(pipe: tuple[Any, Generator]) -> None:
    theirs, _ = pipe
    theirs.scheduler = DPMSolverMultistepScheduler.from_config(
        theirs.scheduler.config, algorithm_type="sde-dpmsolver++"
    )
    several = theirs("rose", 3, 10, generator=seeded(7), output_type="pt").images
    alone = theirs("rose", 1, 10, generator=[seeded(9)], output_type="pt").images
    torch.testing.assert_close(several[2:], alone, atol=1e-4, rtol=0)


def test_seeds_of_64_bits_are_taken_modulo_32(pipe: tuple[Any, Generator]) -> None:
    theirs, _ = pipe
    large = [torch.Generator(), seeded(2**32 + 7), seeded(-1)]
    large[0].seed()  # as of a generator that nobody has seeded
    small = [seeded(one.initial_seed() % 2**32) for one in large]
    found, wanted = (theirs("rose", 3, 2, generator=given).images for given in (large, small))
    assert [one.tobytes() for one in found] == [one.tobytes() for one in wanted]
    after = theirs("rose", 2, 2, generator=seeded(2**32 - 1)).images
    last, first = (theirs("rose", 1, 2, generator=seeded(seed)).images[0] for seed in (2**32 - 1, 0))
    assert np.abs(np.stack(after).astype(int) - np.stack([last, first])).max() <= 1


def test_a_folder_is_a_pipeline_with_a_card_and_credits(run: Run, tmp_path: Path) -> None:
    folder = cascade(tmp_path / "private" / "run")
    (folder / "CREDITS.csv").write_text("file,author\n")
    (folder / "base" / "CREDITS.csv").write_text("file,author\n1.png,Ada\n")
    assert run("export", str(folder), "--to", "diffusers", "--out", "pipe", "--prompt", "rose") == 0
    pipe = DiffusionPipeline.from_pretrained("pipe")
    assert type(pipe) is CaptionlessPipeline
    ours = captionless.load(folder, device="cpu").generate("rose", 2, seed=3, precision="float32")
    assert deviation(pipe("rose", 2, generator=seeded(3)).images, ours) <= 1
    card = ModelCard.load(tmp_path / "pipe" / "README.md")
    assert card.data.library_name == "diffusers"
    assert "DiffusionPipeline.from_pretrained('pipe')" in card.text
    assert (tmp_path / "pipe" / "base" / "CREDITS.csv").read_text() == "file,author\n1.png,Ada\n"
    for path in (path for path in (tmp_path / "pipe").rglob("*") if path.is_file()):
        assert b"private" not in path.read_bytes(), path


def test_an_encoder_in_a_folder_comes_along(run: Run, tmp_path: Path) -> None:
    folder = worded(tmp_path / "run")
    ours = captionless.load(folder, device="cpu").generate(
        "a red rose", seed=3, precision="float32", composition=captionless.Composition(negative="cat")
    )
    assert run("export", str(folder), "--to", "diffusers", "--out", "pipe", "--prompt", "a red rose") == 0
    shutil.rmtree(tmp_path / "words")
    pipe = DiffusionPipeline.from_pretrained("pipe")
    assert deviation(pipe("a red rose", generator=seeded(3), negative_prompt="cat").images, ours) <= 1
    pipe.save_pretrained("again")
    shutil.rmtree(tmp_path / "pipe")
    assert DiffusionPipeline.from_pretrained("again")("a red rose", num_inference_steps=1).images


def test_weights_of_half_precision_give_nearly_the_same_images(pipe: tuple[Any, Generator]) -> None:
    theirs, ours = pipe
    expected = ours.generate("rose", 2, seed=3, steps=5, precision="float32")
    images = theirs.to(torch.bfloat16)("rose", 2, 5, generator=seeded(3), output_type="np").images
    wanted = np.stack([np.asarray(one.image) / 255 for one in expected])
    assert np.abs(images - wanted).mean() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "ddim"}, "`sampler` is up to the scheduler"),
        ({"generator": [seeded(1)], "num_images_per_prompt": 2}, "2 images and 1 generators"),
        ({"varieti": 1}, "there is no setting `varieti`"),
        ({"size": 12}, "8 or 16 pixels, not 12"),
        ({"prompt": "tulip"}, "tulip"),
    ],
)
def test_a_call_that_cannot_be_fulfilled_is_refused(
    pipe: tuple[Any, Generator], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(CaptionlessError, match=message):
        pipe[0](**{"prompt": "rose", **arguments})


def test_a_scheduler_of_another_model_is_refused(pipe: tuple[Any, Generator]) -> None:
    pipe[0].scheduler = DDIMScheduler()
    with pytest.raises(CaptionlessError, match=r"DDIMScheduler.from_config\(pipe.scheduler.config\)"):
        pipe[0]("rose")


@pytest.mark.slow
def test_a_fresh_process_loads_the_bundled_model_and_makes_its_images(run: Run, tmp_path: Path) -> None:
    assert run("export", "bundled", "--to", "diffusers", "--out", "pipe", "--prompt", "a red rose") == 0
    code = """
        import torch, captionless.exports.diffusers
        from diffusers import DiffusionPipeline
        pipe = DiffusionPipeline.from_pretrained("pipe")
        images = pipe("a red rose", 2, generator=torch.Generator().manual_seed(7), precision="float32").images
        images[1].save("theirs.png")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    ours = captionless.load("bundled", device="cpu").generate("a red rose", 2, seed=7, precision="float32")
    with Image.open(tmp_path / "theirs.png") as theirs:
        assert deviation([theirs], ours[1:]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "sampler", "most"),
    [(None, "dpmpp-2m", 1), (DDIMScheduler, "ddim", 2), (DPMSolverMultistepScheduler, "dpmpp-2m", 7)],
)
def test_the_bundled_model_deviates_no_more_than_the_documentation_says(
    scheduler: Any, sampler: Any, most: int
) -> None:
    ours = captionless.load(device="cpu")
    settings: dict[str, Any] = {"precision": "float32"} if scheduler is None else {"precision": "float32", "size": 64}
    steps = 15 if scheduler is None else 20
    theirs = make_pipeline(ours)
    if scheduler is not None:
        theirs.scheduler = scheduler.from_config(theirs.scheduler.config)
    expected = ours.generate("a red rose", 5, seed=7, steps=steps, sampler=sampler, **settings)
    for batch in (1, 2, 5):
        images = theirs("a red rose", batch, steps, generator=seeded(7), **settings).images
        assert deviation(images, expected[:batch]) <= most

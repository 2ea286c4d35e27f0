"""The contract of the course preset: what introductory courses on diffusion build, train and sample."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tiny
from captionless.checkpoints.config import EncoderReference, ModelConfig, TrainingRecord
from captionless.config.presets import COURSE_TRAINING
from captionless.config.sampling import SamplingConfig
from captionless.config.training import TrainConfig
from captionless.diffusion.sampler_run import Step
from captionless.generation.sample import Stage, sample_batches
from captionless.models.presets import course_denoiser
from captionless.models.unet import Denoiser
from captionless.training.network import network_config, noise_schedule
from captionless.training.randomness import Stream
from captionless.training.resolve import resolve_settings
from captionless.training.start import Start
from captionless.training.state import begin_state
from captionless.training.step import Batch, step_loss

CLASSES = 10
SMALL = TrainConfig(**{**COURSE_TRAINING, "size": 8, "width": 16, "flip": False})


class Operations(TorchFunctionMode):
    """Notes the name of every function of PyTorch that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def whole() -> Denoiser:
    """The network at its true size."""
    return Denoiser(course_denoiser(CLASSES)).eval().requires_grad_(False)


def answer(network: Denoiser, size: int) -> Tensor:
    shape = network.config
    return network(tiny.random(2, shape.channels, size, size), tiny.uniform(2), torch.zeros(2, shape.condition_width))


# --- the network ---


def test_it_is_built_for_classes_and_for_vectors_of_clip(whole: Denoiser) -> None:
    clip = Denoiser(course_denoiser(512, channels=1))
    assert (whole.embedding.condition.in_features, clip.embedding.condition.in_features) == (CLASSES, 512)
    assert answer(whole, 8).shape == (2, 3, 8, 8)
    assert answer(clip, 4).shape == (2, 1, 4, 4)


def test_its_levels_have_256_256_and_512_channels_each_at_half_the_size_of_the_last(whole: Denoiser) -> None:
    seen: list[tuple[int, ...]] = []
    levels = [level[0] for way in (whole.down, whole.up) for level in way.children()]  # type: ignore[index]
    hooks = [
        level.register_forward_pre_hook(lambda block, inputs: seen.append(tuple(inputs[0].shape[1:])))
        for level in levels
    ]
    answer(whole, 16)
    for hook in hooks:
        hook.remove()
    down = [(256, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert seen == [*down, *reversed(down)]


def test_it_is_made_of_gelu_group_normalisation_and_rearranged_pixels_without_attention() -> None:
    network = Denoiser(replace(course_denoiser(CLASSES), width=16))
    with torch.no_grad(), Operations() as operations:
        answer(network, 8)
    used = set(operations.names)
    assert {"gelu", "group_norm", "pixel_unshuffle", "cos", "sin"} <= used
    assert not {name for name in used if name in ("silu", "relu", "softmax") or "attention" in name}
    assert not {name for name in used if "pool" in name or "batch_norm" in name}
    assert operations.names.count("gelu") == 2 * (3 + 2 + 3) + 3 + 1  # blocks, embedding, head


def test_eight_sines_and_cosines_tell_the_time(whole: Denoiser) -> None:
    assert whole.embedding.time.in_features == 8


# --- training and sampling ---


def classes(n: int) -> tuple[Tensor, Tensor]:
    """Pictures of one grey value each, and their class: dark or bright."""
    which = torch.arange(n) % 2
    x0 = (1.4 * which - 0.7).reshape(-1, 1, 1, 1).expand(n, 3, 8, 8)
    return x0, F.one_hot(which, CLASSES).float()


def losses(network: nn.Module, steps: int, optimizer: torch.optim.Optimizer | None) -> Tensor:
    """The losses of some steps, in which the network learns if it is given an optimiser."""
    schedule, found = noise_schedule(SMALL), []
    for step in range(steps):
        x0, condition = classes(16)
        stream = Stream(0, torch.arange(16 * step, 16 * step + 16))
        loss = step_loss(network, schedule, Batch(x0, condition), SMALL.replace(batch=16), stream)
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


@pytest.fixture(scope="module")
def trained() -> Denoiser:
    torch.manual_seed(0)
    training = begin_state(Denoiser(network_config(Start(), SMALL, CLASSES)).train(), SMALL, noise_schedule(SMALL))
    for group in training.optimizer.param_groups:
        group["lr"] = 5e-3
    losses(training.network, 60, training.optimizer)
    return training.network.eval().requires_grad_(False)


def test_the_noise_in_a_toy_batch_is_soon_predicted(trained: Denoiser) -> None:
    """Before, the network answers 0, which is off by the variance of the noise: 1."""
    assert float(losses(Denoiser(trained.config), 4, None).mean()) == pytest.approx(1, abs=0.02)
    assert float(losses(trained, 4, None).mean()) < 0.25


def test_ddpm_samples_the_class_asked_for_in_as_many_steps_as_it_was_trained_on(trained: Denoiser) -> None:
    reference = EncoderReference("classes", "0" * 64, CLASSES, 20.0)
    config = ModelConfig(8, trained.config, reference, noise_schedule(SMALL), SMALL.prediction)
    steps: list[int] = []

    def finite(step: Step) -> None:
        steps.append(step.number)
        assert step.x.isfinite().all()
        assert step.x0.isfinite().all()
        assert step.t == pytest.approx(1 - step.number / 150)

    sampling = SamplingConfig(guidance=0.0, steps=SMALL.schedule_steps, sampler="ddpm", threshold="none")
    _, condition = classes(6)
    (pixels,) = sample_batches([Stage(trained, config)], condition, [0, 0, 1, 1, 2, 2], sampling, on_step=finite)
    assert steps == list(range(150))
    # From the same noise. (How dark and how bright is left to it as well: after 150 steps much of a image is still to
    # be seen at t = 1, so that the network takes pure noise for a image.)
    dark, bright = pixels.float().mean((1, 2, 3)).reshape(3, 2).T
    assert (bright - dark).min() > 10


def test_begun_from_a_course_model_it_stays_one_at_a_larger_size() -> None:
    small = TrainConfig(**(COURSE_TRAINING | {"size": 16, "width": 32}))
    encoder = EncoderReference("fake", "0" * 64, tiny.WIDTH, 20.0)
    network = replace(course_denoiser(tiny.WIDTH), width=32)
    config = ModelConfig(16, network, encoder, training=TrainingRecord(settings=small.model_dump(mode="json")))
    start = Start(config, "course")
    larger = resolve_settings(start, {"size": 32})
    assert (larger.network, larger.mask, larger.prediction, larger.schedule_steps) == ("course", "element", "eps", 150)
    assert network_config(start, larger, tiny.WIDTH) == network

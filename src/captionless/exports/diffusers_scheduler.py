"""Our default sampler as a scheduler of diffusers, whose config makes other schedulers fit a model of captionless."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from captionless.diffusion.reverse import ReverseProcess, Sampling
from captionless.diffusion.samplers import dpmpp_2m
from captionless.diffusion.schedules import Schedule, sampling_times
from captionless.generation.sample import TRACE

TIMES = 1200
"""Training steps that schedulers count; a multiple of most numbers of sampling steps, whose times are then exact."""


@dataclass(frozen=True)
class _TableSchedule:
    """A variance-preserving noise schedule with the log-SNR ``values`` at the times 1/n, 2/n, ..., 1."""

    values: Tensor

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(alpha, sigma)`` at times ``t``."""
        place = t * len(self.values) - 1
        below = place.floor().clamp(0, len(self.values) - 2).long()
        log_snr = torch.lerp(self.values[below], self.values[below + 1], place - below)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


class CaptionlessScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Our sampler ``dpmpp-2m``. Schedulers of diffusers can be made from its config.

    Args:
        trained_betas: the noise schedule, in the form that schedulers of diffusers read.
        num_train_timesteps: number of betas.
        prediction_type: what `step` is given: the predicted clean images, called ``sample`` in diffusers.
        timestep_spacing: the even spacing of steps from pure noise on, as diffusers calls it.
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        trained_betas: list[float],
        num_train_timesteps: int = TIMES,
        prediction_type: str = "sample",
        timestep_spacing: str = "trailing",
    ) -> None:
        alpha_bar = (1 - torch.tensor(trained_betas, dtype=torch.float64)).cumprod(0)
        self.schedule = _TableSchedule(alpha_bar.logit())
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Start a new sampling with this number of steps."""
        times = sampling_times(num_inference_steps)
        pure = float(self.schedule.alpha_sigma(times[:1])[0]) < TRACE
        self._process = ReverseProcess(self.schedule, times, pure=pure)
        self._sampling: Sampling | None = None
        self.timesteps = (times[:-1] * TIMES - 1).float().to(device)

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Return the noisy images as they are."""
        return sample

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = True) -> Any:
        """Return the noisy images at the end of a step, given the clean images predicted at its start."""
        if self._sampling is None:
            self._sampling = dpmpp_2m(sample, self._process)
            next(self._sampling)
        try:
            sample, _ = self._sampling.send(model_output)
        except StopIteration as end:
            sample = end.value
        return SchedulerOutput(sample) if return_dict else (sample,)


def make_scheduler(schedule: Schedule) -> CaptionlessScheduler:
    """Return the scheduler for a model with this noise schedule."""
    alpha, sigma = schedule.alpha_sigma(torch.arange(1, TIMES + 1, dtype=torch.float64) / TIMES)
    alpha_bar = alpha**2 / (alpha**2 + sigma**2)
    if alpha[-1] < TRACE:  # pure noise to our samplers; 0 would be an infinite noise level to others
        alpha_bar[-1] = 2.0**-24
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    scheduler: CaptionlessScheduler = CaptionlessScheduler(  # all by name, else other schedulers do not take them over
        trained_betas=betas.tolist(),
        num_train_timesteps=TIMES,
        prediction_type="sample",
        timestep_spacing="trailing",
    )
    return scheduler

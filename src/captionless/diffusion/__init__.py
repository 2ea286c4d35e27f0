"""Diffusion: noise schedules, the training objective, guidance, and samplers.

A complete example: a small network learns two point clouds, one per class, and is sampled with classifier-free
guidance. A network is any function ``(xt, t, condition) -> prediction``.

    import torch
    from captionless.diffusion import (
        CosineSchedule, ReverseProcess, add_noise, ddim, guide, run_sampler, sampling_times, to_x0
    )

    torch.manual_seed(0)
    schedule = CosineSchedule()  # xt = alpha(t) * x0 + sigma(t) * eps, from image (t = 0) to noise (t = 1)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
    optimiser = torch.optim.Adam(layers.parameters(), lr=1e-2)
    classes = torch.eye(2)  # conditions; zeros are the null condition

    def network(xt, t, c):  # each point is an image with 2 channels and 1 pixel
        return layers(torch.cat([xt.flatten(1), t[:, None], c], dim=1)).reshape(xt.shape)

    for _ in range(300):  # training: predict v from xt, with the condition dropped with probability 0.1
        c = classes[torch.randint(2, (256,))]
        x0 = (c @ torch.tensor([[-0.7, 0.0], [0.7, 0.0]]) + 0.1 * torch.randn(256, 2)).reshape(256, 2, 1, 1)
        t, eps = torch.rand(256), torch.randn_like(x0)
        alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in schedule.alpha_sigma(t))
        c = c * (torch.rand(256, 1) > 0.1)
        v = alpha * eps - sigma * x0
        loss = (network(add_noise(schedule, x0, eps, t), t, c) - v).square().mean()
        optimiser.zero_grad(), loss.backward(), optimiser.step()

    @torch.no_grad()
    def denoise(xt, t):  # the predicted x0, guided towards class 1
        times, c = t.float().expand(len(xt)), classes[1].expand(len(xt), 2)
        v = guide(network(xt, times, c), network(xt, times, 0 * c), w=1.0)  # (1 + w) * cond - w * uncond
        return to_x0("v", xt, v, *(float(value) for value in schedule.alpha_sigma(t)))

    process = ReverseProcess(schedule, sampling_times(steps=20))
    points = run_sampler(ddim(torch.randn(500, 2, 1, 1), process), denoise)  # around (1, 0), slightly beyond class 1

``denoising_loss`` and ``guided_denoiser`` implement this loss and this denoiser with all options.
"""

from captionless.diffusion.guidance import Guidance as Guidance
from captionless.diffusion.guidance import GuidedPrediction as GuidedPrediction
from captionless.diffusion.guidance import WeightedCondition as WeightedCondition
from captionless.diffusion.guidance import dynamic_threshold as dynamic_threshold
from captionless.diffusion.guidance import guide as guide
from captionless.diffusion.guidance import guided_denoiser as guided_denoiser
from captionless.diffusion.guidance import rescale as rescale
from captionless.diffusion.objective import denoising_loss as denoising_loss
from captionless.diffusion.objective import drop_condition as drop_condition
from captionless.diffusion.objective import mask_condition as mask_condition
from captionless.diffusion.objective import noise_condition as noise_condition
from captionless.diffusion.objective import stratified_times as stratified_times
from captionless.diffusion.objective import target as target
from captionless.diffusion.objective import to_eps as to_eps
from captionless.diffusion.objective import to_x0 as to_x0
from captionless.diffusion.objective import training_times as training_times
from captionless.diffusion.reverse import NoiseLevel as NoiseLevel
from captionless.diffusion.reverse import ReverseProcess as ReverseProcess
from captionless.diffusion.reverse import Sampling as Sampling
from captionless.diffusion.sampler_run import SamplerRun as SamplerRun
from captionless.diffusion.sampler_run import Step as Step
from captionless.diffusion.sampler_run import advance as advance
from captionless.diffusion.sampler_run import run_sampler as run_sampler
from captionless.diffusion.samplers import SAMPLERS as SAMPLERS
from captionless.diffusion.samplers import ddim as ddim
from captionless.diffusion.samplers import ddpm as ddpm
from captionless.diffusion.samplers import dpmpp_2m as dpmpp_2m
from captionless.diffusion.samplers import dpmpp_2m_sde as dpmpp_2m_sde
from captionless.diffusion.samplers import euler as euler
from captionless.diffusion.samplers import euler_ancestral as euler_ancestral
from captionless.diffusion.samplers import heun as heun
from captionless.diffusion.samplers import unipc as unipc
from captionless.diffusion.schedules import CosineSchedule as CosineSchedule
from captionless.diffusion.schedules import FlowSchedule as FlowSchedule
from captionless.diffusion.schedules import KarrasSchedule as KarrasSchedule
from captionless.diffusion.schedules import LinearSchedule as LinearSchedule
from captionless.diffusion.schedules import Schedule as Schedule
from captionless.diffusion.schedules import SigmoidSchedule as SigmoidSchedule
from captionless.diffusion.schedules import add_noise as add_noise
from captionless.diffusion.schedules import karras_times as karras_times
from captionless.diffusion.schedules import log_snr as log_snr
from captionless.diffusion.schedules import sampling_times as sampling_times
from captionless.diffusion.schedules import time_at as time_at
from captionless.diffusion.super_resolution import low_res_channels as low_res_channels
from captionless.diffusion.super_resolution import with_low_res as with_low_res

"""Diffusion: noise schedules, the training objective, guidance, and samplers.

The whole method on one screen: two point clouds, told apart by their class, learned by a small network and sampled with
guidance. A network is any function ``(xt, t, condition) -> prediction``.

    import torch
    from captionless.diffusion import (
        CosineSchedule, ReverseProcess, add_noise, ddim, drive, guide, sampling_times, to_x0
    )

    torch.manual_seed(0)
    schedule = CosineSchedule()  # xt = alpha(t) * x0 + sigma(t) * eps, from image (t = 0) to noise (t = 1)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
    optimiser = torch.optim.Adam(layers.parameters(), lr=1e-2)
    classes = torch.eye(2)  # conditions; zeros are the null condition

    def network(xt, t, c):  # a point is an image of 2 channels and 1 pixel
        return layers(torch.cat([xt.flatten(1), t[:, None], c], dim=1)).reshape(xt.shape)

    for _ in range(300):  # training: predict v from xt, with the condition dropped now and then
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
    points = drive(ddim(torch.randn(500, 2, 1, 1), process), denoise)  # around (1, 0): a little beyond class 1

``denoising_loss`` and ``guided_denoiser`` are the loss and the denoiser above with all their options.
"""

from captionless.diffusion.guidance import (
    Guidance,
    GuidedPrediction,
    WeightedCondition,
    dynamic_threshold,
    guide,
    guided_denoiser,
    rescale,
)
from captionless.diffusion.objective import (
    denoising_loss,
    drop_condition,
    mask_condition,
    noise_condition,
    stratified_times,
    target,
    to_eps,
    to_x0,
    training_times,
)
from captionless.diffusion.reverse import (
    NetworkRun,
    NoiseLevel,
    ReverseProcess,
    Run,
    Sampling,
    Step,
    advance,
    drive,
)
from captionless.diffusion.samplers import (
    SAMPLERS,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
    unipc,
)
from captionless.diffusion.schedules import (
    CosineSchedule,
    FlowSchedule,
    KarrasSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
    add_noise,
    karras_times,
    log_snr,
    sampling_times,
    time_at,
)
from captionless.diffusion.super_resolution import low_res_channels, with_low_res

__all__ = [
    "SAMPLERS",
    "CosineSchedule",
    "FlowSchedule",
    "Guidance",
    "GuidedPrediction",
    "KarrasSchedule",
    "LinearSchedule",
    "NetworkRun",
    "NoiseLevel",
    "ReverseProcess",
    "Run",
    "Sampling",
    "Schedule",
    "SigmoidSchedule",
    "Step",
    "WeightedCondition",
    "add_noise",
    "advance",
    "ddim",
    "ddpm",
    "denoising_loss",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "drive",
    "drop_condition",
    "dynamic_threshold",
    "euler",
    "euler_ancestral",
    "guide",
    "guided_denoiser",
    "heun",
    "karras_times",
    "log_snr",
    "low_res_channels",
    "mask_condition",
    "noise_condition",
    "rescale",
    "sampling_times",
    "stratified_times",
    "target",
    "time_at",
    "to_eps",
    "to_x0",
    "training_times",
    "unipc",
    "with_low_res",
]

# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 3: Optimisations
#
# Courses list a number of parts that make a U-Net better: group normalisation, GELU, rearranging instead of pooling,
# sinusoidal time embeddings, residual connections. In this lesson you see what each of them does, and then remove
# them, one at a time, and measure what is lost. Such an experiment is called an *ablation*.
#
# The claim: of the five, at least the residual connections and the smooth activation are worth having, by more than a
# change of the random seed makes. For the other three the lesson computes a verdict, and "brings nothing measurable
# here" is a possible one.

# %%
import time

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from captionless.diffusion import (
    CosineSchedule,
    ReverseProcess,
    denoising_loss,
    dpmpp_2m,
    guided_denoiser,
    run_sampler,
    sampling_times,
    training_times,
)
from captionless.models import (
    Denoiser,
    DenoiserConfig,
    Downsample,
    Parts,
    ResidualBlock,
    Upsample,
    group_norm,
    parameter_count,
    sinusoidal_embedding,
)

x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # (1797, 1, 8, 8), from -1 to 1
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
held_out, learn = x[order[:360]], x[order[360:]]
schedule = CosineSchedule()

# %% [markdown]
# ## 1. Normalisation: by group or by batch
#
# The numbers inside a network, its *activations*, should neither grow nor shrink from layer to layer. A
# *normalisation* layer takes a set of activations, subtracts their mean and divides by their standard deviation; then
# each channel gets a learned factor and a learned shift. The layers differ in what the set is. For activations of
# shape (n, channels, height, width):
#
# - **BatchNorm** ([arXiv:1502.03167](https://arxiv.org/abs/1502.03167)) takes one channel of all n images of the
#   batch.
# - **GroupNorm** ([arXiv:1803.08494](https://arxiv.org/abs/1803.08494)) takes a group of channels (here 16) of one
#   image.
#
# With BatchNorm, the output for an image in training depends on the other images of its batch, and in diffusion these
# have many different noise levels. When the network generates, all images have the same noise level, and the layer
# uses averages that it recorded in training instead. GroupNorm has no such second mode. In the library it is
# `captionless.models.group_norm`.
#
# To see the difference, put the same input into 50 different batches of 8. How far do the outputs for it spread? Each
# line shows one of its activations; there are four.

# %%
layers = {"GroupNorm": group_norm(16), "BatchNorm": nn.BatchNorm2d(16)}
generator = torch.Generator().manual_seed(0)
mine = torch.randn(1, 16, 8, 8, generator=generator)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
moved = {}
for axis, (name, layer) in zip(axes, layers.items(), strict=True):
    # Companions of different strength, as noise levels differ.
    strengths = [0.2 + 2 * torch.rand(7, 1, 1, 1, generator=generator) for _ in range(50)]
    batches = [torch.cat([mine, s * torch.randn(7, 16, 8, 8, generator=generator)]) for s in strengths]
    outputs = torch.stack([layer(batch)[0].detach() for batch in batches])
    moved[name] = float(outputs.std(0).mean())
    axis.plot(outputs[:, 0, 0, :4])
    axis.set(title=f"{name}: spread {moved[name]:.3f}", xlabel="batch", ylabel="four activations")
figure.tight_layout()
plt.show()
assert moved["GroupNorm"] < 1e-5 < 0.05 < moved["BatchNorm"], "only BatchNorm lets other images change the output"

# %% [markdown]
# ## 2. Activation: smooth or with a kink
#
# Without something nonlinear between its layers, a network could only be a linear function. That something is called
# an *activation function*. ReLU, $\max(0, x)$, is the simplest. For negative x its slope is 0, and the layers before
# it learn nothing from such an x. GELU ([arXiv:1606.08415](https://arxiv.org/abs/1606.08415)), $x\,\Phi(x)$ with the
# distribution function $\Phi$ of the normal distribution, and SiLU (the same paper, and
# [arXiv:1710.05941](https://arxiv.org/abs/1710.05941)), $x / (1 + e^{-x})$, are smooth, and have a slope for
# moderately negative x too. `DenoiserConfig.activation` names one of these two.

# %%
values = torch.linspace(-4, 3, 200, requires_grad=True)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4))
for name, activation in {"ReLU": F.relu, "GELU": F.gelu, "SiLU": F.silu}.items():
    (slope,) = torch.autograd.grad(activation(values).sum(), values)
    axes[0].plot(values.detach(), activation(values).detach(), label=name)
    axes[1].plot(values.detach(), slope, label=name)
axes[0].set(title="activation", xlabel="x")
axes[1].set(title="its slope", xlabel="x")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 3. Halving the size: rearrange or pool
#
# On the way down, a U-Net halves height and width. *Max-pooling* keeps the largest of four neighbours and discards
# three. *Rearranging* (space to depth) moves the four into four channels and discards nothing. A 1x1 convolution then
# turns them into c' channels, as many as the next level has: (n, c, 8, 8) → (n, 4c, 4, 4) → (n, c', 4, 4). This is
# `captionless.models.Downsample`, and `Upsample` is its mirror image. The rearranging itself is `nn.PixelUnshuffle`,
# and `nn.PixelShuffle` undoes it.

# %%
digit = held_out[:1]
quarters = F.pixel_unshuffle(digit, 2)  # (1, 4, 4, 4)
shown = {"digit": digit[0, 0]} | {f"channel {k}" if k else "rearranged: 0": quarters[0, k] for k in range(4)}
shown |= {"put back": F.pixel_shuffle(quarters, 2)[0, 0], "max-pooled": F.max_pool2d(digit, 2)[0, 0]}
figure, axes = plt.subplots(1, len(shown), figsize=(11, 1.9))
for axis, (name, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1)
    axis.set_title(name, fontsize=9)
    axis.axis("off")
plt.show()
assert torch.equal(F.pixel_shuffle(quarters, 2), digit), "rearranging loses nothing"
halved = Downsample(16, 32)(torch.zeros(1, 16, 8, 8))
print("Downsample:", tuple(halved.shape), " Upsample:", tuple(Upsample(32, 16)(halved).shape))

# %% [markdown]
# ## 4. Encoding the time: sines and cosines, or t itself
#
# The network needs to know how noisy its input is. The simplest way is to give it t, one number. But then the outputs
# of a linear layer at t = 0.50 and t = 0.52 are almost the same, and it takes large weights to make a difference
# between them. A *sinusoidal embedding* turns t into many numbers instead, slow and fast waves:
#
# $$\left(\cos(\omega_1 t), \ldots, \cos(\omega_k t),\ \sin(\omega_1 t), \ldots, \sin(\omega_k t)\right)$$
#
# with frequencies $\omega$ that grow geometrically from 1 to 1000 (`captionless.models.sinusoidal_embedding`;
# [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), section 3.5, used for time by DDPM). The slow waves
# distinguish early from late, the fast ones a time from its neighbours. On the left is the embedding of all times. On
# the right is how similar that of t = 0.5 is to the others: the cosine of the angle between the two vectors, 1 for
# the same direction, 0 for nothing in common.

# %%
times = torch.linspace(0, 1, 400)
waves = sinusoidal_embedding(times)  # (400, 128)
alike = F.cosine_similarity(waves, sinusoidal_embedding(torch.tensor([0.5])))
figure, axes = plt.subplots(1, 2, figsize=(10, 2.6))
axes[0].imshow(waves.T, aspect="auto", extent=(0, 1, 128, 0), cmap="RdBu")
axes[0].set(xlabel="t", ylabel="64 cosines, 64 sines", title="sinusoidal embedding")
axes[1].plot(times, alike)
axes[1].set(xlabel="t", ylabel="cosine with that of 0.5", ylim=(-0.1, 1.1))
plt.show()

# %% [markdown]
# The embedding goes through two linear layers, and every block then turns it into a scale and a shift for each of its
# channels. Whether the encoding of the time matters here is another question: how noisy the input is can also be
# *seen* in it.
#
# ## 5. Residual connections: around the block, or through it
#
# A residual block ([arXiv:1512.03385](https://arxiv.org/abs/1512.03385)) adds what it computes to its input:
# $h \leftarrow h + f(h)$. In the library's `captionless.models.ResidualBlock`, moreover, the weights of the last
# layer of $f$ start at zero, so that a new block changes nothing at all. Without the addition, $h \leftarrow f(h)$,
# everything must pass through every block, and random blocks distort it.
#
# A block without the connection takes a few lines: the output of the library's block, minus its input, is $f$. It
# cannot start at zero, since then nothing would ever pass, so this variant loses the start at zero as well.
# (`embedding` is the vector made from the time and the condition.)

# %%


class PlainBlock(ResidualBlock):
    """The residual block without what makes it one."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.conv2.reset_parameters()  # random, as in any convolution, instead of zero

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return super().forward(x, embedding) - x


# %% [markdown]
# Two inputs that have nothing in common (cosine about 0) go through 30 untrained blocks. Residual blocks pass them on
# as they are, since their $f$ is zero at first. Plain blocks make them more and more alike: after a deep
# stack, it is harder to tell which input it was.

# %%
torch.manual_seed(0)
figure, axis = plt.subplots(figsize=(6, 2.6))
similar = {}
for name, block in {"residual": ResidualBlock, "plain": PlainBlock}.items():
    h, curve = torch.randn(2, 16, 8, 8), []
    with torch.no_grad():
        for _ in range(30):
            h = block(16, 64)(h, torch.zeros(2, 64))
            curve.append(float(F.cosine_similarity(h[0].flatten(), h[1].flatten(), dim=0)))
    axis.plot(range(1, 31), curve, label=name)
    similar[name] = sum(curve[-10:]) / 10
axis.set(xlabel="blocks", ylabel="cosine of the two", ylim=(-0.1, 1.1))
axis.legend()
plt.show()
# Chance alone: 1 / sqrt(1024) = 0.03 for two independent inputs.
assert abs(similar["residual"]) < 0.15 < 0.5 < similar["plain"], "plain blocks make different inputs alike"

# %% [markdown]
# ## 6. The ablation
#
# All this is good reasoning, but none of it says how much a part is worth. So train the full network with all five
# parts, and five others in which one part is replaced by what it is said to improve on. `Denoiser(config, parts)`
# takes the parts as arguments (`captionless.models.Parts`, whose defaults are those of the full network), so each
# variant is one line. The network is a small U-Net with two levels, 8 x 8 and 4 x 4.


# %%
class Pool(nn.Sequential):
    """Halve by max-pooling, then a 1x1 convolution, as in ``Downsample``."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.MaxPool2d(2), nn.Conv2d(channels, out_channels, 1))


FULL = "full"
VARIANTS = {
    FULL: Parts(),
    "BatchNorm": Parts(norm=nn.BatchNorm2d),
    "ReLU": Parts(activation=F.relu),
    "max-pooling": Parts(down=Pool),
    "raw t": Parts(embed_time=lambda t: t[:, None]),
    "no residual": Parts(block=PlainBlock),
}
REPLACED = dict(zip(VARIANTS, ("", "GroupNorm", "GELU", "rearranging", "sinusoids", "residuals"), strict=True))
CONFIG = DenoiserConfig(
    channels=1, patch=1, width=16, multipliers=(1, 2), blocks=1, attention=(), condition_width=1, activation="gelu"
)
SEEDS, STEPS, BATCH, RATE = (0, 1, 2), 300, 32, 8e-3

# %% [markdown]
# To be fair, the trainings differ in as little else as possible. With the same seed, all six see the same images in
# the same order, with the same noise and times, and take the same number of steps with the same learning rate. The
# learning rate rises at first and falls to zero at the end (`OneCycleLR`), which steadies the weights as a running
# average would. The running average itself (EMA, lesson 2) is left out, because BatchNorm's recorded averages would
# not fit averaged weights. One difference cannot be avoided: max-pooling and raw t produce fewer numbers for the next
# layer, which then has fewer weights, by 1% and 6% of all.
#
# Each network is then measured by its loss (for `v`, lesson 2) on 360 held-out digits, with four noises and times
# each, the same for all networks. The condition is null throughout: until lesson 4 we do not say which digit to draw.

# %%


def learned(parts: Parts, seed: int, config: DenoiserConfig = CONFIG, batch: int = BATCH) -> Denoiser:
    """Train a network; what is random depends on the seed alone."""
    torch.manual_seed(seed)
    network = Denoiser(config, parts)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        x0 = learn[torch.randint(len(learn), (batch,), generator=generator)]
        t = training_times(schedule, torch.rand(batch, generator=generator))
        eps = torch.randn(x0.shape, generator=generator)
        loss = denoising_loss(network, schedule, x0, torch.zeros(batch, 1), t, eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return network.eval()


generator = torch.Generator().manual_seed(100)
TEST = held_out.repeat(4, 1, 1, 1)
TEST_TIMES, TEST_NOISE = torch.rand(len(TEST), generator=generator), torch.randn(TEST.shape, generator=generator)


@torch.no_grad()
def held_out_loss(network: Denoiser) -> float:
    """Return the loss on held-out digits, with the same times and noise for all networks."""
    return float(denoising_loss(network, schedule, TEST, torch.zeros(len(TEST), 1), TEST_TIMES, TEST_NOISE))


# %% [markdown]
# There are eighteen trainings. Equal numbers of images do not mean equal times, so the last column shows what a step
# of each variant costs on the machine that this ran on.

# %%
networks = {}  # of the first seed, to generate with
losses = torch.zeros(len(VARIANTS), len(SEEDS))
for row, (name, parts) in enumerate(VARIANTS.items()):
    started = time.perf_counter()
    for column, seed in enumerate(SEEDS):
        network = learned(parts, seed)
        losses[row, column] = held_out_loss(network)
        networks.setdefault(name, network)
    spent = (time.perf_counter() - started) / (len(SEEDS) * STEPS)
    each = "  ".join(f"{loss:.4f}" for loss in losses[row])
    print(f"{name:12} loss {each}   {parameter_count(network):7,} weights   {1000 * spent:4.0f} ms a step")

# %% [markdown]
# How large must a difference be to mean something? Consider how far the three seeds of one variant lie apart: their
# standard deviation s (the root of the mean of the six variances). The mean of three seeds is then uncertain by
# $s/\sqrt{3}$, and the difference of two such means by $s\sqrt{2/3}$. Chance stays below 3.05 times that in 99 of 100
# comparisons (Student's t distribution with 12 degrees of freedom: 18 trainings minus 6 means). We ask for 99 and not
# 95, because there are five comparisons, and each can go wrong.

# %%
mean = losses.mean(1)
s = float(losses.var(1).mean().sqrt())
uncertainty = 3.05 * s * (2 / len(SEEDS)) ** 0.5
gain = dict(zip(VARIANTS, (mean - mean[0]).tolist(), strict=True))
print(f"the standard deviation between seeds is {s:.4f}, the uncertainty of a difference {uncertainty:.4f}")


def verdict(difference: float) -> str:
    """Say what a part brings, given the loss without it less the loss with it."""
    if abs(difference) <= uncertainty:
        return "brings nothing measurable here"
    return "helps" if difference > 0 else "does harm here"


figure, axis = plt.subplots(figsize=(9, 3.2))
axis.axhspan(
    mean[0] - uncertainty, mean[0] + uncertainty, color="0.9", label="within the uncertainty of the full network"
)
axis.plot(losses, "o", color="tab:blue", markersize=4)
axis.hlines(mean, torch.arange(6) - 0.25, torch.arange(6) + 0.25, color="black", label="mean of three seeds (dots)")
axis.set(xticks=range(len(VARIANTS)), xticklabels=VARIANTS, ylabel="held-out loss (v)")
axis.legend(fontsize=8)
plt.show()
for name in list(VARIANTS)[1:]:
    part = f"{REPLACED[name]} instead of {name}" if name != "no residual" else "residuals instead of none"
    print(f"{part:36} {gain[name]:+.4f} ± {uncertainty:.4f} ({gain[name] / mean[0]:+.1%}): {verdict(gain[name])}")

# %% [markdown]
# Here is what each of them generates (with the first seed), from the same noise, in 20 steps of DPM-Solver++
# (`captionless.diffusion.dpmpp_2m`, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095), algorithm 2; like DDIM it
# adds no fresh noise, but it needs fewer steps). All six generate nearly the same digits: a difference in the loss
# that can be measured need not be visible.

# %%


@torch.no_grad()
def generate(network: Denoiser, n: int = 14) -> torch.Tensor:
    """Generate digits from the same noise for every network."""
    noise = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    denoise = guided_denoiser(network, schedule, torch.zeros(n, 1))
    return run_sampler(dpmpp_2m(noise, ReverseProcess(schedule, sampling_times(20))), denoise)


figure, grid = plt.subplots(len(networks), 14, figsize=(12, 6.2))
for axes, (name, network) in zip(grid, networks.items(), strict=True):
    axes[0].set_title(name, loc="left", fontsize=9)
    for axis, image in zip(axes, generate(network), strict=True):
        axis.imshow(image.squeeze(), cmap="gray", vmin=-1, vmax=1)
        axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What was measured
#
# When this page was made, the smooth activation, the residual connections and the sinusoidal embedding of the time
# helped; the last by little more than the uncertainty. Rearranging instead of max-pooling brought nothing measurable.
# Neither did GroupNorm instead of BatchNorm: on average BatchNorm was even ahead, by less than the uncertainty. With
# six seeds the order of the six was the same. On another processor, a verdict near the bound may come out
# differently.
#
# Be careful with conclusions: these are small networks, small images and short trainings, with one learning rate for
# all. A part that brings nothing in a network of six blocks may be essential in one of sixty, and a part that harms a
# tiny network may help a large one. What carries over is the method: remove a part, train with several seeds, and
# compare the difference with what the seeds alone make.
#
# The claim is about the two parts that gain most, twice the uncertainty or more. Its bounds:

# %%
# Six seeds gave 0.012 to 0.023 for residuals and 0.012 to 0.021 for GELU, about 0.017 for both. The mean of three
# scatters by 0.003, and 0.006 lies almost four times that below 0.017. And a gain must be more than what another seed
# changes, s.
assert gain["no residual"] > max(0.006, s), "without residuals the loss rises, by more than another seed changes"
assert gain["ReLU"] > max(0.006, s), "with ReLU the loss rises, by more than another seed changes"
for name in list(VARIANTS)[1:]:
    print(f"{REPLACED[name]:12} {verdict(gain[name])}")

# %% [markdown]
# ## Exercises
#
# **1.** The library's default activation is SiLU. Train it with the three seeds. Does it matter which of the smooth
# activations you take, compared with what either gains over ReLU?
#
# <details><summary>Solution</summary>
#
# ```python
# silu = torch.tensor([held_out_loss(learned(Parts(activation=F.silu), seed)) for seed in SEEDS])
# difference = float(silu.mean() - mean[0])
# print(f"SiLU instead of GELU: {difference:+.4f} ± {uncertainty:.4f}; ReLU instead of GELU: {gain['ReLU']:+.4f}")
# # Over three seeds SiLU was 0.004 worse, ReLU 0.019.
# assert abs(difference) < 0.7 * gain["ReLU"], "the smooth activations are nearer to one another than to ReLU"
# ```
#
# </details>
#
# **2.** GroupNorm was made for small batches, where the mean and the standard deviation over a batch are little more
# than chance. Train both with batches of two, with two seeds. Is that small enough to make a difference?
#
# <details><summary>Solution</summary>
#
# Compare the difference that is printed with the standard deviation between seeds. What is certain is that both are
# far worse than with batches of 32.
#
# ```python
# small = torch.tensor(
#     [[held_out_loss(learned(VARIANTS[name], seed, batch=2)) for seed in (0, 1)] for name in (FULL, "BatchNorm")]
# )
# difference = float(small[1].mean() - small[0].mean())
# between = float(small.var(1).mean().sqrt())
# print(f"BatchNorm instead of GroupNorm: {difference:+.4f}; standard deviation between seeds {between:.4f}")
# # A batch of two 8x8 images still has 128 numbers per channel, enough for a mean; of two vectors it would have 2.
# assert small.min() > mean[:2].max(), "seeing a sixteenth of the images costs far more than the wrong normalisation"
# ```
#
# </details>
#
# **3.** The uncertainty above treats all 18 trainings as unrelated. But two networks with the same seed have seen the
# same digits with the same noise, and that part of chance cancels in their *difference*. Take the three differences
# of each part, seed by seed, and their own standard deviation. Do verdicts change?
#
# <details><summary>Solution</summary>
#
# ```python
# paired = losses[1:] - losses[0]  # (5, 3)
# within = 4.30 * paired.std(1) / len(SEEDS) ** 0.5  # Student's t with 2 degrees of freedom, 95 of 100
# for name, differences, bound in zip(list(VARIANTS)[1:], paired, within, strict=True):
#     each = " ".join(f"{value:+.4f}" for value in differences)
#     sure = "larger" if abs(differences.mean()) > bound else "not larger"
#     print(f"{name:12} {each}: {differences.mean():+.4f} is {sure} than {bound:.4f}")
# # Three differences are few, hence the 4.30; a part whose differences happen to agree is found, and another is lost.
# assert (paired[[1, 4]] > 0).all(), "ReLU and missing residuals are worse with every single seed"
# ```
#
# </details>

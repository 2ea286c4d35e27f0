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
# # Lesson 2: Diffusion
#
# Lesson 1 ended with digits made out of pure noise in many small steps. This lesson gives the theory of those steps,
# and checks that it is right. For a toy example, points in eight clouds, there is a formula for the best denoiser;
# what we sample with it must have the mean and the covariance of the data, and the right number of points in each
# cloud. Then the same steps generate digits, with a network that you train.
#
# The claim at the end uses a distance between two sets of images, which is 0 on average between two sets of real
# digits. By this distance, the generated digits are many times closer to real ones than the blobs of lesson 1 or
# noise are. And they are not copies.

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from captionless.diffusion import (
    CosineSchedule,
    LinearSchedule,
    ReverseProcess,
    Step,
    add_noise,
    ddpm,
    denoising_loss,
    guided_denoiser,
    log_snr,
    run_sampler,
    sampling_times,
    to_eps,
    training_times,
)
from captionless.evaluation.metrics import mmd2, rbf_kernel
from captionless.models import Denoiser, DenoiserConfig, ema

x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # (1797, 1, 8, 8), from -1 to 1
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
held_out, train = x[order[:600]], x[order[600:]]


def show(rows: dict[str, torch.Tensor]) -> None:
    """Draw rows of images, each under its name."""
    columns = max(map(len, rows.values()))
    space = {"hspace": 0.4, "wspace": 0.06}
    _, grid = plt.subplots(len(rows), columns, figsize=(columns, 1.25 * len(rows)), squeeze=False, gridspec_kw=space)
    for (name, images), axes in zip(rows.items(), grid, strict=True):
        axes[0].set_title(name, loc="left", fontsize=9)
        for axis, image in zip(axes, images, strict=False):
            axis.imshow(image.squeeze(), cmap="gray", vmin=-1, vmax=1)
        for axis in axes:
            axis.axis("off")
    plt.show()


# %% [markdown]
# ## 1. The forward process: from image to noise
#
# A clean image `x0` turns into noise as the time `t` goes from 0 to 1. At any time its noisy version is
#
# $$x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I)$$
#
# Here $\mathcal{N}(0, I)$ stands for the noise of lesson 1, an independent normal number for each pixel. In the
# library this is `captionless.diffusion.add_noise`; in DDPM ([arXiv:2006.11239](https://arxiv.org/abs/2006.11239)) it
# is equation 4, which writes $\sqrt{\bar\alpha_t}$ for $\alpha_t$ and $\sqrt{1 - \bar\alpha_t}$ for $\sigma_t$. This
# is called the *forward process*. It needs no network, and nothing is learned here.

# %%
schedule = CosineSchedule()
levels = torch.linspace(0, 1, 11)
rows = {}
for k in (0, 1):
    digit = train[k : k + 1].expand(11, -1, -1, -1)
    eps = torch.randn(digit.shape, generator=torch.Generator().manual_seed(k))
    rows[f"digit {k}: t = 0, 0.1, ... 1"] = add_noise(schedule, digit, eps, levels)
show(rows)

# %% [markdown]
# ## 2. The noise schedule
#
# How fast the image disappears is a choice, the *noise schedule*. We compare two. The cosine schedule
# ([arXiv:2102.09672](https://arxiv.org/abs/2102.09672), eq. 17) is $\alpha = \cos(\pi t / 2)$,
# $\sigma = \sin(\pi t / 2)$, except for the traces at both ends that lesson 1 showed. DDPM's own schedule adds noise
# in 1,000 small steps, and the variance of that noise, *beta*, rises linearly from step to step (exercise 1 follows
# them). Both keep $\alpha^2 + \sigma^2 = 1$: if the pixel values have variance 1, so does `xt` at every time;
# otherwise it stays of that order.
#
# What matters is how strong the image is compared with the noise. The *log-SNR* (logarithm of the signal-to-noise
# ratio), $\log(\alpha^2/\sigma^2)$, says it in one number: 0 where both have the same weight, positive where the
# image is stronger (`captionless.diffusion.log_snr`).

# %%
t = torch.linspace(0.001, 1, 300)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6))
for name, each in {"cosine": CosineSchedule(), "DDPM, linear": LinearSchedule(1000)}.items():
    alpha, sigma = each.alpha_sigma(t)
    for axis, curve, title in zip(axes, (alpha, sigma, log_snr(each, t)), ("alpha", "sigma", "log-SNR"), strict=True):
        axis.plot(t, curve, label=name)
        axis.set(title=title, xlabel="t")
axes[0].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# DDPM's schedule destroys the image earlier: half-way, its `alpha` is 0.28, where the cosine schedule has 0.71. It
# spends much of its time on what is nearly pure noise. This lesson uses the cosine schedule.
#
# A first check: add noise to one digit 20,000 times at t = 0.4. Over these noisy images, every pixel must have the
# mean `alpha * x0` and the standard deviation `sigma`.

# %%
n = 20_000
alpha, sigma = (float(value) for value in schedule.alpha_sigma(torch.tensor(0.4)))
eps = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(2))
xt = add_noise(schedule, train[:1].expand(n, -1, -1, -1), eps, torch.full((n,), 0.4))
off_mean = float((xt.mean(0) - alpha * train[0]).abs().max()) / sigma
off_std = float((xt.std(0) / sigma - 1).abs().max())
print(f"largest error of 64 pixels, in units of sigma: mean {off_mean:.4f}, standard deviation {off_std:.4f}")
# Chance alone makes 1 / sqrt(n) = 0.007 and 0.005; the largest of 64 is about 2.5 times that; 5 times is out of reach.
assert off_mean < 5 / n**0.5, "the mean of xt given x0 is alpha * x0"
assert off_std < 5 / (2 * n) ** 0.5, "the standard deviation of xt given x0 is sigma"

# %% [markdown]
# ## 3. The reverse process: from noise to image
#
# Now the other way. Suppose you have `xt` and want the slightly less noisy `xs`, at a time s < t. If `x0` were known
# as well, the distribution of `xs` would be known exactly: it is normal, around a mixture of `xt` and `x0`, with a
# known standard deviation $\tilde\sigma$ (DDPM, eq. 6 and 7):
#
# $$x_s = a\,\frac{\sigma_s^2}{\sigma_t^2}\, x_t + \alpha_s\,\frac{\beta}{\sigma_t^2}\, x_0 + \tilde\sigma\,\epsilon,
# \qquad a = \frac{\alpha_t}{\alpha_s}, \quad \beta = \sigma_t^2 - a^2 \sigma_s^2,
# \quad \tilde\sigma^2 = \beta\,\frac{\sigma_s^2}{\sigma_t^2}$$
#
# Here $\epsilon$ is fresh noise. The forward step from s to t multiplies the state by $a$ and adds noise of variance
# $\beta$. (Given `x0`, `xs` is normal; given `xs`, `xt` is normal. Bayes' rule combines the two into this formula.)
#
# But `x0` is not known. The idea of diffusion models is to use the denoiser's estimate instead. Lesson 1 showed what
# that is: $\mathbb{E}[x_0 \mid x_t]$, the mean of all images that could be hidden in `xt`. For a *small* step this is
# good enough. The term with `x0` is proportional to $\beta$, the fresh noise only to $\sqrt\beta$, which is far
# larger if $\beta$ is small. Next to that noise it makes no difference which of the possible images the step moves
# towards, as long as the direction is right on average. This is why there must be many small steps.
#
# `captionless.diffusion.ddpm` does this, and little more: open it, its body is about ten lines. Such a function is
# called a *sampler*, because what it generates is a *sample* from the distribution of images. It calls no network
# itself. It is a Python generator: wherever it needs an estimate of `x0`, it yields the noisy images and their noise
# level, and receives the estimate: `x0 = yield x, t`. The function `captionless.diffusion.run_sampler` connects a
# sampler with a denoiser, which may be any function `(xt, t) -> x0`, and returns the final images. A
# `captionless.diffusion.ReverseProcess` holds what else a sampler needs: the schedule; the falling times, which
# `sampling_times(steps)` spaces evenly from 1 to 0; and a function that returns fresh noise.
#
# ## 4. A toy example where everything is known
#
# It is hard to say whether generated digits are right. So take data about which everything is known: points in the
# plane, from eight small round clouds on a ring. The k-th cloud has k times as many points as the first. For the
# library, a point is an image with two channels and one pixel.

# %%
angles = torch.arange(8) * (2 * torch.pi / 8)
centres, spread = 0.9 * torch.stack([angles.cos(), angles.sin()], dim=1), 0.1
shares = torch.arange(1, 9) / 36
generator = torch.Generator().manual_seed(0)


def points(n: int) -> torch.Tensor:
    """Sample true points: choose a cloud, then a place in it."""
    cloud = torch.multinomial(shares, n, replacement=True, generator=generator)
    return (centres[cloud] + spread * torch.randn(n, 2, generator=generator)).reshape(n, 2, 1, 1)


figure, axis = plt.subplots(figsize=(3, 3))
axis.scatter(*points(4000).squeeze().T, s=1)
axis.set(aspect="equal", title="the data")
plt.show()

# %% [markdown]
# For such data no network is needed. Let cloud k have the centre $c_k$, the standard deviation $\text{spread}$ and
# the share $\text{share}_k$ of all points. If `x0` comes from it, then `xt` is normally distributed around
# $\alpha c_k$ with variance $S = \alpha^2 \text{spread}^2 + \sigma^2$ in each direction. This determines two things:
# how likely each cloud is, given `xt` (Bayes' rule), and where in the cloud the point is expected (the Wiener filter
# of lesson 1):
#
# $$\mathbb{E}[x_0 \mid x_t] = \sum_k p_k(x_t)\left(c_k + \frac{\alpha\,\text{spread}^2}{S}(x_t - \alpha c_k)\right),
# \qquad p_k(x_t) \propto \text{share}_k\; e^{-|x_t - \alpha c_k|^2 / 2S}$$

# %%


def exact(xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return E[x0 | xt] for points (n, 2, 1, 1) at one time: the denoiser of the toy example."""
    alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
    S = alpha**2 * spread**2 + sigma**2
    off = xt.reshape(-1, 1, 2) - alpha * centres  # (n, 8, 2): from every point to every centre
    p = torch.softmax(shares.log() - off.square().sum(2) / (2 * S), dim=1)
    inside = centres + alpha * spread**2 / S * off
    return (p.unsqueeze(2) * inside).sum(1).reshape(-1, 2, 1, 1)


def sample_points(steps: int, n: int = 4000, on_step=None) -> torch.Tensor:
    """Run the reverse process with the exact denoiser."""
    generator = torch.Generator().manual_seed(1)

    def noise() -> torch.Tensor:
        return torch.randn(n, 2, 1, 1, generator=generator)

    return run_sampler(ddpm(noise(), ReverseProcess(schedule, sampling_times(steps), noise)), exact, on_step)


# %% [markdown]
# Here is `ddpm` with 200 steps. The function `on_step` is called after every step, and here keeps the states. The
# upper row shows some of them. The lower row shows true points that the *forward* process took to the same times. If
# the reverse process is right, the two have the same distribution at every time, not only at the end.

# %%
states = {}


def keep(step: Step) -> None:
    """Note the state at the start of each step."""
    states[round(step.t, 3)] = step.x


sampled = sample_points(200, on_step=keep)
states[0.0] = sampled
shown = (1.0, 0.7, 0.5, 0.3, 0.15, 0.0)
figure, grid = plt.subplots(2, 6, figsize=(12, 4.4), sharex=True, sharey=True)
for top, bottom, t in zip(*grid, shown, strict=True):
    true = points(4000)
    noised = add_noise(schedule, true, torch.randn(true.shape, generator=generator), torch.full((4000,), t))
    top.scatter(*states[t].squeeze().T, s=0.7, color="tab:orange")
    bottom.scatter(*noised.squeeze().T, s=0.7)
    top.set(title=f"t = {t}", aspect="equal", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    bottom.set(aspect="equal")
grid[0, 0].set_ylabel("reverse: from noise")
grid[1, 0].set_ylabel("forward: from data")
figure.tight_layout()
plt.show()

# %% [markdown]
# They look alike. Now compare the numbers. The data have the mean $m = \sum \text{share}_k c_k$, and the covariance
# $C$ of the centres plus $\text{spread}^2 I$. At time t the mean becomes $\alpha m$, and the covariance
# $\alpha^2 C + \sigma^2 I$.

# %%
m = shares @ centres
C = (centres - m).T @ torch.diag(shares) @ (centres - m) + spread**2 * torch.eye(2)
off_mean, off_covariance = {}, {}
for t in shown:
    alpha, sigma = (float(v) for v in schedule.alpha_sigma(torch.tensor(t))) if t > 0 else (1.0, 0.0)
    state = states[t].squeeze()
    off_mean[t] = float((state.mean(0) - alpha * m).abs().max())
    off_covariance[t] = float((torch.cov(state.T) - alpha**2 * C - sigma**2 * torch.eye(2)).abs().max())
    print(f"t = {t:4}: mean off by at most {off_mean[t]:.3f}, covariance by at most {off_covariance[t]:.3f}")

# Chance alone, with 4,000 points of a variance of at most 1: 0.016 for a mean, 0.022 for a variance. Both bounds are
# about four times that; the mean of the data lies 0.26 from zero.
assert max(off_mean.values()) < 0.065, "the reverse process has the mean of the forward process"
assert max(off_covariance.values()) < 0.09, "the reverse process has the covariance of the forward process"

# %% [markdown]
# And each cloud by itself: does it have its share of the points, its centre and its spread?

# %%


def clouds(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return, for sampled points, the share of each cloud, its mean, and the spread within clouds."""
    x = x.squeeze()
    nearest = torch.cdist(x, centres).argmin(1)
    means = torch.stack([x[nearest == k].mean(0) for k in range(8)])
    return nearest.bincount(minlength=8) / len(x), means, float((x - means[nearest]).std())


found, means, width = clouds(sampled)
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.bar(torch.arange(8) - 0.2, shares, 0.4, label="by the formula")
axis.bar(torch.arange(8) + 0.2, found, 0.4, label="sampled")
axis.set(xlabel="cloud", ylabel="share of the points")
axis.legend()
plt.show()
print(f"shares off by at most {(found - shares).abs().max():.3f}, centres by {(means - centres).abs().max():.3f}")
print(f"spread {width:.4f}, by the formula {spread}")
# Chance: 0.0066 for the largest share, 0.0095 for a coordinate of the smallest cloud's centre, 1% for the spread.
# And 200 steps, not infinitely many, leave the spread 5% to 6% too small: see the next section.
assert float((found - shares).abs().max()) < 0.03, "each cloud is sampled as often as the formula says"
assert float((means - centres).abs().max()) < 0.03, "each cloud is sampled where the formula says"
assert abs(width / spread - 1) < 0.1, "each cloud is as wide as the formula says"

# %% [markdown]
# ## 5. Few steps and many
#
# With the mean in place of `x0`, the formula is exact only in the limit of infinitely many steps. With few steps, the
# denoiser's estimate, a mean of several clouds, is followed too far, and points end up between the clouds. Of the
# true points, 98.9% lie within three spreads of a centre ($1 - e^{-9/2}$). The title of each plot gives the share of
# the sampled points that do ("near").

# %%
close = {}
figure, axes = plt.subplots(1, 5, figsize=(12, 2.8))
for axis, steps in zip(axes, (1, 3, 10, 30, 200), strict=True):
    cloud = sample_points(steps)
    close[steps] = float((torch.cdist(cloud.squeeze(), centres).min(1).values < 3 * spread).float().mean())
    axis.scatter(*cloud.squeeze().T, s=0.7, color="tab:orange")
    axis.set(title=f"steps: {steps}, near: {close[steps]:.1%}", aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
figure.tight_layout()
plt.show()
assert close[1] < 0.05 < 0.95 < close[200], "one step gives the mean, between the clouds; 200 steps hit them"

# %% [markdown]
# One step gives the blob of lesson 1: all points at the mean of the data.
#
# Even with many steps the result is not perfect: the clouds come out a little too tight, and more than 98.9% of the
# points are near. A step towards the mean leaves out how far the possible `x0` scatter around it. If the theory is
# right, this error comes from the size of the steps alone, and has to vanish as their number grows. In a method *of
# first order*, once the steps are small enough, twice as many steps halve the error. That is the slope of the dashed
# line (its height is arbitrary). From 400 to 800 steps the measured line is about as steep.

# %%
numbers = (50, 100, 200, 400, 800)
missing = [1 - clouds(sample_points(steps, n=8000))[2] / spread for steps in numbers]

# %%
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.loglog(numbers, missing, "o-", label="sampled")
axis.loglog(numbers, [missing[1] * 100 / steps for steps in numbers], "--", label="half the error, twice the steps")
axis.set(xlabel="steps", ylabel="spread too small by", xticks=numbers, xticklabels=numbers)
axis.minorticks_off()
axis.legend()
plt.show()
print({steps: f"{value:.1%}" for steps, value in zip(numbers, missing, strict=True)})
# From 100 to 800 steps first order would make an eighth. It sets in gradually: 9% and 1.7% were seen with 40,000
# points, a fifth. With 8,000, chance adds 0.6% of the spread.
assert missing[4] < missing[1] / 3, "the error is that of finite steps, and falls with their number"

# %% [markdown]
# ## 6. What should the network predict?
#
# For digits there is no formula, so a network takes its place. In lesson 1 it predicted `x0`. In DDPM it predicts the
# noise `eps` instead, and the loss (eq. 14) is as simple as can be:
#
# $$L = \mathbb{E}_{x_0,\, \epsilon,\, t}\; \| \epsilon - \epsilon_\theta(x_t, t) \|^2$$
#
# $\epsilon_\theta$ is the network with the weights $\theta$; the mean is over digits, noise and times. In the library
# this is `captionless.diffusion.denoising_loss(..., prediction="eps")`. As $x_t = \alpha x_0 + \sigma \epsilon$, the
# noise and `xt` together determine the image: $x_0 = (x_t - \sigma\epsilon)/\alpha$. But note the division. Near t =
# 1 `alpha` is almost 0, and a small error in `eps` becomes a huge error in `x0`.
#
# Predicting `x0` has the opposite weakness: near t = 0 the right output is the input itself, and there is little to
# learn. A third choice has neither weakness. It is a mixture of noise and image called `v`
# ([arXiv:2202.00512](https://arxiv.org/abs/2202.00512), section 4):
#
# $$v = \alpha\,\epsilon - \sigma\, x_0, \qquad\text{so that}\qquad x_0 = \alpha\, x_t - \sigma\, v$$
#
# (To see it, put $x_t = \alpha x_0 + \sigma\epsilon$ into the second formula and use $\alpha^2 + \sigma^2 = 1$.) At t
# = 0 `v` is the noise, at t = 1 the negative image: at either end, it is what the input does *not* show. It is the
# library's default (`captionless.diffusion.target`, `to_x0`, `to_eps`). The plot shows what an error of 0.1 in each
# of the three does to `x0`:

# %%
t = torch.linspace(0.02, 1, 200)
alpha, sigma = schedule.alpha_sigma(t)
figure, axis = plt.subplots(figsize=(6, 2.6))
for name, factor in {"eps": sigma / alpha, "v": sigma, "x0": torch.ones_like(t)}.items():
    axis.semilogy(t, 0.1 * factor, label=f"predicted: {name}")
axis.set(xlabel="t", ylabel="mistake in x0", ylim=(1e-3, 100))
axis.legend()
plt.show()

# %% [markdown]
# ## 7. Training on digits
#
# Every step takes a batch of digits, a random time for each, noise, and one line for the loss. `training_times` makes
# the times of a batch from random numbers, so that they cover [0, 1] evenly and every step sees all noise levels. The
# condition is all zeros, the *null condition*: until lesson 4 we do not say which digit to draw.
#
# The weights jump about a little at every step. We therefore generate not with the last weights but with their
# running average (EMA, *exponential moving average*: `captionless.models.ema`), which is smoother. Older weights
# count less and less in it: half as much after `half_life` images, and sooner at the start of the training
# (`ema.decay`).

# %%
BATCH, STEPS, CLASSES = 128, 800, 10
config = DenoiserConfig(
    channels=1, patch=1, width=32, multipliers=(1, 2), blocks=1, attention=(), condition_width=CLASSES
)
torch.manual_seed(0)
network = Denoiser(config)
average = ema.average_copy(network)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
losses = []
for step in range(1, STEPS + 1):
    x0 = train[torch.randint(len(train), (BATCH,))]
    t = training_times(schedule, torch.rand(BATCH))
    loss = denoising_loss(network, schedule, x0, torch.zeros(BATCH, CLASSES), t, torch.randn_like(x0), prediction="v")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    ema.update(average, network, ema.decay(BATCH, step * BATCH, half_life=20_000))
    losses.append(loss.item())

# %% [markdown]
# On the left is the loss; each point is the mean of 20 steps. It does not go to 0, and cannot, since what the noise
# hides cannot be known. On the right is DDPM's own loss of the trained network on held-out digits, by time: its `v`
# is turned into `eps` (`to_eps`). A network that always returned 0 would have a loss of 1. Strong noise is easily
# found; noise that is weaker than the image is hard to tell from strokes.

# %%
levels = torch.linspace(0.02, 0.98, 25)
by_time = []
for t in levels:
    eps = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(3))
    xt = add_noise(schedule, held_out, eps, t.expand(600))
    with torch.no_grad():
        v = average(xt, t.expand(600), torch.zeros(600, CLASSES))
    alpha, sigma = schedule.alpha_sigma(t)
    by_time.append(float((to_eps("v", xt, v, alpha, sigma) - eps).square().mean()))
figure, axes = plt.subplots(1, 2, figsize=(10, 2.6))
axes[0].plot(torch.tensor(losses).unfold(0, 20, 20).mean(1))
axes[0].set(xlabel="steps / 20", ylabel="loss (v)", ylim=(0, 0.6))
axes[1].plot(levels, by_time, "o-")
axes[1].set(xlabel="t", ylabel="mean squared error of eps", ylim=(0, 1))
figure.tight_layout()
plt.show()

# %% [markdown]
# ## 8. Generating digits
#
# The sampler, the schedule and the `ReverseProcess` are those of the toy example. Only the denoiser is different:
# `captionless.diffusion.guided_denoiser` turns a network that predicts `v` into a function `(xt, t) -> x0`, and clips
# `x0` to [-1, 1], the range of all images. (The guidance in its name is the subject of lesson 4; there is none here.)
#
# First you see how two images develop in 100 steps: every tenth state, and what the network predicts there. At first
# the prediction is the blob of lesson 1. Then the large shape is settled, and last the single pixels.
#
# Then few steps and many are compared with real digits that the network has not seen. All start from the same initial
# noise. They do not end at the same digits, because `ddpm` adds fresh noise on the way.

# %%


@torch.no_grad()
def generate(steps: int, n: int = 600, sampler=ddpm, seed: int = 0, on_step=None) -> torch.Tensor:
    """Generate digits from pure noise."""
    generator = torch.Generator().manual_seed(seed)

    def noise() -> torch.Tensor:
        return torch.randn(n, 1, 8, 8, generator=generator)

    denoise = guided_denoiser(average, schedule, torch.zeros(n, CLASSES), prediction="v")
    process = ReverseProcess(schedule, sampling_times(steps), noise)
    return run_sampler(sampler(noise(), process), denoise, on_step).clamp(-1, 1)


trajectory = {f"image {k}, {what}": [] for k in (0, 1) for what in ("the state xt", "the predicted x0")}


def record(step: Step) -> None:
    """Keep every tenth state and prediction of two images."""
    if step.number % 10 == 9 or step.number == 0:
        for k in (0, 1):
            trajectory[f"image {k}, the state xt"].append(step.x[k])
            trajectory[f"image {k}, the predicted x0"].append(step.x0[k])


sets = {"generated, 100 steps": generate(100, on_step=record)}
show({name: torch.stack(images) for name, images in trajectory.items()})
for steps in (1, 3, 10, 30):
    sets[f"generated, {steps} step" + "s" * (steps > 1)] = generate(steps)
show({name: sets[name][:12] for name in sorted(sets, key=lambda name: int(name.split()[1]))} | {"real": held_out[:12]})

# %% [markdown]
# ## 9. How far from real?
#
# Two sets of images are alike if images of one are as close to those of the other as to those of their own set. The
# *maximum mean discrepancy* (MMD) makes a number of that ([Gretton et al., JMLR 13,
# 2012](https://jmlr.org/papers/v13/gretton12a.html), eq. 3; `captionless.evaluation.metrics.mmd2`). It uses a
# function $k$ (a *kernel*) that is 1 for equal images and falls to 0 with their distance, here
# $e^{-\|x - y\|^2 / 2s^2}$:
#
# $$\text{MMD}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\,\overline{k(x, y)}$$
#
# The bars are means over all pairs: two different images of the first set, two of the second, and one of each. For
# two sets of the same kind, MMD² is 0 on average, and as often below 0 as above. It grows if images look wrong, and
# also if they look right but are all the same: both matter. The length $s$ decides which distances count as close.
# `SIGMA = 4` lies between the distance of two real digits and that of a digit to the most similar one, which are
# printed below.

# %%
SIGMA = 4.0
between = torch.cdist(train.flatten(1), held_out.flatten(1))
print(f"two real digits: {between.median():.1f} apart; the nearest: {between.min(1).values.median():.1f}")


def mmd(x: torch.Tensor, y: torch.Tensor = held_out) -> float:
    """Return 1,000 times the squared MMD of two sets of images."""
    x, y = x.flatten(1), y.flatten(1)
    return 1000 * mmd2(rbf_kernel(x, x, SIGMA), rbf_kernel(y, y, SIGMA), rbf_kernel(x, y, SIGMA))


sets["blobs (generated, 1 step)"] = sets.pop("generated, 1 step")
sets["noise"] = torch.randn(600, 1, 8, 8, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
sets["real, other ones"] = train[:600]
far = {name: mmd(images) for name, images in sets.items()}
figure, axis = plt.subplots(figsize=(7, 2.8))
axis.bar_label(axis.barh(list(far), list(far.values())), fmt="%.1f", padding=3)
axis.set(xlabel="1,000 x squared MMD to held-out digits", xlim=(-40, 330))
axis.invert_yaxis()
plt.show()

# %% [markdown]
# One step and three are far off. From 30 steps on, more steps bring nothing here. The small difference that is left
# is larger than that between two sets of real digits, and it comes from the network, not from the steps.
#
# One more thing could be wrong: a model that copies its training images would also look perfect. So we measure, for
# each generated image, the distance to the nearest training digit, and compare it with the same distance for held-out
# digits, which are certainly not copies.

# %%


def to_nearest(images: torch.Tensor) -> torch.Tensor:
    """Return the distance of each image to the training image that it resembles most."""
    return torch.cdist(images.flatten(1), train.flatten(1)).min(1).values


figure, axis = plt.subplots(figsize=(6, 2.4))
bins = torch.linspace(0, 5, 41).tolist()
for name in ("generated, 100 steps", "held out"):
    axis.hist(to_nearest(sets.get(name, held_out)).numpy(), bins=bins, alpha=0.6, label=name)
axis.set(xlabel="distance to the nearest training digit", ylabel="images")
axis.legend()
plt.show()
copied = float(to_nearest(sets["generated, 100 steps"]).median() / to_nearest(held_out).median())
print(f"median distance, generated / held out: {copied:.2f}")

# %% [markdown]
# ## What was measured
#
# The toy example was checked above, against formulas. For the digits, three random seeds gave these values for 1,000
# times the squared MMD: generated 1.3 to 2.5, other real digits -0.3 to 0.1, blobs 208 to 211, noise 281 to 286. In 3
# steps it was about 37. The median distance to the nearest training digit was 1.04 to 1.09 times that of held-out
# digits.
#
# The bounds are wider than that, since other processors round differently. Images that pass have to look right and
# vary as real digits do (the MMD), and must not be copies (the distances).

# %%
generated = far["generated, 100 steps"]
blobs, noise_far, real = far["blobs (generated, 1 step)"], far["noise"], far["real, other ones"]
print(f"1,000 x MMD^2 to held-out digits: generated {generated:.1f}, real {real:.1f}", end=", ")
print(f"blobs {blobs:.0f}, noise {noise_far:.0f}")
assert abs(real) < 3, "two sets of real digits are at distance 0, up to chance (a few tenths to 1)"
assert generated < 8, "the generated digits should be close to real ones; 1 to 3 is usual"
assert min(blobs, noise_far) > 15 * generated, "the measure tells good from bad: blobs and noise are many times as far"
assert far["generated, 3 steps"] > 2 * generated, "many steps are better than few"
assert 0.85 < copied < 1.4, "generated digits are as far from the training digits as new real digits are: no copies"

# %% [markdown]
# ## Exercises
#
# **1.** DDPM reaches `xt` in small steps: $x_k = \sqrt{1 - \beta_k}\, x_{k-1} + \sqrt{\beta_k}\, \epsilon_k$, with
# betas that rise linearly from 0.0001 to 0.02 over 1,000 steps. Take the first 300 of these steps with 2,000 copies
# of one digit. The mean and the standard deviation must be those of a single jump with `LinearSchedule(1000)` to t =
# 0.3. Are they?
#
# <details><summary>Solution</summary>
#
# ```python
# betas = torch.linspace(1e-4, 0.02, 1000)
# walked = train[:1].repeat(2000, 1, 1, 1)
# generator = torch.Generator().manual_seed(6)
# for beta in betas[:300]:
#     walked = (1 - beta).sqrt() * walked + beta.sqrt() * torch.randn(walked.shape, generator=generator)
# alpha, sigma = LinearSchedule(1000).alpha_sigma(torch.tensor(0.3))
# off_mean = float((walked.mean(0) - alpha * train[0]).abs().max() / sigma)
# off_std = float((walked.std(0) / sigma - 1).abs().max())
# show({"walked": walked[:10]})
# print(f"alpha {alpha:.3f}, sigma {sigma:.3f}; off by {off_mean:.3f} and {off_std:.3f} of sigma at most")
# assert off_mean < 5 / 2000**0.5, "many small additions of normal noise are one large one"
# assert off_std < 5 / 4000**0.5, "many small additions of normal noise are one large one"
# ```
#
# </details>
#
# **2.** `ddim` ([arXiv:2010.02502](https://arxiv.org/abs/2010.02502)) adds no fresh noise: the initial noise decides
# everything. Generate twice from the same initial noise, with `ddpm` and with `ddim`, and compare. (The function that
# a `ReverseProcess` takes for fresh noise can use a random generator of its own.) Which of the two is nearer to real
# digits, by `mmd`, in 10 steps?
#
# <details><summary>Solution</summary>
#
# From the same noise, `ddpm` makes two different digits and `ddim` the same digit twice. In 10 steps `ddim` is nearer
# to real digits: 3.5, where `ddpm` has about 7. It needs fewer steps.
#
# ```python
# from captionless.diffusion import ddim
#
#
# def from_noise(sampler, seed):
#     fresh = torch.Generator().manual_seed(seed)  # of the noise on the way; the initial noise is always the same
#     x = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(7))
#     denoise = guided_denoiser(average, schedule, torch.zeros(10, CLASSES), prediction="v")
#     process = ReverseProcess(schedule, sampling_times(50), lambda: torch.randn(x.shape, generator=fresh))
#     with torch.no_grad():
#         return run_sampler(sampler(x, process), denoise)
#
#
# twice = {(s.__name__, seed): from_noise(s, seed) for s in (ddpm, ddim) for seed in (0, 1)}
# show({f"{name}, fresh noise {seed}": images for (name, seed), images in twice.items()})
# assert torch.equal(twice["ddim", 0], twice["ddim", 1]), "no fresh noise: the same images"
# assert float((twice["ddpm", 0] - twice["ddpm", 1]).abs().mean()) > 0.2, "fresh noise: others"
# print({f"{s.__name__}, 10 steps": round(mmd(generate(10, sampler=s)), 1) for s in (ddpm, ddim)})
# ```
#
# </details>
#
# **3.** Introductory courses often use 150 steps, `LinearSchedule(150)`. How much of the image is left at t = 1? The
# reverse process starts from pure noise all the same. To see what that does, take images of 8 x 8 pixels, each of a
# single grey value, which is normally distributed around 0 with standard deviation 0.5. With $b$ for the mean of the
# pixels of `xt`, the best denoiser returns the grey value $\alpha\,0.25\,b \,/\, (\alpha^2\,0.25 + \sigma^2/64)$.
# Generate 4,000 images in 150 steps of `ddpm`. Is the standard deviation of their grey values 0.5? Try
# `LinearSchedule(150, zero_terminal_snr=True)` too, which is rescaled so that `alpha` is 0 at t = 1.
#
# <details><summary>Solution</summary>
#
# Nearly half of `x0` is left: `alpha` is 0.47 at t = 1. So the denoiser takes the brightness of its input for that of
# the image. Pure noise has an average brightness, and the greys that come out are all too much alike (0.30). With the
# schedule rescaled so that nothing is left at t = 1 ([arXiv:2305.08891](https://arxiv.org/abs/2305.08891)), the
# variety is right up to the error of 150 steps (0.49).
#
# ```python
# def grey_values(path):
#     generator = torch.Generator().manual_seed(8)
#
#     def noise():
#         return torch.randn(4000, 1, 8, 8, generator=generator)
#
#     def denoise(xt, t):
#         alpha, sigma = (float(value) for value in path.alpha_sigma(t))
#         b = xt.mean((1, 2, 3), keepdim=True)
#         return (alpha * 0.25 * b / (alpha**2 * 0.25 + sigma**2 / 64)).expand_as(xt)
#
#     return run_sampler(ddpm(noise(), ReverseProcess(path, sampling_times(150), noise)), denoise).mean((1, 2, 3))
#
#
# plain, rescaled = LinearSchedule(150), LinearSchedule(150, zero_terminal_snr=True)
# for name, path in (("150 steps", plain), ("rescaled", rescaled)):
#     print(f"{name}: alpha at t = 1 is {path.alpha_sigma(torch.tensor(1.0))[0]:.2f}")
#     greys = grey_values(path)
#     images = greys[:10].reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
#     show({f"{name}, standard deviation {greys.std():.2f}": images})
# assert grey_values(plain).std() < 0.36, "a start that the forward process never reaches shows in the end"
# assert abs(grey_values(rescaled).std() - 0.5) < 0.04, "from a start that it does reach, the variety is right"
# ```
#
# </details>

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
# # Lesson 1: U-Nets
#
# A *denoiser* is a network that takes a noisy image and returns an estimate of the clean one. In this lesson you
# build a denoiser, train it on handwritten digits, and then give it an impossible task: to make an image out of pure
# noise.
#
# You will measure two things. On digits that the network has never seen, its error is about a fifth lower than that
# of the best linear filter (a formula, given in section 5). And from pure noise it always returns nearly the same
# grey blob, the mean of all digits: almost nothing is left of the variety of real digits. The lesson ends with the
# way out, which the rest of the course follows.

# %%
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from captionless.diffusion import CosineSchedule, add_noise
from captionless.models import Denoiser, DenoiserConfig, parameter_count, zero_weights

# %% [markdown]
# ## 1. The images
#
# scikit-learn ships with 1,797 digits of 8 x 8 pixels, written by many people. PyTorch holds images in a tensor of
# shape `(n, channels, height, width)`; grey images have one channel. The file has values from 0 to 16. We scale them
# to the range from -1 (black) to 1 (white), which all images in this course use. The function `show` draws images
# throughout the lesson; it shows everything below -1 as black and everything above 1 as white.
#
# 297 digits are *held out*: no network in this lesson learns from them, and all errors are measured on them. That
# matters, because the network below has about as many weights (93,000) as the other 1,500 digits have pixels
# (96,000). It might learn some of its training images by heart. On new images, that would not help it.

# %%
x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
held_out, train = x[order[:297]], x[order[297:]]
print("to learn from:", tuple(train.shape), "   held out:", tuple(held_out.shape))


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


show({"digits": train[:10]})

# %% [markdown]
# ## 2. Noise
#
# *Noise* here means an independent random number for each pixel, drawn from the normal distribution with mean 0 and
# standard deviation 1. It is called `eps`, or $\epsilon$ in formulas. A noisy image `xt` is a mixture of the clean
# image `x0` and noise:
#
# $$x_t = \alpha\, x_0 + \sigma\, \epsilon, \qquad \alpha^2 + \sigma^2 = 1$$
#
# In the library this is `captionless.diffusion.add_noise`. It is equation 4 of DDPM
# ([arXiv:2006.11239](https://arxiv.org/abs/2006.11239)), the paper that most of today's diffusion models build on.
# The second equation keeps `xt` at about the same strength in every mixture. One number, the *time* `t`, determines
# both `alpha` and `sigma`: at t = 0 there is only image, at t = 1 only noise. The rule that turns `t` into `alpha`
# and `sigma` is called a *schedule*. Lesson 2 takes it apart; until then, think of `t` as a dial for the amount of
# noise.

# %%
schedule = CosineSchedule()
levels = torch.linspace(0, 1, 9)
one_digit, eps = train[3:4].expand(9, -1, -1, -1), torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
for t, alpha, sigma in zip(levels, *schedule.alpha_sigma(levels), strict=True):
    print(f"t = {t:.3f}:   {alpha:.3f} * image + {sigma:.3f} * noise")
show({"one digit at t = 0, 1/8, 2/8, ... 1": add_noise(schedule, one_digit, eps, levels)})

# %% [markdown]
# At both ends a trace of 0.002 of the other part is left, so that it is always possible to divide by `alpha` and by
# `sigma`. In the middle, at t = 0.5, image and noise have the same weight. A person can hardly read such a digit. The
# first network will work at this *noise level*.
#
# ## 3. The U-Net
#
# To decide whether a pixel is ink or noise, a network has to consider two things: the pixels around it, and the whole
# figure, which tells what is likely there. A *convolution*, the layer that networks for images are made of, sees only
# the 3 x 3 positions around each pixel. A *U-Net* ([arXiv:1505.04597](https://arxiv.org/abs/1505.04597)) sees both,
# because it works at several sizes:
#
#     xt  8x8 --------- skip --------> 8x8  output
#           \                          /
#            4x4 ------ skip ----> 4x4
#              \                  /
#               2x2 --- skip -> 2x2
#                 \            /
#                  1x1 -> 1x1
#
# - The *way down* halves the size again and again. In an image of 2 x 2 positions, a 3 x 3 convolution sees
#   everything. What it finds there ("a round thing, top left") no longer has an exact place.
# - The *way up* doubles the size until the output is as large as the image.
# - The *skip connections* pass the result of each size on the way down to the same size on the way up. They carry the
#   exact places past the narrow bottom.
#
# `captionless.models.Denoiser` is such a network, and `DenoiserConfig` describes its shape. Each size is called a
# *level*. `width` is the number of channels at full size; each channel is a small image of some feature.
# `multipliers` has one number per level: its channels, as a multiple of `width`. `blocks` is the number of
# convolution blocks per level. The other arguments are for later lessons or for other data: `patch=1` and
# `attention=()` leave out what larger images need, and the condition, 10 numbers wide, is first used in lesson 4.

# %%
config = DenoiserConfig(
    channels=1, patch=1, width=16, multipliers=(1, 1, 1, 1), blocks=1, attention=(), condition_width=10
)


def fresh_network() -> Denoiser:
    """Build a network with random weights, the same at every call."""
    torch.manual_seed(0)
    return Denoiser(config)


network = fresh_network()
print(f"{parameter_count(network):,} weights")
print(network.down[0])

# %% [markdown]
# The output shows the block of the first level: two convolutions, normalisation layers, and a layer through which the
# time acts (`modulation`). Lesson 3 is about these parts. For now it is enough to know that a block maps images of 16
# channels to images of 16 channels.
#
# The parts of the network are attributes, and `Denoiser.forward` uses them in this order: `stem` (from one channel to
# 16), `down` and `downsample`, `middle`, `skip`, `up` and `upsample`, `head` (back to one channel).
#
# The network takes three arguments, `(xt, t, condition)`. The time says how much noise there is, which will matter in
# section 7. The `condition` will say *what* to draw, from lesson 4 on. Until then it is all zeros, the *null
# condition*.
#
# PyTorch can call a function of ours whenever a part of a network has run (a *hook*). The function `listen` uses this
# to keep the latest output of every level in `seen`, so that we can list the shapes.

# %%
null = torch.zeros(1, config.condition_width)
seen: dict[str, torch.Tensor] = {}


def listen(name: str, part: nn.Module) -> None:
    """Keep the latest output of a part under a name."""
    part.register_forward_hook(lambda module, inputs, output: seen.update({name: output.detach()}))


for level in range(4):
    listen(f"down {level}", network.down[level][-1])
    listen(f"up {level}", network.up[level][-1])
with torch.no_grad():
    output = network(train[:1], torch.tensor([0.5]), null)
for name, h in seen.items():
    _, channels, height, width = h.shape
    print(f"{name}:  {channels} channels of {height} x {width} = {h[0].numel():4d} numbers")
print("output:", tuple(output.shape))

# %% [markdown]
# An image of 64 numbers becomes 1,024, then 256, then 64, and at the bottom 16. That is too few to hold every pixel
# of a noisy image; there is room for its gist at most.
#
# ## 4. Training
#
# The *loss* is the number that training makes small. Here it is the mean squared error between the output and the
# clean image, over all pixels of a batch:
#
# $$L = \mathbb{E}\, \| D(x_t, t) - x_0 \|^2$$
#
# $D$ is the network. $\mathbb{E}$ (the *expectation*) is the mean over all digits, noises and times that can occur; a
# batch is a sample of them. The formula adds up the pixels, while the code takes their mean. That divides the loss by
# 64, and the best weights stay the same.
#
# Every step takes 128 random digits, adds fresh noise to them, and moves the weights a little against the gradient of
# the loss. The network never sees the same noisy image twice. The argument `times` of `fit` gives the times of a
# batch, and so the noise levels to train at: at first always 0.5.

# %%
BATCH, LEARNING_RATE = 128, 4e-3


def fit(network: Denoiser, steps: int, times: Callable[[int], torch.Tensor]) -> Denoiser:
    """Train a network to return clean digits; ``times(n)`` gives the noise levels of a batch."""
    torch.manual_seed(1)
    # All weights, but for those that section 6 holds fast.
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=LEARNING_RATE)
    # A learning rate that rises at first and falls to nothing: the last steps settle instead of jumping about.
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        x0 = train[torch.randint(len(train), (BATCH,))]
        t = times(BATCH)
        xt = add_noise(schedule, x0, torch.randn_like(x0), t)
        loss = (network(xt, t, null.expand(BATCH, -1)) - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return network.eval()


def at_half(n: int) -> torch.Tensor:
    """Return n times 0.5."""
    return torch.full((n,), 0.5)


network = fit(network, 300, at_half)

# %%
x0 = held_out.repeat(4, 1, 1, 1)  # each digit with four different noises, for steadier figures
t = at_half(len(x0))
xt = add_noise(schedule, x0, torch.randn(x0.shape, generator=torch.Generator().manual_seed(2)), t)


@torch.no_grad()
def denoise(network: Denoiser, xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Estimate the clean images in one step."""
    return network(xt, t, null.expand(len(xt), -1))


denoised = denoise(network, xt, t)
show({"noisy, t = 0.5": xt[:10], "denoised": denoised[:10], "clean (held out)": x0[:10]})

# %% [markdown]
# What does the way down make of the first of these digits? Below are the first eight channels at each size. (The
# hooks of section 3 are still in place, so denoising this digit once more fills `seen` with its outputs.) Do not
# expect to recognise the digit. Each channel is a mixture that proved useful: at full size the noise is still in it,
# at 4 x 4 there are rough regions, and at the bottom it is a single number.

# %%
denoise(network, xt[:1], t[:1])
figure, grid = plt.subplots(4, 8, figsize=(8, 4.6))
for level, axes in enumerate(grid):
    channels = seen[f"down {level}"][0]
    axes[0].set_title(f"down {level}: {channels.shape[1]} x {channels.shape[2]}", loc="left", fontsize=9)
    for axis, channel in zip(axes, channels, strict=False):
        axis.imshow(channel, cmap="viridis", vmin=float(channels.min()), vmax=float(channels.max()))
        axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## 5. How good is it?
#
# A number alone means little, so we compare with four simple estimates:
#
# - the noisy image itself, divided by `alpha` to give it the right brightness;
# - the mean of the training digits, whatever the input;
# - a blur: the mean of 3 x 3 noisy pixels (divided by `alpha` too);
# - the best *linear* estimate: each pixel is a weighted sum of all noisy pixels, plus a constant, with the weights
#   that make the squared error smallest. For data with mean $m$ and covariance matrix $C$ (how the pixels vary
#   together, here 64 x 64 numbers) there is a formula for it, the Wiener filter: $m + \alpha C (\alpha^2 C + \sigma^2
#   I)^{-1} (x_t - \alpha m)$. Both $m$ and $C$ come from the training digits.

# %%
alpha, sigma = (float(value) for value in schedule.alpha_sigma(torch.tensor(0.5)))
mean_digit = train.mean(0)
m, C = mean_digit.flatten(), torch.cov(train.flatten(1).T)
gain = alpha * C @ torch.linalg.inv(alpha**2 * C + sigma**2 * torch.eye(64))
blur = nn.functional.avg_pool2d(nn.functional.pad(xt / alpha, (1, 1, 1, 1), mode="replicate"), 3, stride=1)

estimates = {
    "the noisy image": xt / alpha,
    "mean digit": mean_digit.expand_as(x0),
    "3 x 3 blur": blur,
    "best linear": (m + (xt.flatten(1) - alpha * m) @ gain.T).reshape(x0.shape),
    "U-Net": denoised,
}
error = {name: float((output - x0).square().mean()) for name, output in estimates.items()}
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.bar_label(axis.barh(list(error), list(error.values())), fmt="%.3f", padding=3)
axis.set(xlabel="mean squared error on held-out digits, t = 0.5", xlim=(0, 1.15))
axis.invert_yaxis()
plt.show()
show({name: output[:10] for name, output in estimates.items()} | {"clean": x0[:10]})

# %% [markdown]
# With so much noise, blurring is worse than ignoring the image and returning the mean digit. The linear filter is a
# strong opponent, because it uses how every pixel varies with every other. But it mixes the pixels by the same matrix
# whatever the digit. The U-Net can first find out which digit it may be, and then act on it.
#
# ## 6. What the skip connections bring
#
# Here is the same network once more, with its skip connections set to zero and kept there. Its output depends only on
# what passes through the bottom: 16 numbers.

# %%
without = fresh_network()
for skip in without.skip:
    zero_weights(skip)
    skip.requires_grad_(False)
without = fit(without, 300, at_half)
error["no skips"] = float((denoise(without, xt, t) - x0).square().mean())
show({"with skips": denoised[:10], "without": denoise(without, xt, t)[:10], "clean": x0[:10]})
print(f"error with skip connections {error['U-Net']:.3f}, without {error['no skips']:.3f}")

# %% [markdown]
# Even 16 numbers hold most of what can be known about such a digit: without skip connections the output shows much
# the same figures, some of them vaguer. The error is 8% larger. How much larger depends on how narrow the bottom is:
# with `multipliers=(1, 2, 2)`, where the bottom holds 128 numbers for the 64 pixels, the difference was below 1% when
# it was tried. Images with more pixels have more to lose at the bottom.
#
# ## 7. More noise
#
# The next network handles all noise levels. It is trained at times drawn uniformly from [0, 1], and gets the time as
# an input. Below are two digits with more and more noise, and under each noisy image the estimate in one step.

# %%
all_levels = fit(fresh_network(), 800, torch.rand)
levels = torch.tensor([0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
rows = {}
for k in (0, 4):
    digit = held_out[k : k + 1].expand(len(levels), -1, -1, -1)
    eps = torch.randn(digit.shape, generator=torch.Generator().manual_seed(k))
    noisy = add_noise(schedule, digit, eps, levels)
    rows[f"digit {k}, noisy: t = " + ", ".join(f"{t:.1f}" for t in levels)] = noisy
    rows[f"digit {k}, the estimate in one step"] = denoise(all_levels, noisy, levels)
show(rows)

# %% [markdown]
# The more noise, the vaguer the estimate. At t = 1, both digits have become the same blob.
#
# ## 8. An image from pure noise, in one step
#
# If the network can recover a digit that is hardly visible, can it also find one where there is none? Here is noise
# with no digit in it, and what the network makes of it at t = 1.

# %%
pure_noise = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(3))
one_step = denoise(all_levels, pure_noise, torch.ones(300))
show(
    {
        "pure noise": pure_noise[:10],
        "the estimate in one step": one_step[:10],
        "the mean of the training digits": mean_digit[None],
    }
)

# %% [markdown]
# There is no digit, only a blob, and it is always the same blob. This is not a failure of training. It is the right
# answer to the question that the loss asks.
#
# That question is: which single output has the smallest squared error? Suppose that only two digits exist, and that
# the noise hides which of them is there. An output that shows one of them is entirely right half of the time, and
# entirely wrong the other half. Below is the mean error of every mixture of the two, from the first digit to the
# second.

# %%
first, second = train[0], train[1]
share = torch.linspace(0, 1, 11)
mixed = first + share.reshape(-1, 1, 1, 1) * (second - first)
expected = ((mixed - first).square().mean((1, 2, 3)) + (mixed - second).square().mean((1, 2, 3))) / 2
show({"outputs, from one digit to the other": mixed})
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot(share, expected, "o-")
axis.set(xlabel="share of the second digit in the output", ylabel="mean squared error", ylim=(0, None))
plt.show()
assert int(expected.argmin()) == 5, "the smallest error is that of the half-and-half mixture, whatever the two digits"

# %% [markdown]
# The best output is the mixture of both digits in equal parts. In general, let the images $x^{(i)}$ be hidden in `xt`
# with the probabilities $p_i$. The output $a$ has the mean squared error $\sum_i p_i \|a - x^{(i)}\|^2$. Its
# gradient, $2 \sum_i p_i (a - x^{(i)})$, is zero for $a = \sum_i p_i x^{(i)}$. So the best output, $D^*$, is the mean
# of all images that could be hidden in `xt`, each weighted by its probability. This is written as a conditional
# expectation (read the bar as "given"):
#
# $$D^*(x_t, t) = \mathbb{E}[x_0 \mid x_t]$$
#
# With little noise only one image is likely, and the mean is that image. With more noise there are more, and their
# mean is blurred. Pure noise says nothing about what is hidden in it: every digit is as likely as before, so the mean
# is that of *all* digits, $\mathbb{E}[x_0]$. No network and no training can change this as long as the loss is the
# squared error. (Exercise 1 tries another loss.)
#
# How much variety is left? We measure it as the variance of a pixel over many images, averaged over all pixels.

# %%
real_variance = float(held_out.var(0).mean())


def variety(images: torch.Tensor) -> float:
    """Return the variance between images, per pixel, as a share of that between real digits."""
    return float(images.var(0).mean()) / real_variance


def distance(images: torch.Tensor) -> torch.Tensor:
    """Return how far each image is from the mean digit: root mean square over its pixels."""
    return (images - mean_digit).square().mean((1, 2, 3)).sqrt()


figure, axis = plt.subplots(figsize=(6, 2.4))
for name, images in {"real digits (held out)": held_out, "one step from pure noise": one_step}.items():
    axis.hist(distance(images).numpy(), bins=torch.linspace(0, 0.8, 41).tolist(), alpha=0.7, label=name)
axis.set(xlabel="distance to the mean digit", ylabel="images")
axis.legend()
plt.show()
print(f"variety of the one-step estimates: {variety(one_step):.1%} of that of real digits")

# %% [markdown]
# ## 9. The way out
#
# A blob is a poor image, but it is not useless: it shows in which *direction* the digits are. So do not jump to it.
# Go a small part of the way, to an image with slightly less noise, and apply the network again. By now chance has
# begun to favour some digits over others, so the estimate is a mean of fewer digits, and a little sharper. Go a small
# part of the way to that one, and so on.
#
# In code: take the network's estimate for `x0`. Then `xt = alpha * x0 + sigma * eps` gives the noise,
# `eps = (xt - alpha * x0) / sigma`. Mix the two again, with the `alpha` and `sigma` of a slightly smaller time. This
# is DDIM ([arXiv:2010.02502](https://arxiv.org/abs/2010.02502), eq. 12), in the library `captionless.diffusion.ddim`.
#
# Below are 50 such steps from t = 1 to t = 0, with the same network. `trajectory` keeps every seventh state of one
# image.

# %%
times = torch.linspace(1, 0, 51)
alphas, sigmas = schedule.alpha_sigma(times)
xt, trajectory = pure_noise, {"the state xt": [], "the estimate at that state": []}
for k in range(50):
    output = denoise(all_levels, xt, times[k].expand(300))
    if k % 7 == 0:
        trajectory["the state xt"].append(xt[5])
        trajectory["the estimate at that state"].append(output[5])
    eps = (xt - alphas[k] * output) / sigmas[k]
    xt = alphas[k + 1] * output + sigmas[k + 1] * eps
stepwise = output  # not xt, in which the schedule leaves a trace of noise
show({name: torch.stack(images) for name, images in trajectory.items()})
show({"one step": one_step[:10], "many small steps, from the same noise": stepwise[:10]})
print(f"variety: one step {variety(one_step):.1%}, many small steps {variety(stepwise):.1%}")

# %% [markdown]
# These are digits, most of them readable, made out of noise by a network that only learned to remove noise from
# digits. Why this works, how to choose the steps, and how to check that the result is right is the subject of lesson
# 2.
#
# ## What was measured
#
# With three random seeds, we saw: U-Net / best linear 0.80 to 0.83, U-Net / noisy 0.12, without skips / with skips
# 1.08 to 1.09; the blob farthest from the mean digit at 0.04 to 0.06, and the nearest real digit at 0.40; variety
# 0.1% to 0.3% in one step and 95% to 96% in many steps. Every bound below is wider than that, because other
# processors round differently.

# %%
farthest_blob, nearest_digit = float(distance(one_step).max()), float(distance(held_out).min())
print(f"error at t = 0.5: U-Net / best linear {error['U-Net'] / error['best linear']:.2f}")
print(f"                  U-Net / noisy       {error['U-Net'] / error['the noisy image']:.2f}")
print(f"                  no skips / skips    {error['no skips'] / error['U-Net']:.2f}")
print(f"distance to the mean digit: one step <= {farthest_blob:.3f}, real digits >= {nearest_digit:.3f}")
print(f"variety: one step {variety(one_step):.1%}, many small steps {variety(stepwise):.1%}")

assert error["U-Net"] < 0.2 * error["the noisy image"], "a denoiser removes most of the noise from unseen digits"
assert error["U-Net"] < 0.9 * error["best linear"], "the U-Net beats the best linear filter; a ratio of 0.8 is usual"
assert error["no skips"] > 1.02 * error["U-Net"], "what has to pass a bottom of 16 numbers loses detail"
assert farthest_blob < nearest_digit / 2, "every one-step estimate is much nearer to the mean than any digit"
assert variety(one_step) < 0.02, "in one step almost nothing of the variety of digits is left: E[x0] is one image"
# Above as well as below: images that are still noisy would have too much variety, not too little.
assert 0.7 < variety(stepwise) < 1.2, "many small steps bring the variety of real digits back"

# %% [markdown]
# ## Exercises
#
# **1.** The squared error leads to the mean. What does the *absolute* error, `(output - x0).abs().mean()`, lead to?
# Find by gradient descent the one image whose mean absolute error to all training digits is smallest. Is it a digit?
#
# <details><summary>Solution</summary>
#
# It is the median of each pixel: half of the values lie above it and half below, so that a small move gains as much
# on one side as it loses on the other. The result has harder edges than the mean, but it is a blob all the same.
#
# ```python
# output = torch.zeros(1, 8, 8, requires_grad=True)
# optimizer = torch.optim.Adam([output], lr=0.01)
# for _ in range(500):
#     loss = (output - train).abs().mean()
#     optimizer.zero_grad()
#     loss.backward()
#     optimizer.step()
# output = output.detach()
# median = train.median(0).values
# show({"smallest absolute error": output[None], "median": median[None], "mean": mean_digit[None]})
# to_median, to_mean = float((output - median).abs().mean()), float((output - mean_digit).abs().mean())
# print(f"mean distance to the median {to_median:.3f}, to the mean {to_mean:.3f}")
# assert to_median < to_mean / 3, "the absolute error leads to the median"
# ```
#
# </details>
#
# **2.** If the 1,500 training digits were all the images there are, $\mathbb{E}[x_0 \mid x_t]$ could be computed
# exactly. It is their mean, each weighted by how likely it makes `xt`, that is by
# $e^{-\|x_t - \alpha x_0\|^2 / 2\sigma^2}$, with weights that add up to 1 (`torch.softmax` of the exponents). Write
# this function, and compare it with `all_levels` on held-out digits at t = 0.3 and t = 0.9. Which is better, and why?
#
# <details><summary>Solution</summary>
#
# At t = 0.9 many digits are possible. The network has learned to return their weighted mean, and the two agree. At t
# = 0.3 nearly all the weight falls on the one training digit that is most similar. So the formula returns a copy of
# that digit, which is wrong for a new digit; the network has learned what strokes look like, and is better.
#
# ```python
# def exact(xt, t):
#     alpha, sigma = schedule.alpha_sigma(t)
#     square = torch.cdist(xt.flatten(1), alpha * train.flatten(1)).square()
#     weights = torch.softmax(-square / (2 * sigma**2), dim=1)
#     return (weights @ train.flatten(1)).reshape(xt.shape)
#
#
# ratio = {}
# for level in (0.3, 0.9):
#     t = torch.tensor(level)
#     eps = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(5))
#     noisy = add_noise(schedule, held_out, eps, t.expand(297))
#     by_formula, by_network = exact(noisy, t), denoise(all_levels, noisy, t.expand(297))
#     ratio[level] = float((by_network - held_out).square().mean() / (by_formula - held_out).square().mean())
#     show({f"noisy, t = {level}": noisy[:10], "formula": by_formula[:10], "network": by_network[:10]})
#     print(f"t = {level}: error of the network / error of the formula = {ratio[level]:.2f}")
# assert ratio[0.3] < 0.9, "with little noise the formula copies training digits"
# assert 0.9 < ratio[0.9] < 1.1, "with much noise network and formula give the same mean"
# ```
#
# </details>
#
# **3.** `network` was trained at t = 0.5 only. Is it better there than `all_levels`, which had to learn every noise
# level? How do the two compare at t = 0.2, if `network` gets the true time as input?
#
# <details><summary>Solution</summary>
#
# At its own level they are about equal. At t = 0.2 the specialist takes strokes for noise, since that is what it has
# learned; it never learned to use the time. One network that gets the time as input replaces a separate network for
# every level.
#
# ```python
# errors = {}
# for level in (0.2, 0.5):
#     t = torch.full((297,), level)
#     noisy = add_noise(schedule, held_out, torch.randn(held_out.shape, generator=torch.Generator().manual_seed(6)), t)
#     for name, each in (("specialist", network), ("all levels", all_levels)):
#         errors[name, level] = float((denoise(each, noisy, t) - held_out).square().mean())
#         print(f"t = {level}, {name}: {errors[name, level]:.4f}")
# assert errors["specialist", 0.2] > 1.3 * errors["all levels", 0.2], "a specialist fails outside its level"
# ```
#
# </details>

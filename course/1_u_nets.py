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
# A *denoiser* is a network that is shown a noisy picture and answers the clean one. You will build one, train it on
# handwritten digits, and then ask too much of it: a picture from nothing but noise.
#
# Two things will be measured. On digits that the network has never seen, its error is about a fifth below that of the
# best linear filter (a formula; section 5). And from pure noise it always answers nearly the same grey blob, the mean
# of all digits: of the variety of real digits next to nothing is left. The lesson ends with the way out, which the
# rest of the course follows.

# %%
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from captionless.diffusion.schedules import CosineSchedule, add_noise
from captionless.models.blocks import zero_weights
from captionless.models.unet import Denoiser, DenoiserConfig, parameter_count

# %% [markdown]
# ## 1. The pictures
#
# scikit-learn ships with 1,797 digits, 8 x 8 pixels each, written by many people. PyTorch holds pictures in a tensor of
# the shape `(n, channels, height, width)`; grey pictures have one channel. The values, 0 to 16 in the file, are brought
# to -1 (black) to 1 (white), the range of all pictures in this course. `show` will draw them throughout the lesson,
# with everything below -1 as black and everything above 1 as white.
#
# 297 of them are *held out*: no network of this lesson learns from them, and all errors are measured on them. The
# network below has about as many weights (93,000) as the other 1,500 digits have pixels (96,000). It might learn some
# of its training pictures by heart; on new ones that would not help it.

# %%
x = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
held_out, train = x[order[:297]], x[order[297:]]
print("to learn from:", tuple(train.shape), "   held out:", tuple(held_out.shape))


def show(rows: dict[str, torch.Tensor]) -> None:
    """Draw rows of pictures, each under its name."""
    columns = max(map(len, rows.values()))
    space = {"hspace": 0.4, "wspace": 0.06}
    _, grid = plt.subplots(len(rows), columns, figsize=(columns, 1.25 * len(rows)), squeeze=False, gridspec_kw=space)
    for (name, pictures), axes in zip(rows.items(), grid, strict=True):
        axes[0].set_title(name, loc="left", fontsize=9)
        for axis, picture in zip(axes, pictures, strict=False):
            axis.imshow(picture.squeeze(), cmap="gray", vmin=-1, vmax=1)
        for axis in axes:
            axis.axis("off")
    plt.show()


show({"digits": train[:10]})

# %% [markdown]
# ## 2. Noise
#
# *Noise* here is an independent random number for each pixel, from the normal distribution with mean 0 and standard
# deviation 1. It is called `eps`, $\epsilon$ in formulas. A noisy picture `xt` is a mixture of the clean picture `x0`
# and of noise:
#
# $$x_t = \alpha\, x_0 + \sigma\, \epsilon, \qquad \alpha^2 + \sigma^2 = 1$$
#
# (`captionless.diffusion.schedules.add_noise`; eq. 4 of DDPM, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239),
# the paper that
# most of today's diffusion models go back to). The second equation keeps `xt` at about the same strength whatever the
# mixture. Which `alpha` and which `sigma` is said by one number, the *time* `t`: at t = 0 there is only picture, at
# t = 1 only noise. A *schedule* turns `t` into the two. Lesson 2 takes it apart; until then it is a dial for the amount
# of noise.

# %%
schedule = CosineSchedule()
levels = torch.linspace(0, 1, 9)
one_digit, eps = train[3:4].expand(9, -1, -1, -1), torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
for t, alpha, sigma in zip(levels, *schedule.alpha_sigma(levels), strict=True):
    print(f"t = {t:.3f}:   {alpha:.3f} * picture + {sigma:.3f} * noise")
show({"one digit at t = 0, 1/8, 2/8, ... 1": add_noise(schedule, one_digit, eps, levels)})

# %% [markdown]
# At both ends a trace of 0.002 of the other is left, so that one can divide by `alpha` and by `sigma` at any time. In
# the middle, at t = 0.5, picture and noise have the same weight. A person can hardly read such a digit. This is the
# *noise level* at which the first network will work.
#
# ## 3. The U-Net
#
# To say whether a pixel is ink or noise, a network has to look at two things at once: at the pixels beside it, and at
# the whole figure, which tells what is likely there. A *convolution*, the layer that networks for pictures are made of,
# sees only the 3 x 3 positions around each pixel. A *U-Net* ([arXiv:1505.04597](https://arxiv.org/abs/1505.04597))
# does so by working at several sizes:
#
#     xt  8x8 --------- skip --------> 8x8  answer
#           \                          /
#            4x4 ------ skip ----> 4x4
#              \                  /
#               2x2 --- skip -> 2x2
#                 \            /
#                  1x1 -> 1x1
#
# - The *way down* halves the size again and again. At 2 x 2 positions, 3 x 3 is everything. What is found there ("a
#   round thing, top left") has no exact place any more.
# - The *way up* doubles the size until the answer has that of the picture.
# - The *skip connections* hand what the way down held at some size to the way up at the same size: they carry where
#   exactly things are, past the narrow bottom.
#
# `captionless.models.unet.Denoiser` is such a network; `DenoiserConfig` says how large. Each size is called a *level*.
# `width` is the number of channels at full size, each a small picture of some feature. `multipliers` has one number
# for each level: its channels, as a multiple of `width`. `blocks` says how many blocks of convolutions a level has.
# The rest is for later or for other data: `patch=1` and `attention=()` leave out what large pictures need, and the
# condition, 10 numbers wide, has its first use in lesson 4.

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
# What is printed is the block of the first level: two convolutions, and beside them normalisations and a layer by which
# the time acts (`modulation`). Lesson 3 is about these parts; here it is enough that a block maps pictures of 16
# channels to pictures of 16 channels.
#
# The parts of the network are attributes, in the order in which `Denoiser.forward` uses them: `stem` (from one channel
# to 16), `down` and `downsample`, `middle`, `skip`, `up` and `upsample`, `head` (back to one channel).
#
# It takes three arguments, `(xt, t, condition)`. The time tells it how much noise there is; that will matter
# in section 7. The `condition` will say *what* to draw from lesson 4 on. Until then it is zeros, the *null
# condition*.
#
# PyTorch can call a function of ours whenever a part has answered (a *hook*). In this way `listen` keeps the latest
# answer at every level in `seen`, and the shapes can be listed.

# %%
null = torch.zeros(1, config.condition_width)
seen: dict[str, torch.Tensor] = {}


def listen(name: str, part: nn.Module) -> None:
    """Keep the latest answer of a part under a name."""
    part.register_forward_hook(lambda module, inputs, answer: seen.update({name: answer.detach()}))


for level in range(4):
    listen(f"down {level}", network.down[level][-1])
    listen(f"up {level}", network.up[level][-1])
with torch.no_grad():
    answer = network(train[:1], torch.tensor([0.5]), null)
for name, h in seen.items():
    _, channels, height, width = h.shape
    print(f"{name}:  {channels} channels of {height} x {width} = {h[0].numel():4d} numbers")
print("answer:", tuple(answer.shape))

# %% [markdown]
# A picture of 64 numbers becomes 1,024, then 256, then 64, and at the bottom 16: too few to hold every pixel of a noisy
# picture. There is room for its gist at most.
#
# ## 4. Training
#
# The *loss* is the number that training makes small: here the mean squared error between the answer and the clean
# picture, over all pixels of a batch.
#
# $$L = \mathbb{E}\, \| D(x_t, t) - x_0 \|^2$$
#
# $D$ is the network, and $\mathbb{E}$ (*expectation*) the mean over all digits, noises and times that may come up; a
# batch is a sample of them. The formula adds up the pixels where the code takes their mean. That divides it by 64, and
# the smallest value is reached by the same weights.
#
# Every step takes 128 random digits, spoils them with fresh noise, and moves the weights a little against the gradient
# of the loss. The network never meets the same noisy picture twice. The argument `times` of `fit` makes the times of a
# batch, that is the noise levels at which to train: at first always 0.5.

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
    """Answer the clean pictures in one shot."""
    return network(xt, t, null.expand(len(xt), -1))


denoised = denoise(network, xt, t)
show({"noisy, t = 0.5": xt[:10], "denoised": denoised[:10], "clean (held out)": x0[:10]})

# %% [markdown]
# What the way down has made of the first of these digits, before the way up brings it back: the first eight channels at
# each size. (The hooks of section 3 are still in place: to denoise this digit once more fills `seen` with its answers.)
# Do not expect to recognise the digit. Each channel is some mixture that proved useful: at full size still with the
# noise in it, at 4 x 4 rough regions, at the bottom a single number.

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
# A number means little alone, so four simple answers stand beside it:
#
# - the noisy picture itself, divided by `alpha` to have the right brightness;
# - the mean of the training digits, whatever the input;
# - a blur: the mean of 3 x 3 noisy pixels (divided by `alpha` too);
# - the best *linear* answer: each pixel is a weighted sum of all noisy pixels, plus a constant, with the weights that
#   make the squared error smallest. For data with mean $m$ and covariance matrix $C$ (how the pixels vary together,
#   here 64 x 64 numbers) it is known in closed form, the Wiener filter:
#   $m + \alpha C (\alpha^2 C + \sigma^2 I)^{-1} (x_t - \alpha m)$. Both $m$ and $C$ are taken from the training digits.

# %%
alpha, sigma = (float(value) for value in schedule.alpha_sigma(torch.tensor(0.5)))
mean_digit = train.mean(0)
m, C = mean_digit.flatten(), torch.cov(train.flatten(1).T)
gain = alpha * C @ torch.linalg.inv(alpha**2 * C + sigma**2 * torch.eye(64))
blur = nn.functional.avg_pool2d(nn.functional.pad(xt / alpha, (1, 1, 1, 1), mode="replicate"), 3, stride=1)

answers = {
    "the noisy picture": xt / alpha,
    "mean digit": mean_digit.expand_as(x0),
    "3 x 3 blur": blur,
    "best linear": (m + (xt.flatten(1) - alpha * m) @ gain.T).reshape(x0.shape),
    "U-Net": denoised,
}
error = {name: float((answer - x0).square().mean()) for name, answer in answers.items()}
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.bar_label(axis.barh(list(error), list(error.values())), fmt="%.3f", padding=3)
axis.set(xlabel="mean squared error on held-out digits, t = 0.5", xlim=(0, 1.15))
axis.invert_yaxis()
plt.show()
show({name: answer[:10] for name, answer in answers.items()} | {"clean": x0[:10]})

# %% [markdown]
# With so much noise, blurring is worse than not looking at the picture at all and answering the mean digit. The linear
# filter is a strong opponent: it knows how every pixel goes with every other one. But it mixes the pixels by
# the same matrix whatever is written there. The U-Net can first find out what it is looking at, and then act on it.
#
# ## 6. What the skip connections bring
#
# The same network once more, with its skip connections set to zero and kept there. Everything it answers has then
# passed the bottom: 16 numbers.

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
# Even 16 numbers hold most of what can be known of such a digit: the answers without skips show much the same figures,
# some of them vaguer. The error is 8% larger. How much it is depends on how narrow the bottom is: with
# `multipliers=(1, 2, 2)`, whose bottom holds 128 numbers for the 64 pixels, it was below 1% when it was tried.
# Pictures with more pixels have more to lose at the bottom.
#
# ## 7. More noise
#
# Now a network for all noise levels: it is trained at times drawn uniformly from [0, 1], and told which. Then two
# digits at rising noise, and below each noisy picture the answer in one shot.

# %%
all_levels = fit(fresh_network(), 800, torch.rand)
levels = torch.tensor([0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
rows = {}
for k in (0, 4):
    digit = held_out[k : k + 1].expand(len(levels), -1, -1, -1)
    eps = torch.randn(digit.shape, generator=torch.Generator().manual_seed(k))
    noisy = add_noise(schedule, digit, eps, levels)
    rows[f"digit {k}, noisy: t = " + ", ".join(f"{t:.1f}" for t in levels)] = noisy
    rows[f"digit {k}, the answer in one shot"] = denoise(all_levels, noisy, levels)
show(rows)

# %% [markdown]
# The more noise, the vaguer the answer. At t = 1, both digits have become the same blob.
#
# ## 8. A picture from pure noise, in one shot
#
# If the network can bring out a digit that is hardly visible, could it not bring out one where there is none? Here is
# noise, with no digit in it, and what the network makes of it at t = 1.

# %%
pure_noise = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(3))
one_shot = denoise(all_levels, pure_noise, torch.ones(300))
show(
    {
        "pure noise": pure_noise[:10],
        "the answer in one shot": one_shot[:10],
        "the mean of the training digits": mean_digit[None],
    }
)

# %% [markdown]
# No digit, but a blob, and always the same one. This is no failure of training. It is the right answer to the question
# that was asked.
#
# The question is: which single answer has the smallest squared error? Say that only two digits exist, and that the
# noise hides which of them is there. Whoever answers one of them is entirely right half of the time, and entirely
# wrong the other half. Here is the mean error of all answers on the way from one to the other.

# %%
first, second = train[0], train[1]
share = torch.linspace(0, 1, 11)
mixed = first + share.reshape(-1, 1, 1, 1) * (second - first)
expected = ((mixed - first).square().mean((1, 2, 3)) + (mixed - second).square().mean((1, 2, 3))) / 2
show({"answers, from one digit to the other": mixed})
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot(share, expected, "o-")
axis.set(xlabel="share of the second digit in the answer", ylabel="mean squared error", ylim=(0, None))
plt.show()
assert int(expected.argmin()) == 5, "the smallest error is that of the half-and-half mixture, whatever the two digits"

# %% [markdown]
# The best answer is the mixture of both digits in equal parts. In general, let the pictures $x^{(i)}$ be hidden in `xt`
# with the probabilities $p_i$. The answer $a$ has the mean squared error $\sum_i p_i \|a - x^{(i)}\|^2$. Its slope,
# $2 \sum_i p_i (a - x^{(i)})$, is zero where $a = \sum_i p_i x^{(i)}$. So the best answer, $D^*$, is the mean of all
# the pictures that could be hidden in `xt`, each counted by how likely it is. One writes it as an expectation, and
# reads the bar as "given":
#
# $$D^*(x_t, t) = \mathbb{E}[x_0 \mid x_t]$$
#
# With little noise only one picture is likely, and the mean is that picture. With more noise there are more, and
# their mean blurs. Pure noise says nothing of what is hidden in it: every digit is as likely as before, and the mean is
# that of *all* digits, $\mathbb{E}[x_0]$. Network and training can be as good as you like, as long as the loss is the
# squared error this does not change. (Exercise 1 tries another loss.)
#
# How much variety is left? Take one pixel, and its variance over many pictures; then the mean over all pixels.

# %%
real_variance = float(held_out.var(0).mean())


def variety(pictures: torch.Tensor) -> float:
    """Return the variance between pictures, per pixel, as a share of that between real digits."""
    return float(pictures.var(0).mean()) / real_variance


def distance(pictures: torch.Tensor) -> torch.Tensor:
    """Return how far each picture is from the mean digit: root mean square over its pixels."""
    return (pictures - mean_digit).square().mean((1, 2, 3)).sqrt()


figure, axis = plt.subplots(figsize=(6, 2.4))
for name, pictures in {"real digits (held out)": held_out, "one shot from pure noise": one_shot}.items():
    axis.hist(distance(pictures).numpy(), bins=torch.linspace(0, 0.8, 41).tolist(), alpha=0.7, label=name)
axis.set(xlabel="distance to the mean digit", ylabel="pictures")
axis.legend()
plt.show()
print(f"variety of the one-shot answers: {variety(one_shot):.1%} of that of real digits")

# %% [markdown]
# ## 9. The way out
#
# A blob is a poor picture, but it is not useless: it says in which *direction* digits lie. So do not jump to it. Go a
# small part of the way, to a picture with slightly less noise, and ask again. In it, chance has begun to favour some
# digits over others; the answer is a mean of fewer of them, a little sharper. Go a small part of the way to that.
#
# In code: take the answer for `x0`. Then `xt = alpha * x0 + sigma * eps` says what the noise would be,
# `eps = (xt - alpha * x0) / sigma`. Mix the two again, with the `alpha` and `sigma` of a slightly smaller time (this is
# DDIM, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502), eq. 12, and in the library
# `captionless.diffusion.samplers.ddim`).
# Below, 50 such steps from t = 1 to t = 0, with the same network. `film` keeps every seventh of one picture.

# %%
times = torch.linspace(1, 0, 51)
alphas, sigmas = schedule.alpha_sigma(times)
xt, film = pure_noise, {"the state xt": [], "the answer at that state": []}
for k in range(50):
    answer = denoise(all_levels, xt, times[k].expand(300))
    if k % 7 == 0:
        film["the state xt"].append(xt[5])
        film["the answer at that state"].append(answer[5])
    eps = (xt - alphas[k] * answer) / sigmas[k]
    xt = alphas[k + 1] * answer + sigmas[k + 1] * eps
stepwise = answer  # not xt, in which the schedule leaves a trace of noise
show({name: torch.stack(pictures) for name, pictures in film.items()})
show({"one shot": one_shot[:10], "many small steps, from the same noise": stepwise[:10]})
print(f"variety: one shot {variety(one_shot):.1%}, many small steps {variety(stepwise):.1%}")

# %% [markdown]
# Digits, most of them readable, out of noise, by a network that was only ever taught to remove noise from digits. Why
# this works, how to choose the steps, and how to know that the result is right is the subject of lesson 2.
#
# ## What was measured
#
# Seen with three random seeds: U-Net / best linear 0.80 to 0.83, U-Net / noisy 0.12, without skips / with skips 1.08 to
# 1.09; the farthest blob 0.04 to 0.06 from the mean digit, and the nearest real digit 0.40; variety 0.1% to 0.3% in one
# shot and 95% to 96% in many steps. Every bound below is wider than that, so that another processor, which rounds
# otherwise, passes too.

# %%
farthest_blob, nearest_digit = float(distance(one_shot).max()), float(distance(held_out).min())
print(f"error at t = 0.5: U-Net / best linear {error['U-Net'] / error['best linear']:.2f}")
print(f"                  U-Net / noisy       {error['U-Net'] / error['the noisy picture']:.2f}")
print(f"                  no skips / skips    {error['no skips'] / error['U-Net']:.2f}")
print(f"distance to the mean digit: one shot <= {farthest_blob:.3f}, real digits >= {nearest_digit:.3f}")
print(f"variety: one shot {variety(one_shot):.1%}, many small steps {variety(stepwise):.1%}")

assert error["U-Net"] < 0.2 * error["the noisy picture"], "a denoiser removes most of the noise from unseen digits"
assert error["U-Net"] < 0.9 * error["best linear"], "the U-Net beats the best linear filter; a ratio of 0.8 is usual"
assert error["no skips"] > 1.02 * error["U-Net"], "what has to pass a bottom of 16 numbers loses detail"
assert farthest_blob < nearest_digit / 2, "every one-shot answer is much nearer to the mean than any digit"
assert variety(one_shot) < 0.02, "in one shot next to nothing of the variety of digits is left: E[x0] is one picture"
# Above as well as below: pictures that are still noisy would have too much variety, not too little.
assert 0.7 < variety(stepwise) < 1.2, "many small steps bring the variety of real digits back"

# %% [markdown]
# ## Exercises
#
# **1.** The squared error asks for the mean. What does the *absolute* error, `(answer - x0).abs().mean()`, ask for?
# Find by gradient descent the one picture whose mean absolute error to all training digits is the smallest. Is it a
# digit?
#
# <details><summary>Solution</summary>
#
# For each pixel, the median: half of the values lie above it and half below, so that a small move gains as much on one
# side as it loses on the other. It has harder edges than the mean, and is a blob all the same.
#
# ```python
# answer = torch.zeros(1, 8, 8, requires_grad=True)
# optimizer = torch.optim.Adam([answer], lr=0.01)
# for _ in range(500):
#     loss = (answer - train).abs().mean()
#     optimizer.zero_grad()
#     loss.backward()
#     optimizer.step()
# answer = answer.detach()
# median = train.median(0).values
# show({"smallest absolute error": answer[None], "median": median[None], "mean": mean_digit[None]})
# to_median, to_mean = float((answer - median).abs().mean()), float((answer - mean_digit).abs().mean())
# print(f"mean distance to the median {to_median:.3f}, to the mean {to_mean:.3f}")
# assert to_median < to_mean / 3, "the absolute error asks for the median"
# ```
#
# </details>
#
# **2.** If the 1,500 training digits were all the pictures there are, $\mathbb{E}[x_0 \mid x_t]$ could be computed: it
# is their mean, each weighted by how likely it makes `xt`, that is by $e^{-\|x_t - \alpha x_0\|^2 / 2\sigma^2}$, with
# weights that add up to 1 (`torch.softmax` of the exponents does that). Write it, and compare it with `all_levels` on
# held-out digits at t = 0.3 and t = 0.9. Which is better, and why?
#
# <details><summary>Solution</summary>
#
# At t = 0.9 many digits are possible, their weighted mean is what the network has learned to answer, and the two agree.
# At t = 0.3 nearly all the weight falls on the one training digit that is most similar. The formula answers a copy of
# that, which for a new digit is wrong; the network has learned what strokes look like, and is better.
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
# assert 0.9 < ratio[0.9] < 1.1, "with much noise network and formula answer the same mean"
# ```
#
# </details>
#
# **3.** `network` was trained at t = 0.5 only. Is it better there than `all_levels`, which had to learn everything?
# How do the two do at t = 0.2, if `network` is told the truth about the time?
#
# <details><summary>Solution</summary>
#
# At its own level they are about equal. At t = 0.2 the specialist takes for noise what is stroke, since that is what it
# has learned; the time that it is told means nothing to it. One network, told the time, replaces a network for
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

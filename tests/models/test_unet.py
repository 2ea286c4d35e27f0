"""The contract of captionless.models.unet: the U-Net and its exchangeable parts."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from captionless.errors import CaptionlessError
from captionless.models.attention import CrossAttention, SelfAttention
from captionless.models.blocks import Parts, ResidualBlock, group_norm
from captionless.models.presets import default_patch
from captionless.models.unet import Denoiser, DenoiserConfig, parameter_count
from tiny import SHAPE, WIDTH, random, uniform, unit_vectors

TOKENS = replace(SHAPE, tokens=3)


def inputs(size: int = 8, n: int = 2, channels: int = 3, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    return random(n, channels, size, size), uniform(n), unit_vectors(n, width)


# --- shapes ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 64, 128])
def test_v_has_the_shape_of_the_image(size: int, channels: int) -> None:
    shape = DenoiserConfig(channels, default_patch(size), width=16, blocks=1, condition_width=WIDTH)
    shape.check_size(size)
    v = tiny.denoiser(shape)(*inputs(size, 1, channels))
    assert v.shape == (1, channels, size, size)
    assert v.isfinite().all()


@pytest.mark.parametrize("width", [16, 48, 64, 80, 112])
def test_every_width_that_the_config_allows_can_be_computed(width: int) -> None:
    network = Denoiser(replace(SHAPE, width=width, multipliers=(1, 3), condition_width=WIDTH))
    assert network(*inputs()).shape == (2, 3, 8, 8)


def test_self_attention_is_put_at_the_levels_that_ask_for_it() -> None:
    network = Denoiser(replace(SHAPE, multipliers=(1, 1, 1), attention=(2,)))
    for way in (network.down, network.up):
        assert [any(isinstance(part, SelfAttention) for part in level.children()) for level in way] == [0, 0, 1]


def test_parameters_are_counted() -> None:
    assert parameter_count(torch.nn.Linear(3, 5)) == 20


# --- what the answer depends on ---


def test_it_answers_zero_before_it_has_learned_anything() -> None:
    assert not Denoiser(SHAPE)(*inputs()).any()


@pytest.mark.parametrize("tokens", [0, 3])
def test_each_image_is_denoised_alone(tokens: int) -> None:
    denoiser = tiny.denoiser(tokens=tokens)
    xt, t, condition = inputs(n=3)
    together = denoiser(xt, t, condition)
    for i in range(3):
        alone = denoiser(xt[i : i + 1], t[i : i + 1], condition[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-4)


def test_the_answer_depends_on_image_time_and_condition(denoiser: Denoiser) -> None:
    xt, t, condition = inputs()
    v = denoiser(xt, t, condition)
    for changed in ((xt.flip(0), t, condition), (xt, t.flip(0), condition), (xt, t, condition.flip(0))):
        assert (denoiser(*changed) - v).abs().max() > 0.01


def modulations(network: Denoiser) -> dict[str, torch.nn.Linear]:
    return {name: part.modulation for name, part in network.named_modules() if isinstance(part, ResidualBlock)}


@pytest.mark.parametrize("block", list(modulations(Denoiser(SHAPE))))
def test_time_and_condition_reach_every_block(block: str, denoiser: Denoiser) -> None:
    """With the modulation of all other blocks switched off, the answer still depends on both."""
    for name, modulation in modulations(denoiser).items():
        if name != block:
            torch.nn.init.zeros_(modulation.weight)
    xt, t, condition = inputs()
    v = denoiser(xt, t, condition)
    assert (denoiser(xt, t.flip(0), condition) - v).abs().max() > 1e-4
    assert (denoiser(xt, t, condition.flip(0)) - v).abs().max() > 1e-4


def test_there_are_blocks_at_every_scale_of_both_ways() -> None:
    names = list(modulations(Denoiser(replace(SHAPE, blocks=2))))
    assert names == [
        *("down.0.0", "down.0.1", "down.1.0", "down.1.2", "middle.0", "middle.1"),
        *("up.0.0", "up.0.1", "up.1.0", "up.1.2"),
    ]


@pytest.mark.parametrize("tokens", [0, 3])
def test_every_weight_is_trained(tokens: int) -> None:
    denoiser = tiny.denoiser(tokens=tokens)
    denoiser(*inputs()).square().mean().backward()
    untrained = [name for name, weight in denoiser.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A key's bias adds the same to all scores of a row, which softmax takes out again: it is the one exception.
    assert [name for name in untrained if "qkv.bias" not in name] == []


@pytest.mark.parametrize("shape", [SHAPE, TOKENS])
def test_all_weights_start_to_learn_within_a_few_steps(shape: DenoiserConfig) -> None:
    """Layers that start at zero must not keep others at zero."""
    network = Denoiser(shape).train()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (network(*inputs()) - 1).square().mean().backward()
        optimizer.step()
    assert [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])] == []


# --- tokens ---


def test_tokens_are_looked_at_after_each_self_attention() -> None:
    network = Denoiser(replace(SHAPE, multipliers=(1, 1, 1), blocks=2, attention=(0, 2), tokens=3))
    kinds = [ResidualBlock, SelfAttention, CrossAttention]
    for way in (network.down, network.up):
        assert [[type(part) for part in level.children()] for level in way] == [2 * kinds, 2 * kinds[:1], 2 * kinds]


def silent(network: Denoiser) -> Denoiser:
    """Let scale and shift no longer depend on the condition."""
    nn.init.zeros_(network.embedding.condition_mix.weight)
    return network


def test_the_condition_reaches_the_image_through_tokens_alone_too() -> None:
    xt, t, condition = inputs()
    for tokens, reaches in ((0, False), (1, True), (3, True)):
        network = silent(tiny.denoiser(tokens=tokens))
        change = network(xt, t, condition.flip(0)) - network(xt, t, condition)
        assert bool((change.abs() > 0.01).any()) == reaches, tokens


@pytest.mark.parametrize("place", ["down.1.2", "up.1.2"])
def test_tokens_reach_the_image_at_every_place(place: str) -> None:
    """With all other cross-attention switched off, the answer still depends on them."""
    network = silent(tiny.denoiser(TOKENS))
    for name, part in network.named_modules():
        if isinstance(part, CrossAttention) and name != place:
            nn.init.zeros_(part.out.weight)
    xt, t, condition = inputs()
    assert (network(xt, t, condition.flip(0)) - network(xt, t, condition)).abs().max() > 1e-3


def test_every_token_counts() -> None:
    network, given = tiny.denoiser(TOKENS), inputs()
    v = network(*given)
    for token in range(TOKENS.tokens):
        changed = copy.deepcopy(network)
        assert changed.tokens is not None
        with torch.no_grad():
            changed.tokens.weight[token :: TOKENS.tokens] = 0
        assert (changed(*given) - v).abs().max() > 1e-3


def test_a_network_without_tokens_has_the_weights_it_had_before_there_were_any() -> None:
    names = set(Denoiser(SHAPE).state_dict())
    assert {name.split(".")[0] for name in names} == {
        *("embedding", "stem", "down", "downsample", "middle", "skip", "up", "upsample", "norm", "head")
    }
    assert {name for name in names if name.startswith(("down.1", "embedding"))} == {
        f"{part}.{kind}"
        for part in (
            *(f"embedding.{layer}" for layer in ("time", "condition", "condition_mix", "mix")),
            *(f"down.1.0.{layer}" for layer in ("norm1", "conv1", "modulation", "norm2", "conv2")),
            *(f"down.1.1.{layer}" for layer in ("norm", "qkv", "out")),
        )
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("wrong", [{"attention": ()}, {"attention": (2,)}, {"tokens": -1}])
def test_tokens_that_no_layer_would_attend_to_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CaptionlessError, match="Set `tokens` to 0, or add attention"):
        replace(TOKENS, **wrong)


# --- other parts ---


class Plain(nn.Module):
    """A block of the first lesson: no way around it, and it knows neither time nor condition."""

    def __init__(self, channels: int, *_: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return F.relu(self.conv(x))


def kinds(network: nn.Module) -> set[type[nn.Module]]:
    return {type(part) for part in network.modules()}


def test_the_normalisation_may_be_another_everywhere() -> None:
    network = Denoiser(TOKENS, Parts(norm=nn.BatchNorm2d)).train()
    assert nn.GroupNorm not in kinds(network)
    xt, t, condition = inputs(n=3)
    tiny.awake(network)
    # Statistics of the batch: what one image becomes now depends on the others.
    assert (network(xt, t, condition)[:2] - network(xt[:2], t[:2], condition[:2])).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, activation="gelu")])
def test_the_activation_may_be_another_everywhere(shape: DenoiserConfig) -> None:
    network = Denoiser(shape, Parts(activation=lambda x: x))
    tiny.awake(network)
    for part in network.modules():
        if isinstance(part, nn.GroupNorm):
            part.forward = lambda x: x  # type: ignore[method-assign]
        if isinstance(part, SelfAttention):
            part.forward = lambda x, _: x  # type: ignore[method-assign]
    # Nothing is left but convolutions and modulation: linear in the image.
    (a, t, condition), b = inputs(), random(2, 3, 8, 8, seed=5)
    zero, both = network(0 * a, t, condition), network(a + b, t, condition)
    torch.testing.assert_close(both + zero, network(a, t, condition) + network(b, t, condition), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_the_activation_is_the_shapes_where_only_another_part_is_given(activation: str) -> None:
    network = tiny.denoiser(activation=activation)
    other = tiny.awake(Denoiser(network.config, Parts(norm=group_norm))).eval()
    assert torch.equal(other(*inputs()), network(*inputs()))


def test_silu_and_gelu_are_different_networks() -> None:
    silu, gelu = (tiny.denoiser(activation=activation) for activation in ("silu", "gelu"))
    assert (silu(*inputs()) - gelu(*inputs())).abs().max() > 0.01


class Pooling(nn.Sequential):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(channels, out_channels, 1), nn.MaxPool2d(2))


@pytest.mark.parametrize(
    ("parts", "there", "gone"),
    [
        (Parts(down=Pooling), nn.MaxPool2d, nn.PixelUnshuffle),
        (Parts(up=lambda a, b: nn.ConvTranspose2d(a, b, 2, 2)), nn.ConvTranspose2d, nn.PixelShuffle),
        (Parts(block=Plain), Plain, ResidualBlock),
        (Parts(norm=lambda channels: nn.Identity()), nn.Identity, nn.GroupNorm),
    ],
    ids=["max-pooling", "transposed convolution", "plain blocks", "no normalisation"],
)
def test_other_parts_take_the_place_of_the_usual_ones_and_learn(
    parts: Parts, there: type[nn.Module], gone: type[nn.Module]
) -> None:
    network = tiny.awake(Denoiser(SHAPE, parts))
    assert there in kinds(network)
    assert gone not in kinds(network)
    network(*inputs()).square().mean().backward()
    part = next(part for part in network.modules() if type(part) is there)
    assert all(weight.grad is not None and weight.grad.any() for weight in part.parameters())


def test_the_time_may_be_told_as_a_plain_number() -> None:
    network = tiny.awake(Denoiser(SHAPE, Parts(embed_time=lambda t: t[:, None])))
    assert network.embedding.time.in_features == 1
    xt, t, condition = inputs()
    assert (network(xt, t.flip(0), condition) - network(xt, t, condition)).abs().max() > 1e-3


def test_fewer_sines_and_cosines_may_tell_the_time() -> None:
    assert tiny.denoiser(time_features=8).embedding.time.in_features == 8
    for wrong in (0, 2, 7, -4):
        with pytest.raises(CaptionlessError, match=f"must be an even number of at least 4, not {wrong}"):
            replace(SHAPE, time_features=wrong)


def test_an_unknown_activation_is_refused_with_those_there_are() -> None:
    with pytest.raises(CaptionlessError, match="`activation` must be one of silu, gelu, not 'mish'"):
        replace(SHAPE, activation="mish")


# --- sizes ---


def test_sides_must_divide_by_the_total_downsampling() -> None:
    shape = DenoiserConfig(patch=4, multipliers=(1, 2, 4))
    assert shape.total_downsampling == 16
    for size in (16, 64, 80):
        shape.check_size(size)
    for size, advice in ((50, 48), (63, 64), (8, 16), (0, 16)):
        with pytest.raises(CaptionlessError, match=f"divisible by 16 .* but is {size}. Try `size={advice}`"):
            shape.check_size(size)


def test_the_default_patch_leaves_a_grid_of_at_least_16_and_suits_its_size() -> None:
    assert [default_patch(size) for size in (8, 16, 24, 32, 48, 64, 80, 128)] == [1, 1, 1, 2, 2, 4, 4, 4]
    for size in range(4, 260, 4):
        DenoiserConfig(patch=default_patch(size)).check_size(size)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"width": 40},
        {"width": -16},
        {"channels": 0},
        {"patch": 0},
        {"blocks": 0},
        {"condition_width": 0},
        {"multipliers": ()},
        {"multipliers": (1, 0)},
    ],
)
def test_shapes_that_no_network_has_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CaptionlessError, match=r"multiple of 16|at least 1"):
        replace(SHAPE, **wrong)

"""The Triton kernels of ``captionless.models.fused``.

Each program normalises one group of channels of one image. Its feature map is a matrix of positions and channels, of
which a group is a strip of ``GROUP`` adjacent columns.
"""

# mypy: ignore-errors
# Triton compiles these functions itself; their arguments are pointers, numbers and compile-time constants.

import triton
import triton.language as tl


@triton.jit
def _strip(positions, channels, groups, GROUP: tl.constexpr):
    """Return the program's number, its image and channels, and the place of the image in the feature maps."""
    program = tl.program_id(0)
    image = (program // groups).to(tl.int64)
    channel = (program % groups) * GROUP + tl.arange(0, GROUP)
    return program, image, channel, image * positions * channels


@triton.jit
def _load(x, bias, start, strip, channel, positions, channels, ROWS: tl.constexpr, BIASED: tl.constexpr):
    """Return ``ROWS`` positions of a strip from ``start``, float32, with their mask and places."""
    rows = start + tl.arange(0, ROWS)
    inside = (rows < positions)[:, None]
    place = strip + rows[:, None] * channels + channel[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if BIASED:
        values += tl.load(bias + channel).to(tl.float32)[None, :]
    return values, inside, place


@triton.jit
def _scale_shift(weight, offset, modulation, image, channel, channels, MODULATED: tl.constexpr):
    """Return weight and offset of the normalisation, and the scale (plus 1) and shift of the modulation, float32."""
    w, b = tl.load(weight + channel).to(tl.float32), tl.load(offset + channel).to(tl.float32)
    scale, shift = tl.full(w.shape, 1.0, tl.float32), tl.zeros(w.shape, tl.float32)
    if MODULATED:
        pair = modulation + image * 2 * channels + 2 * channel
        scale, shift = 1.0 + tl.load(pair).to(tl.float32), tl.load(pair + 1).to(tl.float32)
    return w, b, scale, shift


@triton.jit
def norm_forward(
    x, bias, weight, offset, modulation, y, statistics, positions, channels, groups, eps,
    GROUP: tl.constexpr, ROWS: tl.constexpr, BIASED: tl.constexpr, MODULATED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Write the normalised, modulated and activated strip, and its mean and inverse standard deviation."""
    program, image, channel, strip = _strip(positions, channels, groups, GROUP)
    # Sums are of differences from the first position's mean, because squares of large values would cancel.
    origin = tl.sum(_load(x, bias, 0, strip, channel, 1, channels, 1, BIASED)[0]) / GROUP
    total, square = tl.zeros((GROUP,), tl.float32), tl.zeros((GROUP,), tl.float32)
    for start in range(0, positions, ROWS):
        values, inside, place = _load(x, bias, start, strip, channel, positions, channels, ROWS, BIASED)
        values = tl.where(inside, values - origin, 0.0)
        total += tl.sum(values, 0)
        square += tl.sum(values * values, 0)
    count = positions * GROUP
    mean = tl.sum(total) / count
    deviation = 1.0 / tl.sqrt(tl.maximum(tl.sum(square) / count - mean * mean, 0.0) + eps)
    mean += origin
    tl.store(statistics + 2 * program, mean)
    tl.store(statistics + 2 * program + 1, deviation)
    w, b, scale, shift = _scale_shift(weight, offset, modulation, image, channel, channels, MODULATED)
    for start in range(0, positions, ROWS):
        values, inside, place = _load(x, bias, start, strip, channel, positions, channels, ROWS, BIASED)
        z = ((values - mean) * deviation * w[None, :] + b[None, :]) * scale[None, :] + shift[None, :]
        if SILU:
            z = z * tl.sigmoid(z)
        tl.store(y + place, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _grad_z(
    x, bias, grad, start, strip, channel, positions, channels, mean, deviation, w, b, scale, shift,
    ROWS: tl.constexpr, BIASED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Return the normalised values of ``ROWS`` positions and the gradient before the activation."""
    values, inside, place = _load(x, bias, start, strip, channel, positions, channels, ROWS, BIASED)
    normal = tl.where(inside, (values - mean) * deviation, 0.0)
    dz = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if SILU:
        z = (normal * w[None, :] + b[None, :]) * scale[None, :] + shift[None, :]
        gate = tl.sigmoid(z)
        dz = dz * gate * (1.0 + z * (1.0 - gate))
    return normal, dz, inside, place


@triton.jit
def norm_backward(
    x, bias, weight, offset, modulation, statistics, grad, dx, dmodulation, parts, positions, channels, groups,
    GROUP: tl.constexpr, ROWS: tl.constexpr, BIASED: tl.constexpr, MODULATED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a strip and its modulation, and the strip's part of those of weight, offset and bias."""
    program, image, channel, strip = _strip(positions, channels, groups, GROUP)
    mean, deviation = tl.load(statistics + 2 * program), tl.load(statistics + 2 * program + 1)
    w, b, scale, shift = _scale_shift(weight, offset, modulation, image, channel, channels, MODULATED)
    sum_dz, sum_dz_normal = tl.zeros((GROUP,), tl.float32), tl.zeros((GROUP,), tl.float32)
    sum_normal = tl.zeros((GROUP,), tl.float32)
    for start in range(0, positions, ROWS):
        normal, dz, inside, place = _grad_z(
            x, bias, grad, start, strip, channel, positions, channels, mean, deviation, w, b, scale, shift,
            ROWS, BIASED, SILU,
        )  # fmt: skip
        sum_dz += tl.sum(dz, 0)
        sum_dz_normal += tl.sum(dz * normal, 0)
        sum_normal += tl.sum(normal, 0)
    gain, count = w * scale, positions * GROUP
    mean_d = tl.sum(gain * sum_dz) / count
    mean_d_normal = tl.sum(gain * sum_dz_normal) / count
    for start in range(0, positions, ROWS):
        normal, dz, inside, place = _grad_z(
            x, bias, grad, start, strip, channel, positions, channels, mean, deviation, w, b, scale, shift,
            ROWS, BIASED, SILU,
        )  # fmt: skip
        dvalues = deviation * (dz * gain[None, :] - mean_d - normal * mean_d_normal)
        tl.store(dx + place, dvalues.to(dx.dtype.element_ty), mask=inside)
    if MODULATED:
        pair = dmodulation + image * 2 * channels + 2 * channel
        dscale = w * sum_dz_normal + b * sum_dz
        tl.store(pair, dscale.to(dmodulation.dtype.element_ty))
        tl.store(pair + 1, sum_dz.to(dmodulation.dtype.element_ty))
    part = parts + image * 3 * channels + channel
    tl.store(part, scale * sum_dz_normal)
    tl.store(part + channels, scale * sum_dz)
    tl.store(part + 2 * channels, deviation * (gain * sum_dz - positions * mean_d - mean_d_normal * sum_normal))


@triton.jit
def add_biased(x, y, bias, out, size, channels, BLOCK: tl.constexpr):
    """Write ``x + y + bias``."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    values = tl.load(x + place, mask=inside).to(tl.float32) + tl.load(y + place, mask=inside).to(tl.float32)
    values += tl.load(bias + place % channels, mask=inside).to(tl.float32)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)

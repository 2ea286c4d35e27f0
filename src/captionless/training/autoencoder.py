"""Train a small autoencoder on a folder of images: an ``AutoencoderTiny`` of diffusers, as TAESD is.

The loss is the mean absolute difference of the pixels and, so that texture is not blurred, a distance of features. The
network is convolutional, so that it learns on crops what it then does to images of any size.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captionless.checkpoints.card import CARD
from captionless.checkpoints.model import STATE
from captionless.config.autoencoder import AutoencoderConfig
from captionless.config.length import run_length, share_done
from captionless.data.arrays import normalise, read_arrays
from captionless.data.images import is_held_out
from captionless.device import default_device, to_device
from captionless.encoders.hub import quiet_hub
from captionless.errors import CaptionlessError
from captionless.files import atomic_write
from captionless.latents.autoencoder import CONFIG, WEIGHTS, import_diffusers, load_autoencoder
from captionless.models.unet import parameter_count
from captionless.progress import Progress, choose_progress
from captionless.tensor_files import content_digest, read_about, read_tensors, save_tensors
from captionless.text_files import write_text
from captionless.training.autoencoder_card import autoencoder_card
from captionless.training.autoencoder_resume import FREE_ON_RESUME, continued, refuse_changes
from captionless.training.checkpointer import lock_checkpoints
from captionless.training.feature_distance import FeatureDistance
from captionless.training.feed import batch_indices
from captionless.training.loop import StopTraining
from captionless.training.processes import Processes
from captionless.training.randomness import Stream, uniform
from captionless.training.reconstructions import psnr, reconstructions
from captionless.training.signals import StopOnSignal
from captionless.training.start import cannot_resume, check_out, model_exists
from captionless.training.state import Counter

SHEET = "reconstructions.png"
BLOCKS = (1, 3, 3, 3, 3)  # residual blocks at each side, from that of the image down; those of TAESD
WARM_UP = 0.02
SHOWN, MEASURED = 8, 256


@dataclass
class AutoencoderTraining:
    """A training in progress.

    A step follows from weights, moments, seed, images seen, and the share of the training that is done, which sets the
    learning rate. With ``minutes``, or with no limit given, that share follows the clock, and no two trainings are the
    same; with ``images`` alone, a resumed training is the same, bit for bit on the same CPU.
    """

    config: AutoencoderConfig
    network: Any
    optimizer: torch.optim.Optimizer
    features: FeatureDistance
    pixels: Tensor  # uint8 (n, channels, size, size)
    id: str  # of the autoencoder, in the header of each of its files
    images_seen: int = 0
    seconds: float = 0.0
    loss: float = math.nan

    @property
    def progress(self) -> float:
        """Share of the training that is done, by images or by time, whichever is further."""
        return share_done(self.config.images, self.config.minutes, self.images_seen, self.seconds)

    def step(self) -> None:
        """Take a step; the learning rate rises linearly, and falls as a cosine (arXiv:1608.03983, eq. 5)."""
        started, config = time.perf_counter(), self.config
        device = next(self.network.parameters()).device
        images = normalise(self._crops(range(self.images_seen, self.images_seen + config.batch)).to(device))
        rate = min(1.0, (self.progress + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        decoded = self.network.decoder(self.network.encoder(images))
        loss = F.l1_loss(decoded, images)
        if config.feature_weight:
            loss = loss + config.feature_weight * self.features(decoded, images)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.loss = float(loss.detach())
        self.images_seen += config.batch
        self.seconds += time.perf_counter() - started
        if not math.isfinite(self.loss):
            raise CaptionlessError(
                f"the loss became non-finite after {self.images_seen:,} images. Choose a lower `learning_rate`.",
                parameter="learning_rate",
                value=config.learning_rate,
                code="diverged",
            )

    def _crops(self, positions: range) -> Tensor:
        """Return random crops, half of them mirrored, uint8 (n, channels, crop, crop)."""
        config = self.config
        rows = batch_indices(len(self.pixels), positions, config.seed)
        shares = uniform(Stream(config.seed, torch.tensor(positions)).words(3))
        room, crops = config.size - config.side + 1, []
        for row, (down, right, flip) in zip(rows.tolist(), shares.tolist(), strict=True):
            top, left = int(down * room), int(right * room)
            crop = self.pixels[row, :, top : top + config.side, left : left + config.side]
            crops.append(crop.flip(2) if flip < 0.5 else crop)
        return torch.stack(crops)

    def save(self) -> None:
        """Write what resuming needs, and the autoencoder."""
        out = self.config.out
        weights = self.network.state_dict()
        tensors = {f"network.{name}": one for name, one in weights.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(one) for name, one in moments.items()}
        counter = {"images": self.images_seen, "seconds": self.seconds}
        settings = self.config.model_dump(mode="json", exclude=FREE_ON_RESUME)
        save_tensors(out / STATE, tensors, {"model": self.id, "counter": counter, "settings": settings})
        save_tensors(out / WEIGHTS, weights, {"model": self.id})
        write_text(out / CONFIG, self.network.to_json_string())

    def restore(self) -> None:
        """Load what ``save`` wrote."""
        out = self.config.out
        about, tensors = read_about(out / STATE), read_tensors(out / STATE)
        refuse_changes(out, about, self.config.model_dump(mode="json", exclude=FREE_ON_RESUME))
        # A crash after the state was first written leaves no weights.
        if (out / WEIGHTS).is_file() and read_about(out / WEIGHTS).get("model") != about.get("model"):
            raise cannot_resume(out, f"{STATE} belongs to another autoencoder than {WEIGHTS}")
        self.id = about.get("model", self.id)
        state = self.optimizer.state_dict()
        try:
            weights = {name[8:]: one for name, one in tensors.items() if name.startswith("network.")}
            self.network.load_state_dict(weights)
            for name, one in tensors.items():
                part, index, key = name.split(".", 2)
                if part == "optimizer":
                    state["state"].setdefault(int(index), {})[key] = one
            self.optimizer.load_state_dict(state)
            counter = Counter(**about["counter"])
            self.images_seen, self.seconds = counter.images, counter.seconds
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise cannot_resume(out, f"{STATE} is damaged") from error


def train_autoencoder(config: AutoencoderConfig, progress: Progress | bool | None = None) -> Path:
    """Train an autoencoder on a folder of images, and write it to ``config.out``.

    Returns:
        The folder, which ``captionless.train(..., autoencoder=folder)`` accepts. In it, ``reconstructions.png`` shows
        held-out images beside what is left of them, and ``training`` is what resuming needs.

    Raises:
        CaptionlessError: diffusers is missing, the folder has no usable images, or the training cannot be resumed.
        StopTraining: Ctrl-C or a termination signal stopped the training, after a checkpoint was written.
    """
    progress, out = choose_progress(progress), config.out
    resumed = _check_out(config)
    config = continued(config) if resumed else config
    network = _network(config)
    pixels, held_out = _images(config, progress)
    training = _begin(config, network, pixels)
    progress.say(_plan(training, resumed))
    if config.plan:
        return out
    with lock_checkpoints(out), StopOnSignal(Processes(), progress.say) as stop:
        if _check_out(config):  # again: another training may have written there since
            training.restore()
        _learn(training, lambda: stop.requested, progress)
        shown, kind = (held_out, "held-out") if len(held_out) else (pixels, "training")
        text = f"PSNR {psnr(network, shown[:MEASURED]):.2f} dB on {min(len(shown), MEASURED):,} {kind} images"
        with atomic_write(out / SHEET) as path:
            reconstructions(network, shown[:SHOWN]).save(path, format="PNG")
        write_text(out / CARD, autoencoder_card(config, training.images_seen, training.seconds, text))
    progress.say(f"Reconstructions: {text}; see {out / SHEET}.")
    return out


def _check_out(config: AutoencoderConfig) -> bool:
    """Return whether a training is resumed; raise if files would be replaced that are not those of this training."""
    out = config.out
    check_out(config.folder, out)
    if (out / STATE).is_file():
        if not config.resume:
            raise model_exists(out)
        return True
    if found := [name for name in (CONFIG, WEIGHTS, SHEET, CARD) if os.path.lexists(out / name)]:
        raise CaptionlessError(
            f"`out={out}` has files that the training would replace: {', '.join(found)}. Choose another folder.",
            parameter="out",
            value=out,
            code="folder_in_use",
        )
    return False


def _network(config: AutoencoderConfig) -> Any:
    """Return the network to train, with random weights or those of another."""
    diffusers = import_diffusers()
    if config.start_from is not None:
        found = load_autoencoder(config.start_from)
        if not isinstance(found.network, diffusers.AutoencoderTiny):
            raise CaptionlessError(
                f"only an AutoencoderTiny can be trained further, and {config.start_from} is another kind.",
                parameter="start_from",
                value=config.start_from,
                code="invalid_setting",
            )
        found.check_grey(config.grey)
        with quiet_hub():  # diffusers names what it ignores of the config
            network = diffusers.AutoencoderTiny.from_config(found.network.config)
        network.load_state_dict(found.network.state_dict())
        return network
    blocks = BLOCKS[: config.factor.bit_length()]
    widths = (config.width,) * len(blocks)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn from the global generator, which is restored
        torch.manual_seed(config.seed)
        return diffusers.AutoencoderTiny(
            in_channels=config.image_channels,
            out_channels=config.image_channels,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks[::-1],
            latent_channels=config.channels,
        )


def _images(config: AutoencoderConfig, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return training and held-out images, uint8 (n, channels, size, size), without duplicates."""
    grey, background = config.grey, config.background
    found = read_arrays(config.folder, (config.size,), grey=grey, background=background, progress=progress)
    held = [row for row in found.unique if is_held_out(found.digests[row], config.hold_out)]
    train = sorted(set(found.unique) - set(held))
    if not train:
        raise CaptionlessError(
            "all images are held out. Choose a smaller `hold_out`.", parameter="hold_out", code="not_enough_images"
        )
    arrays = [torch.from_numpy(found.array(config.size, rows)).permute(0, 3, 1, 2) for rows in (train, held)]
    return arrays[0], arrays[1]


def _begin(config: AutoencoderConfig, network: Any, pixels: Tensor) -> AutoencoderTraining:
    # Equal trainings have equal ids.
    start = network.state_dict() | {"images": pixels[:MEASURED]}
    name = content_digest(start, config.model_dump(mode="json", exclude=FREE_ON_RESUME))[:32]
    network = to_device(network.requires_grad_(True).train(), default_device())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return AutoencoderTraining(config, network, optimizer, to_device(FeatureDistance(), default_device()), pixels, name)


def _plan(training: AutoencoderTraining, resumed: bool) -> str:
    """Return what the training will do, from two steps that are undone."""
    config, network = training.config, training.network
    before = {name: one.clone() for name, one in network.state_dict().items()}
    training.step()
    first = training.seconds
    training.step()
    rate = config.batch / max(training.seconds - first, 1e-9)
    network.load_state_dict(before)
    training.optimizer.state.clear()
    training.images_seen, training.seconds = 0, 0.0
    limit, seconds = run_length(config.images, config.minutes)
    images = min(limit, seconds * rate)
    with torch.no_grad():
        shape = network.encoder(torch.zeros_like(normalise(training.pixels[:1]), device=network.device)).shape[1:]
    return (
        f"Plan: {config.size} x {config.size} pixels become {' x '.join(map(str, shape))} values; "
        f"{parameter_count(network) / 1e6:.1f} million weights, batches of {config.batch} crops of {config.side} "
        f"pixels, about {float(f'{images:.2g}'):,.0f} seen{' in all' if resumed else ''} ({rate:.3g} per second)."
    )


def _learn(training: AutoencoderTraining, stopped: Callable[[], bool], progress: Progress) -> None:
    saved = time.monotonic()
    while training.progress < 1:
        training.step()
        detail = f"{training.images_seen:,} crops seen, loss {training.loss:.4f}"
        progress.advance("Training", round(1000 * training.progress), 1000, detail)
        if stopped():
            training.save()
            progress.say(f"Stopped after {training.images_seen:,} crops. The same command with --resume continues.")
            raise StopTraining
        if time.monotonic() - saved >= 60 * training.config.checkpoint_minutes:
            training.save()
            saved = time.monotonic()
    training.save()

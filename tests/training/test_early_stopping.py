"""The contract of captionless.training.early_stopping: when a run ends, which weights it keeps, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import encoder_factory
import tiny
from captionless.checkpoints.config import load_config
from captionless.checkpoints.model import load_model
from captionless.config.training import TrainConfig
from captionless.diffusion.schedules import CosineSchedule
from captionless.errors import CaptionlessError
from captionless.training import early_stopping
from captionless.training.dataset import Dataset, Examples
from captionless.training.early_stopping import FEWEST, LOOKS, SHARE, Copies, EarlyStopping, HeldOutLoss, choose_sign
from captionless.training.loop import StopTraining, loop
from captionless.training.processes import Processes
from captionless.training.run import train
from captionless.training.state import TrainState, begin_state, restore_state, save_state
from training_cases import Remembers, state_tensors

CONFIG = TrainConfig(size=8, width=16, batch=10, images=1_000, precision="float32", early_stopping=True)


def noise(n: int, seed: int) -> torch.Tensor:
    return (tiny.uniform(n, 3, 8, 8, seed=seed) * 256).to(torch.uint8)


def examples(n: int, seed: int) -> Examples:
    names = tuple(f"{seed}-{i}" for i in range(n))
    return Examples(noise(n, seed), tiny.unit_vectors(n, seed=seed), names, names)


def fresh(config: TrainConfig = CONFIG) -> TrainState:
    torch.manual_seed(0)
    return begin_state(tiny.denoiser().train().requires_grad_(True), config, CosineSchedule())


class Scripted:
    """A sign that shows values in turn, the last one for ever; remembers after how many images it was looked at."""

    cost, patience = 0.3, 2

    def __init__(self, state: TrainState, *values: float) -> None:
        self.state, self.values, self.seen = state, list(values), list[int]()

    def __call__(self, network: Any) -> float:
        assert network is self.state.average
        self.seen.append(self.state.images_seen)
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]

    def describe(self, value: float, best: int) -> str:
        return f"{value:g} since {best}"


def walk(state: TrainState, sign: Any) -> Remembers:
    """Call the callback after each step of 10 images, in which the average's weights become the images seen."""
    progress = Remembers()
    callback = EarlyStopping(sign, Processes(), progress)
    while not state.finished:
        state.images_seen += state.config.batch
        for weight in state.average.parameters():
            weight.data.fill_(state.images_seen)
        callback.on_step(state)
    return progress


def kept(state: TrainState) -> float:
    return float(next(state.chosen.parameters()).flatten()[0])


def test_the_run_ends_after_successive_looks_that_were_worse_and_keeps_the_best_weights() -> None:
    state = fresh()
    sign = Scripted(state, 5, 4, 6, 3, 3.5, 3.2, 1)
    progress = walk(state, sign)
    assert sign.seen == [50, 100, 150, 200, 250, 300]
    assert (state.images_seen, state.looks.stopped, state.looks.best, kept(state)) == (300, True, 200, 200)
    assert progress.said[0] == (
        "After 300 images seen, the model begins to memorise: 3.2 since 200. The training ends here."
    )
    assert "its weights after 200 images seen" in progress.said[1]


def test_a_run_that_improves_to_the_end_has_its_last_weights_and_nothing_is_said() -> None:
    state = fresh()
    progress = walk(state, Scripted(state, *range(100, 0, -1)))
    assert (state.images_seen, state.looks.stopped, kept(state), progress.said) == (1_000, False, 1_000, [])


def test_the_end_is_looked_at_too_and_may_be_worse_than_an_earlier_look() -> None:
    state = fresh(CONFIG.replace(images=1_020))  # looks after every 60 images
    sign = Scripted(state, *range(100, 84, -1), 200)
    progress = walk(state, sign)
    assert (sign.seen[-2:], kept(state), state.looks.stopped) == ([960, 1_020], 960, False)
    assert len(progress.said) == 1


def test_looks_take_a_small_share_of_the_time() -> None:
    state = fresh()
    sign = Scripted(state, 1)
    sign.cost = 6.0
    walk(state, sign)
    assert len(sign.seen) * sign.cost <= SHARE * 1_000 + sign.cost  # one more at the end
    assert min(HeldOutLoss.cost, Copies.cost) > 1
    cheap = Scripted(fresh(), 1)
    walk(cheap.state, cheap)
    assert len(cheap.seen) == LOOKS


# --- the signs ---


def test_the_held_out_loss_is_the_same_again_and_lower_for_a_network_that_has_learned_the_images() -> None:
    held_out, config = examples(FEWEST, 1), CONFIG.replace(images=1_600, batch=16, warm_up=1, learning_rate=2e-3)
    state = fresh(config)
    sign = HeldOutLoss(held_out, state)
    before, generator = sign(state.average), torch.get_rng_state()
    assert sign(state.average) == before
    assert torch.equal(torch.get_rng_state(), generator)
    loop(state, held_out, [])
    assert sign(state.average) < 0.8 * before


def test_copies_are_seen_and_new_images_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    train_set = examples(40, 1)
    sign = Copies(Dataset(train_set, train_set), tiny.model().config, flip=True)
    assert sign.chance.value == 0
    chosen = sign.known
    for images, found in ((chosen[:20], 1.0), (chosen[:20].flip(3), 1.0), (noise(20, 9), 0.0)):
        monkeypatch.setattr(early_stopping, "sample", lambda *_, images=images: images)
        assert sign(tiny.denoiser()) == found
    one = torch.cat([chosen[:1], noise(19, 9)])
    monkeypatch.setattr(early_stopping, "sample", lambda *_: one)
    assert sign(tiny.denoiser()) == 0  # may be chance


def test_a_real_sample_is_drawn_for_each_of_the_conditions_and_is_the_same_again() -> None:
    sign = Copies(Dataset(examples(5, 1), examples(1, 2)), tiny.model().config, flip=False)
    assert sign(tiny.denoiser()) == sign(tiny.denoiser())
    assert len(sign.conditions) == early_stopping.SAMPLES


def test_the_loss_needs_held_out_images_and_copies_need_a_model_that_generates_by_itself() -> None:
    config, state = tiny.model().config, fresh()
    assert isinstance(choose_sign(Dataset(examples(30, 1), examples(FEWEST, 2)), config, state), HeldOutLoss)
    assert isinstance(choose_sign(Dataset(examples(30, 1), examples(FEWEST - 1, 2)), config, state), Copies)
    with pytest.raises(CaptionlessError, match="needs at least 3 distinct training images"):
        choose_sign(Dataset(examples(2, 1), examples(0, 2)), config, state)


# --- resuming, and through the verb ---


def test_a_resumed_run_looks_and_stops_as_if_it_had_never_been_interrupted(tmp_path: Path) -> None:
    """Images of noise: nothing about held-out ones can be learned but their mean, so the loss soon rises."""
    config = CONFIG.replace(batch=64, images=7_000, warm_up=1, learning_rate=5e-3, flip=False)
    held_out, train_set = examples(FEWEST, 2), examples(4, 1)

    def run(state: TrainState, stop_at: int = 10**9) -> list[str]:
        progress, watched = Remembers(), HeldOutLoss(held_out, state)
        watched.cost /= 3  # so that it looks more often, and ends sooner

        class Interrupt(early_stopping.Callback):
            def on_step(self, state: TrainState) -> None:
                if state.images_seen >= stop_at:
                    raise StopTraining

        loop(state, train_set, [EarlyStopping(watched, Processes(), progress), Interrupt()])
        return progress.said

    whole, part, resumed = fresh(config), fresh(config), fresh(config)
    said = run(whole)
    assert whole.looks.stopped
    assert 0 < whole.looks.best < whole.images_seen < 7_000
    with pytest.raises(StopTraining):
        run(part, whole.looks.best + 1_000)  # while the best is an earlier look
    save_state(tmp_path, part)
    restore_state(tmp_path, resumed)
    assert run(resumed) == said
    assert resumed.looks == whole.looks
    for ours, theirs in zip(resumed.chosen.parameters(), whole.chosen.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONLESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(noise(16, 4)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_model_has_the_weights_that_were_best_and_says_so(photos: Path, tmp_path: Path) -> None:
    encoder, progress = encoder_factory.small_pair(tmp_path / "encoder"), Remembers()
    options: dict[str, Any] = {"size": 8, "width": 16, "batch": 64, "precision": "float32", "sample_grids": 0}
    options |= {"learning_rate": 5e-3, "warm_up": 1, "hold_out": 0.6, "early_stopping": True, "flip": False}
    out = train(photos, tmp_path / "m", encoder=str(encoder), images=28_000, progress=progress, **options)
    (stopped,) = [text for text in progress.said if "begins to memorise" in text]
    record = load_config(out).training
    assert record.kept_images is not None
    assert record.kept_images < record.images_seen < 28_000
    assert f"has not fallen since {record.kept_images:,}" in stopped
    state, weights = state_tensors(out), load_model(out).denoiser.state_dict()
    assert all(torch.equal(weights[name], state[f"kept.{name}"]) for name in weights)
    assert not all(torch.equal(weights[name], state[f"average.{name}"]) for name in weights)
    again = Remembers()
    train(photos, out, resume=True, progress=again)
    assert any("Continue it with `early_stopping=False`" in text for text in again.said)
    images = record.images_seen + 64
    train(photos, out, resume=True, early_stopping=False, images=images, progress=Remembers())
    longer = load_config(out).training
    assert (longer.images_seen, longer.kept_images) == (images, None)

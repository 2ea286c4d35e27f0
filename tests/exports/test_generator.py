"""The web page's generator in JavaScript, part by part against Python, in Node."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPImageProcessorPil

import encoder_factory
import export_models
import tiny
from captionless.conditioning import bridge
from captionless.conditioning.composition import slerp
from captionless.conditioning.familiarity import vocabulary_remark
from captionless.config.sampling import SamplingConfig
from captionless.data.crop import crop_square
from captionless.diffusion.guidance import Guidance, GuidedPrediction
from captionless.diffusion.reverse import ReverseProcess
from captionless.diffusion.sampler_run import run_sampler
from captionless.diffusion.samplers import SAMPLERS
from captionless.diffusion.schedules import SCHEDULE_KINDS, sampling_times
from captionless.encoders.hub import BUNDLED_FOLDER
from captionless.encoders.name_text import choose_pieces, piece_matrix
from captionless.encoders.vocabulary import EncoderVocabulary
from captionless.exports.encoder import FILTERS, pieces_file
from captionless.generation.editing import mask_tensor, photo_tensor
from javascript import javascript, needs_node

pytestmark = needs_node
LETTERS = (
    "abcdefghijklmnopqrstuvwxyz   ABCDE 0123 !?.,;-_'\"()é üñ ß İ 中文字 ラ € £ $ ^ ` ~ + = < > | \t\n"
    "\u200b\u00ad\u0301 😀 ﬁ ½ ² ™ “ ” … — ‐ ـ ا"
)


def texts(count: int) -> list[str]:
    drawn = random.Random(0)
    made = ["".join(drawn.choice(LETTERS) for _ in range(drawn.randint(1, 40))) for _ in range(count)]
    return ["a red rose", "Daisies, with yellow petals!", "naïve cafe\u0301", "!!", "x" * 120, "roses " * 80, *made]


def largest(found: Any, wanted: Tensor | np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - np.asarray(wanted)).max())


def test_noise_is_that_of_pytorch() -> None:
    seeds, counts = (0, 7, 2**32 - 1), [48, 100, 12288]
    found = javascript([("normal", {"seed": seed, "counts": counts}) for seed in seeds])
    for seed, parts in zip(seeds, found, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for count, part in zip(counts, parts, strict=True):
            assert largest(part, torch.randn(count, generator=generator)) < 5e-6


def test_less_noise_than_pytorch_draws_by_this_method_is_refused() -> None:
    with pytest.raises(AssertionError, match="at least 16 numbers can be drawn, not 15"):
        javascript([("normal", {"seed": 0, "counts": [15]})])


def test_mixtures_are_drawn_as_numpy_draws_them() -> None:
    drawn = np.random.default_rng(0)
    cases = []
    for seed in range(200):
        scale = drawn.choice([1e-6, 0.01, 0.2, 1, 5, 50])  # each needs another method
        shares = np.maximum(drawn.dirichlet(np.full(drawn.integers(2, 60), 0.3)) * scale, 1e-12)
        cases.append({"entropy": [bridge.DRAWS, seed], "concentrations": shares.tolist()})
    for case, found in zip(cases, javascript([("dirichlet", case) for case in cases]), strict=True):
        wanted = np.random.default_rng(case["entropy"]).dirichlet(case["concentrations"])
        assert largest(found, wanted) < 1e-12


@pytest.mark.parametrize("variety", [0, 0.35, 1])
def test_the_bridge_finds_the_same_images(variety: float) -> None:
    centres = tiny.random(12, 32)
    spread = centres[torch.arange(500) % 12] + 0.6 * tiny.random(500, 32, seed=1)
    bank = torch.nn.functional.normalize(spread, dim=1)
    words = torch.nn.functional.normalize(centres + 0.8 * tiny.random(12, 32, seed=2), dim=1)
    about = {"text_share": bridge.text_share(len(bank)), "bandwidth": bridge.BANDWIDTH, "draws": bridge.DRAWS}
    about |= {"fewest": bridge.fewest(len(bank)), "largest_share": bridge.largest_share(len(bank))}
    config = SamplingConfig(variety=variety)
    given = {"bank": bank.tolist(), "about": about, "sampling": config.model_dump(), "variety": variety, "seed": 7}
    found = javascript([("bridge", {**given, "text": text}) for text in words.tolist()])
    wanted = bridge.to_condition(words, bridge.BridgeData(bank), config, [7] * len(words))
    assert largest(found, wanted) < 2e-6


def test_vectors_are_interpolated_on_the_sphere() -> None:
    a, b = tiny.unit_vectors(1), tiny.unit_vectors(1, seed=1)
    for other, share in ((b, 0.3), (a, 0.5)):
        (found,) = javascript([("slerp", {"a": a[0].tolist(), "b": other[0].tolist(), "share": share})])
        assert largest(found, slerp(a, other, share)[0]) < 1e-6


def test_texts_are_split_into_the_same_tokens() -> None:
    path = BUNDLED_FOLDER / "tokenizer.json"
    tokenizer, given = Tokenizer.from_file(str(path)), texts(300)
    file = json.loads(path.read_text(encoding="utf-8"))
    found = javascript([("tokens", {"file": file, "text": text}) for text in given])
    assert found == [tokenizer.encode(text).ids for text in given]


def test_texts_are_split_into_the_same_byte_pairs(tmp_path: Path) -> None:
    encoder_factory.clip_tokenizer(4000).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    tokenizer, given = (
        Tokenizer.from_file(str(path)),
        [*texts(300), "it's the DOG'S  ΣΑΣ, isn't it?", "'\u00a0''tis 1234"],
    )
    file = json.loads(path.read_text(encoding="utf-8"))
    found = javascript([("bytes", {"file": file, "text": text}) for text in given])
    assert found == [tokenizer.encode(text).ids for text in given]


@pytest.mark.parametrize(("side", "size"), [(512, 8), (512, 40), (512, 64), (512, 128), (60, 64), (64, 64)])
def test_photographs_are_resized_to_the_last_bit(side: int, size: int) -> None:
    photo, mask = export_models.photograph(side)
    given = export_models.rgba(photo, mask)
    cases: list[tuple[str, Any]] = [("photo", {"given": given, "size": size, "channels": n}) for n in (3, 1)]
    *found, found_mask = javascript([*cases, ("mask", {"given": given, "size": size})])
    for values, channels in zip(found, (3, 1), strict=True):
        assert largest(values, photo_tensor(photo, size, channels).flatten()) < 1e-6
    assert largest(found_mask, mask_tensor(mask, size).flatten()) < 1e-6


def test_photographs_are_prepared_for_the_encoder_as_clip_does() -> None:
    photo, mask = export_models.photograph(120)
    for number, name in FILTERS.items():
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=number
        )
        about = {"size": 32, "filter": name, "mean": processor.image_mean, "std": processor.image_std}
        (found,) = javascript([("encoder", {"given": export_models.rgba(photo, mask), "about": about})])
        wanted = processor(images=[crop_square(photo, 64)], return_tensors="np")["pixel_values"]
        assert largest(found, wanted.flatten()) < 2e-6


def test_the_graphics_processor_is_used_only_where_it_agrees_and_is_faster() -> None:
    here = [[1, -3, 2], 40]
    cases = {
        "faster": [[1, -3, 2.0001], 1],
        "slower": [[1, -3, 2], 90],
        "other": [[1, -3, 2.01], 1],
        "nan": [[1, None, 2], 1],
        "short": [[1, -3], 1],
    }
    found = dict(
        zip(cases, javascript([("compare", {"here": here, "there": there}) for there in cases.values()]), strict=True)
    )
    assert {name: one["used"] for name, one in found.items()} == {name: name == "faster" for name in cases}
    assert found["other"]["deviation"] == pytest.approx(0.01 / 3, rel=1e-3)


def test_the_cpu_goes_on_where_the_graphics_processor_fails() -> None:
    here, there = [[1, 2], 30], [[1, 2.001], 1]
    used, lost, failing, missing = javascript(
        [("move", {"here": here, "there": one}) for one in (there, [*there, 5], [*there, 2], None)]
    )
    on_cpu, on_graphics = [1, 2], [1, pytest.approx(2.001)]
    assert used["after"] == [on_graphics, on_graphics]
    assert lost["after"] == [on_graphics, on_cpu]  # it fails in its sixth call, after four in the trial
    for tried, message in ((failing, "the device is lost"), (missing, "no such device")):
        assert tried["after"] == [on_cpu, on_cpu]
        assert tried["results"] == [{"graph": "base", "used": False, "failure": message}]


def test_texts_are_split_into_the_same_pieces() -> None:
    given = ["a red rose", "roses and daisies", "Überrote Röschen", "daisy", "porsche 911", "boeing 747"]
    pieces = choose_pieces(given)
    file = pieces_file(pieces)
    found = torch.tensor(javascript([("pieces", {"file": file, "text": text}) for text in given]))
    assert largest(torch.nn.functional.normalize(found, dim=1), piece_matrix(given, pieces)) < 1e-6


def test_remarks_about_prompts_are_the_same_but_for_similar_words() -> None:
    file = {"subject": "birds", "kinds": ["owls", "wrens"], "subjects": ["owl", "wren"], "words": ["a", "grey", "owl"]}
    known = EncoderVocabulary("birds", ("owls", "wrens"), frozenset(file["subjects"]), frozenset(file["words"]))
    given = ["grey owls", "a submarine", "an owl on xylophones", "kkkk " * 12]
    found = javascript([("remark", {"file": file, "text": text}) for text in given])
    assert found == [vocabulary_remark(text, known) for text in given]


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_schedules_have_the_same_noise_levels(kind: str) -> None:
    changed = {"linear": {"steps": 50, "zero_terminal_snr": True}, "cosine": {"shift": -1.0}}.get(kind, {})
    schedule = SCHEDULE_KINDS[kind](**changed)  # type: ignore[arg-type]
    (found,) = javascript([("levels", {"schedule": {"kind": kind, **asdict(schedule)}, "steps": 7})])
    times = sampling_times(7)[:-1]
    assert largest(found, torch.stack([times, *schedule.alpha_sigma(times)], 1)) < 1e-9


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_and_guidance_give_the_same_images(sampler: str, prediction: str) -> None:
    guidance = Guidance(2.0, (0.2, 0.8), perturbed_above=0.5)
    # At the noise end of the cosine schedule, noise divided by alpha is too large to compare.
    schedule = SCHEDULE_KINDS["linear" if prediction == "eps" else "cosine"]()
    condition, base = tiny.unit_vectors(1), tiny.unit_vectors(1, seed=1)
    kind = "linear" if prediction == "eps" else "cosine"
    stage = {"schedule": {"kind": kind, **asdict(schedule)}, "prediction": prediction}
    stage |= {"guidance_interval": guidance.interval, "perturbed_above": guidance.perturbed_above}
    case = {"stage": stage, "sampler": sampler, "steps": 6, "seed": 3, "scale": guidance.scale, "size": 48}
    (found,) = javascript([("sample", {**case, "condition": condition[0].tolist(), "base": base[0].tolist()})])

    def network(xt: Tensor, t: Tensor, given: Tensor, identity: Tensor | None = None) -> Tensor:
        rows = 2 * t + given[:, 0] + (0 if identity is None else identity)
        return torch.sin(xt + rows[:, None, None, None])

    generator = torch.Generator().manual_seed(3)

    def noise() -> Tensor:
        return torch.randn(48, generator=generator).reshape(1, 3, 4, 4)

    predicted = GuidedPrediction(schedule, condition, guidance, prediction=prediction, negative=base)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        rows = predicted.rows(x, t)
        return predicted.combine(x, t, network(*rows))

    times = sampling_times(6)
    pure = float(schedule.alpha_sigma(times[0])[0]) < 0.05
    process = ReverseProcess(schedule, times, noise, pure)
    wanted = run_sampler(SAMPLERS[sampler](noise(), process), denoise)
    assert largest(found, wanted.flatten()) < 1e-4

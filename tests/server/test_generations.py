"""Generations, by the official client: what it sends is understood, and each image is the command line's."""

from __future__ import annotations

import base64
import gzip
import io
import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image

import tiny
from captionless.conditioning.composition import Composition
from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.data.arrays import denormalise
from captionless.diffusion.sampler_run import Step
from captionless.generation.generator import Generator
from captionless.generation.sample import to_images
from captionless.server import answer
from captionless.server.protocol import SETTINGS, request_model
from server_cases import SAMPLING, Served, Steps, data_url, generator, pixels, png, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


def make(served: Served, prompt: str = "a rose", **fields: Any) -> Any:
    """Generate with the official client; fields that it does not know are extensions."""
    return served.client().images.generate(model="tiny", prompt=prompt, extra_body=fields)


# --- the image ---


def test_an_image_is_that_of_the_library(served: Served) -> None:
    answer = served.client().images.generate(model="tiny", prompt="a rose", n=2, extra_body={"seed": 7})
    expected = generator().generate("a rose", n=2, seed=7, sampling=SAMPLING)
    assert answer.data
    assert [image.seed for image in answer.data] == [7, 8]
    for image, wanted in zip(answer.data, expected, strict=True):
        assert image.url is None
        assert np.abs(pixels(image.b64_json or "") - np.asarray(wanted)).max() <= 1


def test_without_a_seed_every_request_has_its_own(served: Served) -> None:
    assert make(served).data[0].seed != make(served).data[0].seed


def test_the_settings_of_sampling_are_extensions_with_the_servers_defaults() -> None:
    sampling = SamplingConfig(steps=4, guidance=1.5)
    fields = request_model(ServeConfig(max_steps=9), sampling).model_json_schema()["properties"]
    defined = SamplingConfig.model_json_schema()["properties"]
    for name in SETTINGS:
        assert fields[name]["description"] == defined[name]["description"]
    assert fields["steps"]["default"] == 4
    assert fields["guidance"]["default"] == 1.5
    assert (fields["steps"]["minimum"], fields["steps"]["maximum"]) == (1, 9)


def test_the_settings_change_the_image_as_they_do_in_the_library(served: Served) -> None:
    settings: dict[str, Any] = {"steps": 5, "guidance": -0.5, "sampler": "euler-ancestral", "variety": 0.0}
    got = make(served, seed=1, **settings).data[0]
    (wanted,) = generator().generate("a rose", seed=1, sampling=SAMPLING, **settings)
    assert np.abs(pixels(got.b64_json) - np.asarray(wanted)).max() <= 1


def test_two_prompts_are_blended_as_in_the_library(served: Served) -> None:
    data = make(served, seed=1, n=2, towards="a daisy", towards_share=0.3).data
    there = Composition(towards="a daisy", towards_share=0.3)
    expected = generator().generate("a rose", n=2, seed=1, sampling=SAMPLING, composition=there)
    for got, wanted in zip(data, expected, strict=True):
        assert np.abs(pixels(got.b64_json) - np.asarray(wanted)).max() <= 1


def test_an_image_is_a_prompt_as_in_the_library(served: Served) -> None:
    got = make(served, seed=1, like=data_url(png()), like_share=0.4).data[0]
    like = Composition(like=Image.open(io.BytesIO(png())), like_share=0.4)
    (wanted,) = generator().generate("a rose", seed=1, sampling=SAMPLING, composition=like)
    assert np.abs(pixels(got.b64_json) - np.asarray(wanted)).max() <= 1


def test_the_file_holds_what_is_needed_to_make_it_again(served: Served) -> None:
    answer = make(served, seed=3)
    text = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))).text  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"], text["steps"]) == ("a rose", "3", "3")


# --- size and form ---


@pytest.mark.parametrize(("size", "shape"), [("auto", (8, 8)), ("32x32", (32, 32)), ("48x16", (16, 48))])
def test_the_size_asked_for_is_the_size_returned_and_a_header_names_the_sampled_one(
    served: Served, size: str, shape: tuple[int, int]
) -> None:
    """Another ignored the size (LocalAI #2430)."""
    answer = served.client().images.with_raw_response.generate(prompt="a rose", size=size, extra_body={"seed": 0})
    assert answer.headers["x-captionless-native-size"] == "8x8"
    images = answer.parse()
    assert images.data
    assert pixels(images.data[0].b64_json or "").shape[:2] == shape
    assert images.size == f"{shape[1]}x{shape[0]}"


def test_a_larger_image_is_the_same_image_enlarged(served: Served) -> None:
    small, large = (pixels(make(served, seed=5, size=size).data[0].b64_json) for size in ("auto", "64x64"))
    blocks = large.reshape(8, 8, 8, 8, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), blocks.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_an_image_comes_in_the_format_asked_for(served: Served, name: Any, kind: str) -> None:
    answer = served.client().images.generate(prompt="a rose", output_format=name, output_compression=50)
    assert answer.data
    assert Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or ""))).format == kind
    assert answer.output_format == name


def test_a_url_is_given_only_on_request_and_leads_to_the_image(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Others gave URLs that nobody had asked for, or none on request (sglang #19346, LocalAI #2299)."""
    fields: dict[str, Any] = {"prompt": "a rose", "extra_body": {"seed": 1}}
    plain = served.client().images.generate(**fields)
    linked = served.client().images.generate(response_format="url", **fields)
    assert plain.data
    assert linked.data
    assert linked.data[0].b64_json is None
    log = logging.getLogger("captionless.server.gate")
    log.addHandler(caplog.handler)  # `serve`, which other tests call, lets no record pass to the root logger
    with caplog.at_level("INFO", log.name):
        fetched = httpx2.get(linked.data[0].url or "")
        unknown = httpx2.get(f"{served.url}/v1/images/links/unknown")
    log.removeHandler(caplog.handler)
    logged = {record.fields["path"] for record in caplog.records if hasattr(record, "fields")}
    assert logged == {"/v1/images/links/"}, "the name, with which anybody can read the image, is logged"
    assert fetched.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(fetched.content), pixels(plain.data[0].b64_json or ""))
    assert unknown.status_code == 404


def test_fields_without_a_meaning_here_are_ignored(served: Served) -> None:
    answer = served.client().images.generate(
        prompt="a rose", quality="hd", style="vivid", user="me", moderation="low", background="auto", model="dall-e-3"
    )
    assert answer.data


def test_a_misspelt_field_is_ignored_with_a_remark(served: Served) -> None:
    assert make(served, guidanc=2, quality="hd").warnings == ["`guidanc` was ignored. Did you mean `guidance`?"]


def test_fields_of_edits_are_ignored_with_a_remark(served: Served) -> None:
    fields = {"image": data_url(png()), "mask": data_url(png()), "strength": 0.5}
    remarks = [f"`{name}` was ignored. Send it to /v1/images/edits." for name in fields]
    assert make(served, **fields).warnings == remarks


# --- streams ---


def test_a_stream_shows_predictions_of_the_clean_image_and_ends_with_the_image(served: Served) -> None:
    steps: list[Step] = []
    (wanted,) = generator().generate("a rose", seed=4, steps=8, sampling=SAMPLING, on_step=steps.append)
    stream = served.client().images.generate(
        prompt="a rose", stream=True, partial_images=3, extra_body={"seed": 4, "steps": 8}
    )
    *partial, last = stream
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 3
    assert [event.partial_image_index for event in partial] == [0, 1, 2]  # type: ignore[union-attr]
    for event, number in zip(partial, (1, 3, 5), strict=True):
        x0 = ((steps[number].x0[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
        assert np.abs(pixels(event.b64_json) - x0).max() <= 1
    assert last.type == "image_generation.completed"
    assert np.abs(pixels(last.b64_json) - np.asarray(wanted)).max() <= 1
    assert last.size == "8x8"


def test_a_trajectory_shows_the_prediction_of_every_step(served: Served) -> None:
    steps: list[Step] = []
    generator().generate("a rose", seed=4, steps=6, sampling=SAMPLING, on_step=steps.append)
    fields = {"seed": 4, "steps": 6, "trajectory": True}
    *frames, last = served.client().images.generate(prompt="a rose", stream=True, extra_body=fields)
    assert [event.output_format for event in (*frames, last)] == ["jpeg"] * 5 + ["png"]
    for event, step in zip(frames, steps, strict=False):
        file, (x0,) = io.BytesIO(), to_images(denormalise(step.x0))
        x0.save(file, "JPEG", quality=100)
        assert np.abs(pixels(event.b64_json) - pixels(file.getvalue())).max() <= 4


@pytest.mark.parametrize("partial_images", [0, 1, 3])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_stream_is_never_empty_however_few_the_steps(served: Served, partial_images: int, steps: int) -> None:
    """Another's stream ended without an image (sglang #24240)."""
    fields: dict[str, Any] = {"prompt": "a rose", "n": 2, "extra_body": {"steps": steps}}
    events = list(served.client().images.generate(stream=True, partial_images=partial_images, **fields))
    assert sum(event.type == "image_generation.completed" for event in events) == 2


def test_a_stream_in_which_nothing_happens_shows_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "HEARTBEAT", 0.02)
    one = generator()
    steps = Steps(one)
    fields = {"prompt": "a rose", "stream": True}
    with (
        serving({"tiny": one}) as served,
        httpx2.stream("POST", f"{served.url}/v1/images/generations", json=fields, timeout=20) as received,
    ):
        lines = received.iter_lines()
        assert [next(lines) for _ in range(4)] == [": waiting", ""] * 2
        steps.free()
        events = [line for line in lines if line and line != ": waiting"]
    assert events[0] == "event: image_generation.completed"


def test_an_invalid_request_for_a_stream_is_an_error_not_a_stream(served: Served) -> None:
    with pytest.raises(openai.BadRequestError):
        served.client().images.generate(prompt="", stream=True)


# --- models ---


def test_the_models_are_listed_and_described(served: Served) -> None:
    (model,) = served.client().models.list()
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "captionless")
    assert model.captionless["sizes"] == [8]  # type: ignore[attr-defined]
    assert served.client().models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="The models are: tiny"):
        served.client().models.retrieve("gpt-image-1")


def test_while_one_model_is_served_every_name_means_that_one(served: Served) -> None:
    assert served.client().images.generate(prompt="a rose", model="gpt-image-1").data
    assert served.client().images.generate(prompt="a rose").data


def test_of_several_models_the_one_named_is_used_and_an_unknown_name_is_answered_with_the_list() -> None:
    classes = Generator(tiny.class_model(), device="cpu")
    with serving({"tiny": generator(), "classes": classes}) as served:
        got = served.client().images.generate(model="classes", prompt="daisy", extra_body={"seed": 2}).data
        (wanted,) = classes.generate("daisy", seed=2, sampling=SAMPLING)
        assert got
        assert np.abs(pixels(got[0].b64_json or "") - np.asarray(wanted)).max() <= 1
        with pytest.raises(openai.NotFoundError, match="tiny, classes") as unknown:
            served.client().images.generate(model="dall-e-2", prompt="a rose")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="The classes are: daisy, rose"):
            served.client().images.generate(model="classes", prompt="a cat")


def test_a_grey_model_is_served() -> None:
    with serving({"grey": generator(channels=1)}) as served:
        assert make(served).data[0].b64_json


# --- errors ---


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"seed": True}, "seed"),
        ({"steps": 201}, "steps"),
        ({"size": "0x0"}, "size"),
        ({"size": "9999x9999"}, "size"),
        ({"size": "large"}, "size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"guidance": 1e9}, "guidance"),
        ({"variety": 2}, "variety"),
        ({"towards": "b", "towards_share": 2}, "towards_share"),
        ({"towards_share": 0.5}, "towards_share"),
        ({"like": "/etc/passwd"}, "like"),
        ({"sampler": "lms"}, "sampler"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "svg"}, "output_format"),
        ({"svg": {"model": "x"}}, "svg"),
        ({"frame_count": 4}, "frame_count"),
        ({"partial_images": 4}, "partial_images"),
    ],
)
def test_what_is_invalid_is_a_bad_request_that_names_the_field(
    served: Served, fields: dict[str, Any], param: str
) -> None:
    answer = served.post("generations", **{"prompt": "a rose", **fields})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


def test_a_prompt_of_the_wrong_type_is_answered_with_an_example(served: Served) -> None:
    message = served.post("generations", prompt=["a rose"]).json()["error"]["message"]
    assert message.endswith("Try `prompt=a red rose`.")


@pytest.mark.parametrize("param", ["prompt", "negative_prompt", "towards"])
def test_an_unknown_class_is_answered_with_the_field_that_holds_it(param: str) -> None:
    one = Generator(tiny.class_model(), device="cpu")
    with serving({"tiny": one}) as served:
        error = served.post("generations", **{"prompt": "rose", param: "blurry"}).json()["error"]
    assert error["param"] == param
    assert "there is no class 'blurry'" in error["message"]
    assert param == "prompt" or error["message"].startswith(f"`{param}`: ")


def test_a_compressed_body_is_answered_with_the_name_of_its_coding(served: Served) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(b'{"prompt": "a rose"}')
    answer = httpx2.post(f"{served.url}/v1/images/generations", content=body, headers=headers)
    assert answer.status_code == 400
    assert "Content-Encoding: gzip" in answer.json()["error"]["message"]


def test_the_largest_number_of_steps_is_one_number(served: Served) -> None:
    assert served.post("generations", prompt="a rose", steps=201).json()["error"]["message"].count("at most") == 1


def test_remarks_about_a_prompt_come_with_the_image(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    one = served.service.generators["tiny"]
    monkeypatch.setattr(one.familiarity, "remarks", lambda prompts, vectors: ["never heard of it"])
    assert make(served).warnings == ["never heard of it"]
    (event,) = served.client().images.generate(prompt="a rose", stream=True)
    assert event.warnings == ["never heard of it"]  # type: ignore[union-attr]
    monkeypatch.undo()
    assert make(served).warnings == []

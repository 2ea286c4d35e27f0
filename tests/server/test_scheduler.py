"""The scheduler: requests share network calls, whatever they differ in, and none changes the image of another."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import httpx2
import numpy as np
import openai
import pytest
import torch

from captionless.config.sampling import SamplingConfig
from captionless.diffusion.samplers import SAMPLERS
from captionless.generation.generator import Generator
from captionless.models.capture import captured_network
from captionless.server import scheduler
from captionless.server.metrics import Metrics
from server_cases import SAMPLING, Steps, cascade, failing_generator, generator, pixels, serving

SETTINGS = ("steps", "guidance", "sampler", "variety")


def expected(one: Generator, request: dict[str, Any], sampling: SamplingConfig = SAMPLING) -> list[np.ndarray]:
    settings = {name: request[name] for name in SETTINGS if name in request}
    composition = None
    if "negative_prompt" in request:
        from captionless.conditioning.composition import Composition

        composition = Composition(negative=request["negative_prompt"])
    images = one.generate(
        request["prompt"], request.get("n", 1), request["seed"], sampling=sampling, composition=composition, **settings
    )
    return [np.asarray(image).astype(int).reshape(*image.image.size, -1) for image in images]


@pytest.mark.parametrize("replayed", [False, True])
def test_every_image_is_the_librarys_whatever_shares_its_batch_and_whenever_it_joined(
    replayed: bool, fake_cuda: torch.device
) -> None:
    """In others' servers, images depended on their batch: by its seeds (forge #546), by its padding (sglang #28502)."""
    requests: list[dict[str, Any]] = [
        {
            "prompt": f"a {sampler}",
            "sampler": sampler,
            "steps": 5 + i % 4,
            "seed": 5 + i,
            "guidance": (0.0, 3.0, -1)[i % 3],
        }
        for i, sampler in enumerate(SAMPLERS)
    ]
    requests[1] |= {"n": 3}
    requests[2] |= {"negative_prompt": "a thorn", "variety": 0.8}
    requests[5] |= {"variety": 0.0}
    one = generator()
    steps = Steps(one)
    if replayed:
        vars(one.stages[0])["network"] = captured_network(one.stages[0].denoiser, fake_cuda, print)
    with serving({"tiny": one}, batch=32) as served, ThreadPoolExecutor(len(requests)) as pool:
        answers, queued = [], 0
        for request in requests:  # each joins while those before it are in progress
            answers.append(pool.submit(served.post, "generations", **request))
            queued += request.get("n", 1)
            if len(answers) <= 3:
                served.wait(images=queued)
                steps.make()
        served.wait(images=queued)
        steps.free()
        results = [answer.result() for answer in answers]
        calls = served.service.metrics.registry.get_sample_value("captionless_rows_count")
    assert max(steps.rows) > 8  # rows of several requests
    assert (calls > len(steps.rows)) == replayed
    plain = generator()
    for request, result in zip(requests, results, strict=True):
        assert result.status_code == 200, result.text
        for image, wanted in zip(result.json()["data"], expected(plain, request), strict=True):
            assert np.abs(pixels(image["b64_json"]) - wanted).max() <= 1, request


def test_the_stages_of_a_cascade_have_batches_of_their_own() -> None:
    one, sampling = cascade(), SAMPLING.replace(upsample_steps=3)
    rows: dict[int, list[int]] = {8: [], 16: []}
    for stage in one.stages:
        stage.denoiser.register_forward_pre_hook(lambda _, inputs: rows[inputs[0].shape[-1]].append(len(inputs[0])))
    steps = Steps(one)
    requests = [{"prompt": "a rose", "seed": 3, "n": 3}, {"prompt": "a daisy", "seed": 1, "n": 2, "sampler": "heun"}]
    with serving({"cascade": one}, sampling, batch=32) as served, ThreadPoolExecutor() as pool:
        answers = [pool.submit(served.post, "generations", **requests[0])]
        served.wait(images=3)
        steps.make(4)  # the first request is in its second stage when the other arrives
        answers.append(pool.submit(served.post, "generations", **requests[1]))
        served.wait(images=5)
        steps.free()
        results = [answer.result().json() for answer in answers]
    assert rows[16][0] == 3
    assert rows[8][0] in (3, 6)
    plain = cascade()
    for request, result in zip(requests, results, strict=True):
        for image, wanted in zip(result["data"], expected(plain, request, sampling), strict=True):
            assert np.abs(pixels(image["b64_json"]) - wanted).max() <= 1


def test_network_calls_are_as_large_as_the_setting_allows_and_no_larger() -> None:
    """In another server, a setting had no effect, and every batch was 1 (vllm-omni #6405)."""
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, SAMPLING.replace(guidance=0.0), batch=4) as served, ThreadPoolExecutor() as pool:
        answers = [pool.submit(served.post, "generations", prompt="a rose", n=n) for n in (1, 5)]
        served.wait(images=6)
        steps.free()
        assert all(answer.result().status_code == 200 for answer in answers)
    assert max(steps.rows) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_rows_within_two_steps(stream: bool) -> None:
    """Others went on sampling for nobody (docker/model-runner #1041, vllm-omni #1347)."""
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, SAMPLING.replace(guidance=0.0)) as served, ThreadPoolExecutor() as pool:
        stays = pool.submit(served.post, "generations", prompt="a daisy", steps=12)
        served.wait(images=1)
        steps.make()
        leaves = pool.submit(served.post, "generations", 1.5, prompt="a rose", n=4, steps=150, stream=stream)
        served.wait(images=5)
        steps.make(2)
        with pytest.raises(httpx2.TimeoutException):
            leaves.result()
        served.wait(places=1)
        before = len(steps.rows)
        assert 5 in steps.rows
        steps.make(3)
        assert steps.rows[before + 1 :] == [1, 1]  # the call that was being made when the client left does not count
        steps.free()
        assert stays.result().status_code == 200


def test_a_full_queue_is_answered_with_a_time_to_try_again() -> None:
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, queue=10) as served, ThreadPoolExecutor() as pool:
        first = pool.submit(served.post, "generations", prompt="a rose", n=9)
        served.wait(images=9)
        with pytest.raises(openai.RateLimitError) as refused:
            served.client().images.generate(prompt="a daisy", n=2)
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 120
        assert refused.value.code == "rate_limit_exceeded"
        served.service.scheduler._pace = 1000.0
        assert served.post("generations", prompt="a daisy", n=2).headers["retry-after"] == "120"
        assert served.places == 9
        steps.free()
        assert len(first.result().json()["data"]) == 9
        served.wait(places=0)


def test_the_official_client_tries_again_and_succeeds() -> None:
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, queue=10) as served, ThreadPoolExecutor() as pool:
        first = pool.submit(served.post, "generations", prompt="a rose", n=10)
        served.wait(images=10)
        served.service.scheduler._pace = 0.1  # so that it is told to come back in a second
        second = pool.submit(served.client(max_retries=3).images.generate, prompt="a daisy")
        steps.free()
        assert second.result().data
        assert first.result().status_code == 200


def test_however_many_images_one_user_wants_another_is_served_at_once() -> None:
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, SAMPLING.replace(guidance=0.0), batch=2) as served, ThreadPoolExecutor() as pool:
        many = pool.submit(served.post, "generations", prompt="a rose", n=10, user="a")
        served.wait(images=10)
        steps.make()
        few = pool.submit(served.post, "generations", prompt="a daisy", user="b")
        served.wait(images=11)
        before = len(steps.rows)
        while any(image.job.owner == "b" for image in served.service.scheduler._images):
            steps.make()
        assert len(steps.rows) - before <= SAMPLING.steps + 2
        assert few.result().status_code == 200
        steps.free()
        assert len(many.result().json()["data"]) == 10


def test_one_image_of_a_user_is_not_held_up_by_large_batches_of_another() -> None:
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, SAMPLING.replace(guidance=0.0), batch=32) as served, ThreadPoolExecutor() as pool:
        many = pool.submit(served.post, "generations", prompt="a rose", n=10, user="a", steps=50)
        served.wait(images=10)
        steps.make()
        few = pool.submit(served.post, "generations", prompt="a daisy", user="b")
        served.wait(images=11)
        steps.make(SAMPLING.steps + 1)
        assert few.result().status_code == 200
        assert set(steps.rows[2 : 2 + SAMPLING.steps]) == {3}  # its image, and two of the other user's
        assert steps.rows[1] == 10
        steps.free()
        assert many.result().status_code == 200


def test_who_asks_now_and_then_is_served_before_those_who_always_ask() -> None:
    one = generator()
    steps = Steps(one)
    with serving({"tiny": one}, SAMPLING.replace(guidance=0.0), batch=32) as served, ThreadPoolExecutor(9) as pool:
        fields = {"prompt": "a rose", "steps": 12}
        others = [pool.submit(served.post, "generations", user=str(i), **fields) for i in range(8)]
        served.wait(images=8)
        served.service.scheduler._used = {"now and then": 2.0} | {str(i): 5.0 for i in range(8)}
        steps.make()
        few = pool.submit(served.post, "generations", prompt="a daisy", user="now and then")
        served.wait(images=9)
        before = len(steps.rows)
        steps.make(SAMPLING.steps + 1)
        assert few.result().status_code == 200
        steps.free()
        assert steps.rows[before + 1 : before + 1 + SAMPLING.steps] == [3] * SAMPLING.steps  # its image and two others
        assert all(other.result().status_code == 200 for other in others)


def test_what_an_owner_has_used_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
    line = scheduler.Scheduler(16, 64, "float32", torch.device("cpu"), Metrics())
    line._faded = 0.0
    line._used = {"a": 8.0, "b": 4.0, "c": 0.005}
    image = Mock(job=Mock(owner="a"))
    now[0] = 2 * scheduler.HALF_LIFE
    assert line._line([image], now[0]) == [image]
    assert line._used == {"a": 2.0, "b": 1.0}
    line.close()


def test_only_the_thread_that_samples_has_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two threads have some, all of them wait asleep instead of in a loop (libgomp), and calls are slower."""
    before, one, threads = torch.get_num_threads(), generator(), list[int]()
    one.stages[0].denoiser.register_forward_pre_hook(lambda *_: threads.append(torch.get_num_threads()))
    remarks = one.familiarity.remarks
    monkeypatch.setattr(
        one.familiarity, "remarks", lambda *given: threads.append(torch.get_num_threads()) or remarks(*given)
    )  # type: ignore[func-returns-value]
    torch.set_num_threads(2)
    try:
        with serving({"tiny": one}, SAMPLING.replace(steps=1)) as served:
            assert served.post("generations", prompt="a rose").status_code == 200
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 2]


def test_a_failure_is_told_to_those_it_concerns_and_the_server_goes_on() -> None:
    with serving({"tiny": failing_generator(2)}) as served:
        with pytest.raises(openai.InternalServerError) as failure:
            served.client().images.generate(prompt="a rose")
        assert failure.value.type == "server_error"
        assert served.client(max_retries=2).images.generate(prompt="a rose").data  # fails once more, and is repeated
        assert served.places == 0


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("a bug"), 500), (MemoryError(), 503), (OSError(errno.ENOSPC, "disk full"), 503)]
)
def test_a_failure_of_the_server_is_answered_in_one_form_and_logged(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("captionless.server.service.prepare_request", Mock(side_effect=error))
    with serving() as served:
        answer = served.post("generations", prompt="a rose")
        assert served.places == 0
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in answer.headers) == (status == 503)
    (line,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert bool(line.exc_info) == (status == 500)  # where there is nothing to mend, a line is enough


def test_a_network_without_enough_memory_is_no_bug() -> None:
    with serving({"tiny": failing_generator(1, "can't allocate memory")}) as served:
        answer = served.post("generations", prompt="a rose")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_samples_no_more_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as served:
        assert httpx2.get(f"{served.url}/healthz").status_code == 200
        scheduler = served.service.scheduler
        monkeypatch.setattr(scheduler, "_call", Mock(side_effect=SystemExit))
        with pytest.raises(httpx2.TimeoutException):
            served.post("generations", 0.5, prompt="a rose")
        scheduler._thread.join()
        assert httpx2.get(f"{served.url}/healthz").status_code == 503

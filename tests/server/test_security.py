"""Who is let in: the host's own names, no pages of other sites, and the API key where there is one."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

import httpx2
import openai
import pytest

from captionless.config.serve import ServeConfig
from captionless.errors import CaptionlessError
from captionless.server.security import Access
from server_cases import Served, serving

KEY = "sk-a-key-of-some-length"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(allow_host=("images.example",)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with serving(key=KEY) as server:
        yield server


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:8000", "images.example"])
def test_the_servers_own_names_are_let_in(served: Served, host: str) -> None:
    assert httpx2.get(f"{served.url}/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8000", "8.8.8.8", "[", ""])
def test_other_names_are_not_so_that_a_rebound_name_leads_nowhere(served: Served, host: str) -> None:
    answer = httpx2.get(f"{served.url}/v1/models", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "unknown_host"


def test_behind_any_address_numbers_are_let_in_but_no_names() -> None:
    access = Access(ServeConfig(host="0.0.0.0"), KEY)
    assert access._known("192.168.1.7:8000")
    assert access._known("[fe80::1]:8000")
    assert not access._known("evil.example")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://[", ""])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/images/generations", "/healthz"])
def test_pages_of_other_sites_are_not_let_in(served: Served, origin: str, path: str) -> None:
    answer = httpx2.post(f"{served.url}{path}", headers={"origin": origin, "content-type": "text/plain"}, content="{}")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"


def test_the_official_client_says_that_it_is_not_let_in(served: Served) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        served.client().with_options(default_headers={"origin": "http://evil.example"}).models.list()


def test_the_servers_own_page_is(served: Served) -> None:
    assert httpx2.get(f"{served.url}/v1/models", headers={"origin": served.url}).status_code == 200


def test_no_answer_allows_other_sites_to_read_it(served: Served) -> None:
    """A server on localhost with CORS for everybody is open to every web page (odysseus #2887)."""
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for method in ("OPTIONS", "GET", "POST"):
        answer = httpx2.request(method, f"{served.url}/v1/images/generations", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_what_a_page_can_send_without_asking_is_not_accepted(served: Served) -> None:
    """A form of another site can send text/plain, without an ``Origin`` in old browsers."""
    body = '{"prompt": "a rose"}'
    answer = httpx2.post(f"{served.url}/v1/images/generations", headers={"content-type": "text/plain"}, content=body)
    assert answer.status_code == 400


def test_with_a_key_only_those_who_have_it_are_let_in(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))  # type: ignore[func-returns-value]
    assert guarded.client().models.list().data
    for wrong in ("sk-wrong", KEY + "x", KEY[:-1], "", "ключ"):
        header = {"authorization": f"Bearer {wrong}".encode()} if wrong else {}
        for path in ("/v1/models", "/v1/models/x", "/metrics", "/v1/nothing"):
            answer = httpx2.get(guarded.url + path, headers=header)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
    assert len(compared) >= 20  # in constant time
    with pytest.raises(openai.AuthenticationError):
        guarded.client(api_key="sk-wrong").images.generate(prompt="a rose")


def test_the_health_of_the_server_needs_no_key(guarded: Served) -> None:
    assert httpx2.get(f"{guarded.url}/healthz").json() == {"status": "ok"}


def test_a_link_to_an_image_needs_no_key(guarded: Served) -> None:
    images = guarded.client().images.generate(prompt="a rose", response_format="url").data
    assert images
    assert httpx2.get(images[0].url or "").status_code == 200


def test_another_address_needs_a_key_or_a_decision() -> None:
    with pytest.raises(CaptionlessError, match="Set an API key"):
        Access(ServeConfig(host="0.0.0.0"))
    with pytest.raises(CaptionlessError, match="at least 16 characters"):
        Access(ServeConfig(), "short")
    Access(ServeConfig(host="0.0.0.0", no_key=True))
    Access(ServeConfig(host="0.0.0.0"), KEY)
    assert ServeConfig().host == "127.0.0.1"


@pytest.mark.parametrize("path", ["generations", "edits", "variations", "nearest"])
def test_a_wrong_method_is_answered_with_the_right_ones(served: Served, path: str) -> None:
    answer = httpx2.get(f"{served.url}/v1/images/{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["message"] == "this address does not take this method."


def test_a_page_never_mixes_the_modules_of_two_versions(served: Served) -> None:
    for path in ("/", "/app.js", "/style.css"):
        assert httpx2.get(served.url + path).headers["cache-control"] == "no-cache"


def test_every_answer_has_an_id_that_the_client_sees(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        served.client().images.generate(prompt="")
    assert wrong.value.request_id
    assert wrong.value.request_id.startswith("req_")


def test_requests_are_counted_and_measured(served: Served) -> None:
    assert served.post("generations", prompt="a rose", n=2).status_code == 200
    text = httpx2.get(f"{served.url}/metrics").text
    assert 'captionless_requests_total{route="/v1/images/generations",status="200"}' in text
    assert "captionless_images_total 2.0" in text
    for name in ("request_seconds_bucket", "first_step_seconds_bucket", "rows_bucket", "queue_images", "process_"):
        assert name in text


# --- behind a reverse proxy, which is on the same computer ---

PROXIED = {"host": "images.example", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7"}


def ask_for_url(served: Served, **headers: str) -> httpx2.Response:
    fields = {"prompt": "a rose", "response_format": "url"}
    return httpx2.post(f"{served.url}/v1/images/generations", json=fields, headers=PROXIED | headers, timeout=60)


def test_a_url_leads_to_the_address_that_the_proxy_was_asked_for(served: Served) -> None:
    (image,) = ask_for_url(served, origin="https://images.example").json()["data"]
    place, _, name = image["url"].rpartition("/")
    assert place == "https://images.example/v1/images/links"
    assert httpx2.get(f"{served.url}/v1/images/links/{name}", headers=PROXIED).status_code == 200


@pytest.mark.parametrize("name", ["x-forwarded-host", "forwarded"])
def test_a_name_is_believed_as_the_host_alone(served: Served, name: str) -> None:
    value = "host=evil.example" if name == "forwarded" else "evil.example"
    (image,) = ask_for_url(served, **{name: value}).json()["data"]
    assert image["url"].startswith("https://images.example/")
    refused = ask_for_url(served, host="evil.example", **{name: value.replace("evil", "images")})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "unknown_host")


def test_the_users_of_a_proxy_are_told_apart(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    owners, admit = list[str](), served.service.scheduler.admit
    monkeypatch.setattr(served.service.scheduler, "admit", lambda owner: owners.append(owner) or admit(owner))  # type: ignore[func-returns-value]
    for user in ("203.0.113.7", "203.0.113.8"):
        assert ask_for_url(served, **{"x-forwarded-for": user}).status_code == 200
    assert owners == ["203.0.113.7", "203.0.113.8"]


def test_a_proxy_on_another_computer_is_believed_if_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")  # and not this one
    with serving(allow_host=("images.example",)) as served:
        (image,) = ask_for_url(served).json()["data"]
    assert image["url"].startswith("http://images.example/")

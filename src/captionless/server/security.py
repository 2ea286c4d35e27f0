"""Decide which requests are let in: the right host, no other site's pages, and the API key where there is one.

A page of another site can send requests to a server on localhost. Its browser names that site as the ``Origin``, or,
if the page's own name is made to lead to this computer (DNS rebinding), as the ``Host``.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from captionless.config.page import content_policy, page_headers
from captionless.config.serve import ServeConfig
from captionless.errors import CaptionlessError
from captionless.server.errors import ApiError

LOCAL = ("localhost", "127.0.0.1", "::1")
ANY = ("0.0.0.0", "::")
SHORTEST_KEY = 16
LINKS = "/v1/images/links/"
"""Where images wait to be fetched; their addresses cannot be guessed."""
HEADERS = page_headers(content_policy())
"""Headers of every answer."""


class Access:
    """Who may use the server.

    Args:
        config: the address to listen on, and the names under which the server is reached.
        key: the API key, or None.

    Raises:
        CaptionlessError: other computers reach the address, and there is no key or an easily guessed one.
    """

    def __init__(self, config: ServeConfig, key: str | None = None) -> None:
        self.key = key.encode() if key else None
        self.hosts = {*LOCAL, *(name.lower() for name in config.allow_host), config.host.lower()}
        self.any_address = config.host in ANY
        if key and len(key) < SHORTEST_KEY:
            raise CaptionlessError(f"CAPTIONLESS_API_KEY must have at least {SHORTEST_KEY} characters.")
        if config.host not in LOCAL and not key and not config.no_key:
            raise CaptionlessError(
                f"other computers reach `host={config.host}`. Set an API key in the environment variable "
                "CAPTIONLESS_API_KEY, or pass `no_key=True` to serve everybody.",
                parameter="host",
                value=config.host,
            )

    def check(self, path: str, headers: Headers) -> None:
        """Raise ``ApiError`` unless a request is let in."""
        host = headers.get("host", "").lower()
        if not self._known(host):
            raise ApiError(
                403, "the server is not known under this name. Allow it with `--allow-host`.", code="unknown_host"
            )
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host:
            raise ApiError(403, "pages of other sites cannot use this server.", code="foreign_origin")
        private = path == "/metrics" or (path.startswith("/v1/") and not path.startswith(LINKS))
        given = headers.get("authorization", "").encode("latin-1")
        if self.key and private and not hmac.compare_digest(given, b"Bearer " + self.key):
            raise ApiError(
                401,
                "the API key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self.hosts:
                return True
            return self.any_address and bool(ipaddress.ip_address(name))  # an address cannot be rebound
        except ValueError:
            return False


def _place(origin: str) -> str | None:
    """Return host and port of an origin; None if it has none, as that of a sandboxed page."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None

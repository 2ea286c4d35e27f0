"""The outermost layer: every request gets an id, is checked, limited, counted and logged, and answered in one form."""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import Any

from fastapi.responses import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionless.server.errors import ApiError, failure
from captionless.server.metrics import Metrics
from captionless.server.security import HEADERS, LINKS, Access

log = logging.getLogger(__name__)

MEGABYTE = 1_000_000
MOST_HEADERS = 32_000
"""Bytes of all headers of a request."""
GONE = 499
"""The status in logs and metrics of a request whose client left before the answer."""


class JsonLines(logging.Formatter):
    """Format log records as JSON lines. Prompts are not logged."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


class Gate:
    """An ASGI application around another.

    Args:
        app: the application.
        access: decides which requests are let in.
        metrics: counts them.
        max_upload: the largest request, in megabytes.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, max_upload: int) -> None:
        self.app, self.access, self.metrics, self.limit = app, access, metrics, max_upload * MEGABYTE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        name, began, status = f"req_{secrets.token_hex(12)}", time.monotonic(), GONE
        scope.setdefault("state", {})["request_id"] = name

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers.update({"x-request-id": name, **HEADERS})
                headers.setdefault("cache-control", "no-cache")  # a page never mixes modules of two versions
            await send(message)

        try:
            await self._let_in(scope, self._limited(receive), answer)
        except Exception as error:  # nothing is above but uvicorn, which would answer in another form
            extra = {"fields": {"request_id": name}}
            log.error(f"a request failed: {type(error).__name__}: {error}", exc_info=status != 503, extra=extra)
            if status == GONE:
                await failure(error).response()(scope, receive, answer)
        finally:
            self._record(scope, name, status, time.monotonic() - began)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        app: ASGIApp = self.app
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
                raise ApiError(431, "the headers are too large.", code="request_too_large")
            self.access.check(scope["path"], headers)
            if (length := headers.get("content-length", "0")).isdecimal() and int(length[:20]) > self.limit:
                raise self._too_large()
        except ApiError as error:
            app = error.response()
        await app(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        """Return a ``receive`` that raises ``ApiError`` when the body becomes too large."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.limit:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the request is larger than {self.limit // MEGABYTE} MB.", code="request_too_large")

    def _record(self, scope: Scope, name: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        # Whoever knows the name of a link may read its image, so that it is not logged.
        path = LINKS if scope["path"].startswith(LINKS) else scope["path"][:200]
        fields: dict[str, Any] = {"request_id": name, "method": scope["method"], "path": path}
        fields |= {"status": status, "seconds": round(seconds, 3)}
        fields |= scope["state"].get("logged", {})
        log.info("request", extra={"fields": fields})


def gone() -> Response:
    """Return the answer that nobody receives."""
    return Response(status_code=GONE)

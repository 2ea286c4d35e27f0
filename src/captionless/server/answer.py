"""The answer to a request for images, complete or as a stream."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from captionless.server.errors import ApiError
from captionless.server.images import Prepared
from captionless.server.jobs import Job, Sampled
from captionless.server.links import Links
from captionless.server.protocol import USAGE
from captionless.server.security import LINKS

HEARTBEAT = 15.0
"""Seconds without an event after which a stream sends a comment, so that no proxy takes it for dead."""


class Answer(Response):
    """The answer to a request for images: complete as JSON, or as a stream of server-sent events."""

    def __init__(self, prepared: Prepared, job: Job, links: Links, base_url: str, route: str) -> None:
        native = prepared.native
        headers = {"x-captionless-native-size": f"{native}x{native}", "cache-control": "no-store"}
        super().__init__(headers=headers, media_type="text/event-stream")
        self.prepared, self.job, self.links, self.base_url = prepared, job, links, base_url
        self.prefix = "image_generation" if route == "generations" else "image_edit"
        self.stack = ExitStack()

    async def complete(self, receive: Receive) -> Response:
        """Return all images at once."""
        data = [b""] * len(self.prepared.images.seeds)
        async for news in self._news(receive):
            if news:
                data[news.index] = to_json(await self._image(news))
        # Joined as bytes: to convert many large images at once would keep the server from answering others.
        rest = to_json({"created": int(time.time()), **self._form(), "warnings": self.prepared.remarks})
        content = b'{"data":[' + b",".join(data) + b"]," + rest.removeprefix(b"{")
        headers = {name: value for name, value in self.headers.items() if not name.startswith("content-")}
        return Response(content, headers=headers, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events of a stream."""
        with self.stack:
            del self.headers["content-length"]
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            with suppress(ClientDisconnect):
                async for event in self._events(receive):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _events(self, receive: Receive) -> AsyncIterator[bytes]:
        try:
            async for news in self._news(receive):
                if news is None:
                    yield b": waiting\n\n"
                    continue
                kind = "completed" if news.partial is None else "partial_image"
                event = {"type": f"{self.prefix}.{kind}", **await self._image(news)}
                event |= self._form() | {"output_format": self.prepared.file_format(news)}
                event |= {"created_at": int(time.time()), "quality": "auto"}
                last = {"usage": USAGE, "warnings": self.prepared.remarks}
                event |= last if news.partial is None else {"partial_image_index": news.partial}
                yield _event(event["type"], event)
        except ApiError as error:
            yield _event("error", error.body)

    def _form(self) -> dict[str, str]:
        width, height = self.prepared.size
        form = {"background": "opaque", "output_format": self.prepared.request.output_format}
        return form | {"size": f"{width}x{height}"}

    async def _news(self, receive: Receive) -> AsyncIterator[Sampled | None]:
        watcher = asyncio.create_task(_disconnected(receive))
        try:
            async for news in self.job.news(watcher, HEARTBEAT):
                yield news
        finally:
            watcher.cancel()

    async def _image(self, news: Sampled) -> dict[str, Any]:
        """Return an image in the form that was asked for, with its seed."""
        data = await asyncio.to_thread(self.prepared.encode, news)
        seed = {"seed": self.prepared.images.seeds[news.index]}
        if self.prepared.request.response_format == "url" and not self.prepared.request.stream:
            name = self.links.add(data, f"image/{self.prepared.request.output_format}")
            return {"url": f"{self.base_url.rstrip('/')}{LINKS}{name}"} | seed
        return {"b64_json": base64.b64encode(data).decode()} | seed


def _event(name: str, content: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + to_json(content) + b"\n\n"


async def _disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass

"""The routes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from captionless._version import __version__
from captionless.config.serve import ServeConfig
from captionless.errors import CaptionlessError
from captionless.server.errors import ApiError, bad_request, failure, unknown_model
from captionless.server.gate import Gate, gone
from captionless.server.protocol import ImageRequest
from captionless.server.security import LINKS, Access
from captionless.server.service import ImageService

PAGE = Path(__file__).parent / "page"


def create_app(service: ImageService, config: ServeConfig | None = None, key: str | None = None) -> Gate:
    """Return the server as an ASGI application.

    Args:
        service: answers the requests for images.
        config: addresses and limits.
        key: the API key that clients must send.

    Raises:
        CaptionlessError: the server would be open to other computers without a key.
    """
    config = config or ServeConfig()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="captionless", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_image_routes(app, service)
    _add_other_routes(app, service)
    _add_error_answers(app)
    # Not all paths below "/", so that a wrong method is answered with those that are right.
    for path in ("/", "/{file}"):
        app.router.routes.append(Route(path, StaticFiles(directory=PAGE, html=True)))
    return Gate(app, Access(config, key), service.metrics, config.max_upload)


def _add_image_routes(app: FastAPI, service: ImageService) -> None:
    @app.post("/v1/images/generations", openapi_extra=_schema(service.request_type, "application/json"))
    async def generations(request: Request) -> Response:
        """Generate images from a prompt."""
        return await service.answer(request, "generations")

    @app.post("/v1/images/edits", openapi_extra=_schema(service.request_type, "multipart/form-data"))
    async def edits(request: Request) -> Response:
        """Edit an image, or the transparent part of its mask."""
        return await service.answer(request, "edits")

    @app.post("/v1/images/variations", openapi_extra=_schema(service.request_type, "multipart/form-data"))
    async def variations(request: Request) -> Response:
        """Edit an image; without a prompt, the image itself is the prompt."""
        return await service.answer(request, "variations")

    @app.post("/v1/images/nearest", openapi_extra=_schema(service.request_type, "multipart/form-data"))
    async def nearest(request: Request) -> dict[str, Any]:
        """Find the training images that are nearest to an image; all fields but `image` and `model` are ignored."""
        return await service.nearest(request)

    @app.get(LINKS + "{name}")
    async def link(name: str) -> Response:
        """Return an image whose URL was asked for."""
        if not (found := service.links.get(name)):
            raise ApiError(404, "there is no such image, or it is older than an hour.", code="not_found")
        kind, data = found
        return Response(data, media_type=kind, headers={"cache-control": "private, immutable"})


def _add_other_routes(app: FastAPI, service: ImageService) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [service.describe(name) for name in service.generators]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """Describe a model."""
        if name not in service.generators:
            raise unknown_model(name, service.generators)
        return service.describe(name)

    @app.get("/healthz")
    async def health() -> JSONResponse:
        """Tell whether the server takes requests."""
        working = service.scheduler.working
        return JSONResponse({"status": "ok" if working else "stopping"}, 200 if working else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics in Prometheus's text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def answer_error(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(CaptionlessError)
    async def answer_bad_request(_: Request, error: CaptionlessError) -> Response:
        return bad_request(error).response()

    @app.exception_handler(Exception)  # raised once more after the answer, and then logged
    async def answer_failure(_: Request, error: Exception) -> Response:
        return failure(error).response()

    @app.exception_handler(ClientDisconnect)
    async def answer_nobody(_: Request, error: ClientDisconnect) -> Response:
        return gone()

    @app.exception_handler(HTTPException)
    async def answer_http_error(_: Request, error: HTTPException) -> Response:
        message = {404: "there is nothing under this address.", 405: "this address does not take this method."}
        return ApiError(
            error.status_code, message.get(error.status_code, str(error.detail)), headers=error.headers
        ).response()


def _schema(kind: type[ImageRequest], media_type: str) -> dict[str, Any]:
    """Return what the OpenAPI description says about the body of a request."""
    schema = kind.model_json_schema()
    file = {"type": "string", "format": "binary"}
    if media_type == "application/json":
        schema["properties"]["like"] = {"type": "string", "description": "A reference image, as a data URL."}
    else:
        schema["properties"] |= {"image": file, "mask": file, "like": file}
        schema["required"] = ["image"]
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}

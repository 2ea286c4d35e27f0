"""Errors in the form of OpenAI's API. Clients retry the statuses 408, 409, 429 and 5xx, and no others."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

from fastapi.responses import JSONResponse

from captionless.device import is_out_of_memory
from captionless.errors import CaptionlessError

PARAMETERS = {"prompts": "prompt", "negative": "negative_prompt", "init": "image", "classes": "prompt"}
"""The names in a request of parameters that have another name in Python."""
LONGEST = 500
"""Characters of a message; longer ones repeat what the client sent."""


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: the HTTP status.
        message: what is wrong, and what to do next.
        kind: the type of error in OpenAI's terms.
        param: the field of the request that is wrong.
        code: the kind of problem, for programs.
        headers: additional headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        message = message if len(message) <= LONGEST else message[: LONGEST - 2] + " …"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.body, self.status, self.headers)


def bad_request(error: CaptionlessError) -> ApiError:
    """Return the answer to a request that the library rejects."""
    param = PARAMETERS.get(error.parameter or "", error.parameter)
    message = str(error).replace(f"`{error.parameter}`", f"`{param}`")
    return ApiError(400, message, param=param, code=error.code or "invalid_value")


def failure(error: Exception, what: str = "the request") -> ApiError:
    """Return the answer to a request that fails although nothing is wrong with it."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or is_out_of_memory(error):
        message = f"the server has too little {'disk space' if full else 'memory'} for {what}. Try again later."
        return ApiError(503, message, kind="server_error", code="overloaded", headers={"Retry-After": "30"})
    return ApiError(500, f"{what} failed. The server's log says why.", kind="server_error")


def stopping() -> ApiError:
    """Return the answer to requests that are given up because the server stops."""
    message = "the server is stopping. Try again in a moment."
    return ApiError(503, message, kind="server_error", code="stopping", headers={"Retry-After": "10"})


def unknown_model(name: str, models: Iterable[str]) -> ApiError:
    """Return the answer to a request for a model that is not served."""
    message = f"there is no model {name!r}. The models are: {', '.join(models)}."
    return ApiError(404, message, param="model", code="model_not_found")

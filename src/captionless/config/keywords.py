"""Show the valid ``**settings`` of a function in ``help()`` and ``inspect.signature``."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from captionless.config.base import Config
from captionless.config.fields import field_default, field_range

Function = TypeVar("Function", bound=Callable[..., Any])


def keywords(*configs: type[Config]) -> Callable[[Function], Function]:
    """Return a decorator that documents a function's ``**settings`` as the fields of configs.

    Fields with the name of an ordinary parameter are left out. Type checkers read the same keywords from the
    annotation ``**settings: Unpack[SamplingKeywords]``, a ``TypedDict`` generated from the same fields
    (``captionless.config.keyword_types``).
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        parameters = {name: one for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
        lines = []
        for name, field in [one for config in configs for one in config.model_fields.items()]:
            if name not in parameters:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters[name] = inspect.Parameter(name, kind, default=field.default, annotation=field.annotation)
                line = f"{name}: {field.description} ({field_range(field)}; default {field_default(field)})"
                lines.append(textwrap.fill(line, 110, initial_indent="    ", subsequent_indent="        "))
        function.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nSettings:\n" + "\n".join(lines)
        return function

    return decorate

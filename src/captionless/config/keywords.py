"""Settings as keywords: show in ``help()`` and ``inspect.signature`` what ``**settings`` of a function takes."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from captionless.config.base import Config
from captionless.config.describe import describe_allowed, describe_default

Function = TypeVar("Function", bound=Callable[..., Any])


def keywords(*configs: type[Config]) -> Callable[[Function], Function]:
    """Return a decorator that lists the fields of configs instead of a function's ``**settings``.

    Type checkers take the same keywords from the annotation, ``**settings: Unpack[SamplingOptions]``, whose typed
    dictionary is generated from the same fields (``captionless.config.keyword_types``).

    Args:
        configs: the configs that the function's ``**settings`` belong to. A field that has the name of an ordinary
            parameter is left out.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        parameters = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        taken, lines = {one.name for one in parameters}, []
        for config in configs:
            for name, field in config.model_fields.items():
                if name not in taken:
                    parameters.append(
                        inspect.Parameter(
                            name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation
                        )
                    )
                    about = (
                        f"{name}: {field.description} ({describe_allowed(field)}; default {describe_default(field)})"
                    )
                    lines.append(textwrap.fill(about, 110, initial_indent="    ", subsequent_indent="        "))
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nSettings:\n" + "\n".join(lines)
        return function

    return decorate

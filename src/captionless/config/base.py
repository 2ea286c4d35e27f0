"""The base class of all configs: a frozen pydantic model whose errors say which values are valid."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, get_args

from annotated_types import MultipleOf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from captionless.config.fields import field_choices, field_extra, field_range, field_text
from captionless.errors import CaptionlessError
from captionless.paths import user_path


def setting(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    shown: str | None = None,
    example: Any = None,
    flag: str | None = None,
    metavar: str | None = None,
    **limits: Any,
) -> Any:
    """Define a setting of a ``Config`` with its default, valid range and help text.

    Args:
        default: default value; ``...`` makes the setting required.
        help: the effect in one or two sentences, for the command line, the documentation and ``help()``.
        panel: heading in the command line's help for this setting and the following ones.
        shown: the default in words, if it depends on other settings.
        example: value to suggest in error messages; by default the setting's default.
        flag: command-line flag, if it differs from the name; "" makes the setting a positional argument.
        metavar: placeholder for the value in the command line's help; by default the type.
        **limits: ``gt``, ``ge``, ``lt``, ``le``, ``multiple_of``, as in ``pydantic.Field``.
    """
    extra = {"panel": panel, "shown": shown, "example": example, "flag": flag, "metavar": metavar}
    return Field(default, description=help, json_schema_extra=extra, **limits)


class Config(BaseModel):
    """Settings that are validated on creation and immutable afterwards.

    Validators raise ``ValueError`` with a complete error message.

    Raises:
        CaptionlessError: a setting is unknown or its value is invalid; the message says what is valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        for name, field in type(self).model_fields.items():
            value = values.get(name)
            if Path in (field.annotation, *get_args(field.annotation)) and isinstance(value, str | Path):
                user_path(value)
                values[name] = type(value)(os.path.expanduser(value))  # not from `Path`, which would change a URL
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(type(self), values, error) from None

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some settings changed."""
        return type(self)(**(self.given() | changes))

    def given(self) -> dict[str, Any]:
        """Return the settings that were given explicitly, with their values."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _explain(config: type[Config], values: dict[str, Any], error: ValidationError) -> CaptionlessError:
    """Convert the first pydantic error to one that says which values are valid and suggests one."""
    complaint = error.errors()[0]
    name = str(complaint["loc"][0])
    value, code = values.get(name), "invalid_setting"
    if name not in config.model_fields:
        code, close = "unknown_setting", get_close_matches(name, config.model_fields, 1)
        hint = f"Did you mean `{close[0]}`?" if close else f"Choose from: {', '.join(config.model_fields)}."
        message = f"there is no setting `{name}`. {hint}"
    elif complaint["type"] == "value_error":
        message = str(complaint["ctx"]["error"])
    else:
        field = config.model_fields[name]
        message = f"`{name}` must be {field_range(field)}, not {(field_text(value) or repr(value))[:80]}."
        example = field_extra(field, "example") or (None if field.is_required() else field.default)
        step: Any = next((one.multiple_of for one in field.metadata if isinstance(one, MultipleOf)), None)
        if step and isinstance(value, int) and value > 0:
            example = max(1, round(value / step)) * step
        if not field_choices(field) and example is not None:
            message += f" Try `{name}={field_text(example)}`."
    return CaptionlessError(message, parameter=name, value=value, code=code)

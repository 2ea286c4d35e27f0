"""The base of all configs: frozen pydantic models whose errors say what is allowed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal, Self, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from captionless.errors import CaptionlessError


def setting(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    shown: str | None = None,
    example: Any = None,
    command_line: dict[str, Any] | None = None,
    **limits: Any,
) -> Any:
    """Define a setting of a ``Config``: the one place where it is described.

    Args:
        default: its value unless another is given; ``...`` if it must be given.
        help: one or two sentences about its effect, for the command line, the documentation and ``help()``.
        panel: heading that it stands under in the command line's help; None: among the main options.
        shown: the default in words, where it depends on something else.
        example: a sensible value for error messages; by default the default.
        command_line: what differs there: ``flag``, ``metavar``, ``argument=True`` for one without a flag.
        **limits: ``gt``, ``ge``, ``lt``, ``le``, ``multiple_of``, as in ``pydantic.Field``.
    """
    extra = {"panel": panel, "shown": shown, "example": example, **(command_line or {})}
    return Field(default, description=help, json_schema_extra=extra, **limits)


class Config(BaseModel):
    """Settings that are checked when they are given, and cannot change afterwards.

    Raises:
        CaptionlessError: an unknown setting or a value out of range; it names the setting and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(type(self), values, error) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed, checked like the original."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**(given | changes))

    def given(self) -> dict[str, Any]:
        """Return the settings that were given explicitly, with their values."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def as_options(self) -> dict[str, str]:
        """Return the non-default settings in command-line form, leaving out nested configs."""
        fields = type(self).model_fields.items()
        changed = {name: getattr(self, name) for name, field in fields if getattr(self, name) != field.default}
        return {name: written(value) for name, value in changed.items() if not isinstance(value, Config)}


def written(value: Any) -> str:
    """Return a value as it is written on the command line: several numbers separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _explain(config: type[Config], values: dict[str, Any], error: ValidationError) -> CaptionlessError:
    """Turn the first of pydantic's complaints into an error that names what is allowed and what to try."""
    name = str(error.errors()[0]["loc"][0])
    value = values[name]
    if name not in config.model_fields:
        close = get_close_matches(name, config.model_fields, 1)
        hint = f"Did you mean `{close[0]}`?" if close else f"Choose from: {', '.join(config.model_fields)}."
        return CaptionlessError(
            f"there is no setting `{name}`. {hint}", parameter=name, value=value, code="unknown_setting"
        )
    field = config.model_fields[name]
    hint = "" if choices(field) else _suggestion(name, field, value)
    message = f"`{name}` must be {allowed(field)}, not {written(value) or repr(value)}.{hint}"
    return CaptionlessError(message, parameter=name, value=value, code="invalid_setting")


def _suggestion(name: str, field: FieldInfo, value: Any) -> str:
    step = _limit(field, MultipleOf)
    example = about(field, "example") or field.default
    if step and isinstance(value, int) and value > 0:
        example = max(1, round(value / step)) * step
    return "" if example is None else f" Try `{name}={written(example)}`."


def about(field: FieldInfo, what: Literal["panel", "shown", "example", "flag", "metavar", "argument"]) -> Any:
    """Return the extra metadata passed to ``setting`` for a field, other than its help and limits."""
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra.get(what)


def plain_type(field: FieldInfo) -> Any:
    """Return the type of a field without the ``None`` that stands for "chosen automatically"."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    optional = type(None) in get_args(field.annotation)
    return kinds[0] if optional and len(kinds) == 1 else field.annotation


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the names that a field accepts; empty if it is not a choice among names."""
    kind = plain_type(field)
    return get_args(kind) if get_origin(kind) is Literal else ()


def allowed(field: FieldInfo) -> str:
    """Return the values that a field accepts, in words: "a whole number above 0 and a multiple of 16"."""
    kind = plain_type(field)
    if choices(field):
        return f"one of {', '.join(choices(field))}"
    if kind is bool:
        return "true or false"
    if isinstance(kind, type) and issubclass(kind, Config):
        return f"a {kind.__name__}"
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        if item is str:
            return "texts"
        many = "whole numbers" if item is int else "numbers"
        return f"{many} separated by commas" if ... in rest else f"{1 + len(rest)} {many} separated by a comma"
    if kind is not float and kind is not int:
        return " or ".join(map(_worded, get_args(kind))) if get_args(kind) else "text"
    name = "a whole number" if kind is int else "a number"
    ge, gt, le, lt = (_limit(field, limit) for limit in (Ge, Gt, Le, Lt))
    low = "from" if le is not None or lt is not None else "of at least"
    parts = [f"{low} {ge:,}" if ge is not None else "", f"above {gt:,}" if gt is not None else ""]
    parts += [f"to {le:,}" if ge is not None and le is not None else f"up to {le:,}" if le is not None else ""]
    parts += [f"up to but not including {lt:,}" if lt is not None else ""]
    step = _limit(field, MultipleOf)
    parts += [f"and a multiple of {step}" if step else ""]
    return " ".join([name, *filter(None, parts)])


def default_text(field: FieldInfo) -> str:
    """Return the default of a field in words."""
    if shown := about(field, "shown"):
        return str(shown)
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if isinstance(field.default, Config):
        return "its defaults"
    return written(field.default)


def _worded(kind: Any) -> str:
    """Return what one of several types of a field accepts."""
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return {int: "a whole number", float: "a number"}.get(kind, "text")


def _limit(field: FieldInfo, kind: type) -> Any:
    found = next((one for one in field.metadata if isinstance(one, kind)), None)
    return None if found is None else getattr(found, kind.__name__.lower() if kind is not MultipleOf else "multiple_of")

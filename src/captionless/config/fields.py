"""Describe the valid values and defaults of config fields in words."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

NUMBERS = {int: "an integer", float: "a number"}
LIMITS = {
    Ge: ("ge", "of at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
    MultipleOf: ("multiple_of", "a multiple of"),
}


def field_extra(field: FieldInfo, what: Literal["panel", "shown", "example", "flag", "metavar"]) -> Any:
    """Return one of the additional arguments that ``setting`` got for a field, such as ``panel``."""
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra[what]


def field_type(field: FieldInfo) -> Any:
    """Return the type of a field without ``None``, which means that the value is chosen automatically."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    optional = type(None) in get_args(field.annotation)
    return kinds[0] if optional and len(kinds) == 1 else field.annotation


def field_choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the names that a ``Literal`` field accepts, or an empty tuple for any other field."""
    kind = field_type(field)
    return get_args(kind) if get_origin(kind) is Literal else ()


def field_range(field: FieldInfo) -> str:
    """Return the valid values of a field in words, such as "an integer above 0 and a multiple of 16"."""
    kind = field_type(field)
    if field_choices(field):
        return f"one of {', '.join(field_choices(field))}"
    if kind is bool:
        return "true or false"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a {kind.__name__}"
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        many = {str: "texts", int: "integers separated by commas"}.get(item, "numbers separated by commas")
        return many if ... in rest else f"{1 + len(rest)} {many}"
    if kind not in NUMBERS:
        words = [
            " or ".join(get_args(one)) or NUMBERS.get(one, "text") for one in get_args(kind) if one is not type(None)
        ]
        return " or ".join(dict.fromkeys(words)) or "text"
    limits = [(*LIMITS[type(limit)], limit) for limit in field.metadata if type(limit) in LIMITS]
    parts = [f"{words} {getattr(limit, name):,}" for name, words, limit in limits]
    *first, last = parts or [""]
    limited = f"{', '.join(first)} and {last}" if first else last
    return f"{NUMBERS[kind]} {limited}".rstrip()


def field_default(field: FieldInfo) -> str:
    """Return the default of a field in words."""
    if shown := field_extra(field, "shown"):
        return str(shown)
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if field.default is None or field.default == ():
        return "none"
    return "its defaults" if isinstance(field.default, BaseModel) else field_text(field.default)


def field_text(value: Any) -> str:
    """Format a value as on the command line: a tuple as numbers separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

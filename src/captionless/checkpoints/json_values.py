"""Values of a JSON file, held to the types that our dataclasses declare."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar, get_args, get_type_hints

Built = TypeVar("Built")
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}


def build(kind: type[Built], where: str, values: Any) -> Built:
    """Make a dataclass of what JSON holds, each value of the type that its field declares.

    Args:
        kind: the dataclass.
        where: what messages call it.
        values: a dict.

    Raises:
        ValueError: a value is of another type, or its name is unknown.
    """
    types = get_type_hints(kind)
    values = typed(where, values, dict)
    unknown = set(values) - set(types)
    if unknown:
        raise ValueError(f"{where}.{min(unknown)} is not known")
    return kind(**{name: typed(f"{where}.{name}", value, types[name]) for name, value in values.items()})


def typed(where: str, value: Any, kind: Any) -> Any:
    """Return ``value`` if it is of the type ``kind``; a list becomes a tuple."""
    if kind in (tuple[int, ...], tuple[str, ...]):
        item_kind = get_args(kind)[0]
        return tuple(typed(f"{where}[{i}]", item, item_kind) for i, item in enumerate(typed(where, value, list)))
    kinds = (int, float) if kind is float else kind
    # To Python, true is a whole number and NaN a number; here they are mistakes.
    if (
        not isinstance(value, kinds)
        or isinstance(value, bool) != (kind is bool)
        or (kind is float and not math.isfinite(value))
    ):
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {json.dumps(value)[:60]}")
    return value

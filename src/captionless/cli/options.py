"""Build commands from configs: every setting becomes an option with the setting's help text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from captionless.cli.console import FLAGS, with_flags
from captionless.config.base import Config
from captionless.config.fields import field_choices, field_default, field_extra, field_type

_TAG = re.compile(r"\[[a-z#/@]")
"""What the help would read as markup, as in ``rich.markup.escape``, which takes long to import."""


def add_command(app: typer.Typer, function: Callable[..., None]) -> dict[str, str]:
    """Add a command that calls a function whose parameters are configs; each of their settings becomes an option.

    If two configs have a setting of the same name, the option belongs to the first.

    Returns:
        The flag of each setting.
    """
    configs: dict[str, type[Config]] = {k: v for k, v in get_type_hints(function).items() if k != "return"}
    fields: dict[str, FieldInfo] = {}
    owners: dict[str, str] = {}
    panels: dict[str, str | None] = {}
    for parameter, config in configs.items():
        panel = None
        for name, field in config.model_fields.items():
            panel = field_extra(field, "panel") or panel
            if name not in fields and not isinstance(field.default, Config):
                fields[name], owners[name], panels[name] = field, parameter, panel

    def command(**given: Any) -> None:
        values: dict[str, dict[str, Any]] = {parameter: {} for parameter in configs}
        for name, value in given.items():
            if value is not None and value != []:
                values[owners[name]][name] = _parsed(fields[name], value)
        FLAGS.update(flags)  # another command may name a setting differently
        function(**{parameter: config(**values[parameter]) for parameter, config in configs.items()})

    flags = {name: spelled for name, field in fields.items() if (spelled := flag(name, field))}
    parameters = [_parameter(name, field, panels[name], flags) for name, field in fields.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = function.__doc__
    app.command(function.__name__)(command)
    FLAGS.update(flags)
    return flags


def flag(name: str, field: FieldInfo) -> str:
    """Return the flag of a setting; a switch that is on by default, or may be, becomes ``--name/--no-name``."""
    own: str | None = field_extra(field, "flag")
    spelled = "--" + name.replace("_", "-") if own is None else own
    on = field.default is True or (field_type(field) is bool and field_extra(field, "shown"))
    return f"{spelled}/--no-{spelled[2:]}" if on else spelled


def _parameter(name: str, field: FieldInfo, panel: str | None, flags: dict[str, str]) -> inspect.Parameter:
    text = field.description or ""
    if len(field_choices(field)) > 1:
        text += f" One of {', '.join(field_choices(field))}."
    flags = FLAGS | flags  # a help may name the setting of another command
    text = _TAG.sub(r"\\\g<0>", with_flags(text, flags))
    if field_extra(field, "shown") or field.default not in (None, False, (), PydanticUndefined):
        text += f" [dim]\\[default: {with_flags(field_default(field), flags)}][/dim]"
    more: dict[str, Any] = {"help": text, "rich_help_panel": panel and with_flags(panel, flags), "show_default": False}
    more["metavar"] = field_extra(field, "metavar") or _metavar(field_type(field))
    option: Any = typer.Option(own, **more) if (own := flag(name, field)) else typer.Argument(**more)
    # Options are passed as text; the config converts them to numbers and reports invalid values.
    kind: Any = list[str] if field_type(field) == tuple[str, ...] else field_type(field)
    kind, required = kind if kind in (bool, Path, list[str]) else str, field.is_required()
    annotation: Any = Annotated[kind if required else kind | None, option]
    default = inspect.Parameter.empty if required else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _metavar(kind: Any) -> str:
    """Return the placeholder of a value in the help; empty for a switch."""
    if get_origin(kind) is tuple and kind != tuple[str, ...]:
        return "N,N,…" if ... in get_args(kind) else "N,N"
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(kind, "" if kind is bool else "TEXT")


def _parsed(field: FieldInfo, value: Any) -> Any:
    if get_origin(field_type(field)) is tuple and isinstance(value, str):
        return () if value == "none" else tuple(value.split(","))
    return tuple(value) if isinstance(value, list) else value

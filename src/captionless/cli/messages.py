"""Turns the parameters that error messages name into the options of the command line."""

from __future__ import annotations

import re

from typer.core import TyperGroup

_NAMED = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")


def with_flags(message: str, commands: TyperGroup) -> str:
    """Return a message with each parameter in backticks, such as `` `hold_out=0.1` ``, as an option with its value."""
    options = {
        param.name: [*param.opts, *param.secondary_opts]
        for command in commands.commands.values()
        for param in command.params
    }

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in options or not options[name][0].startswith("-"):
            return found.group()
        on, *off = options[name]
        if value in ("True", "False"):
            return off[0] if off and value == "False" else on
        return f"{on} {value}" if value else on

    return _NAMED.sub(spelled, message)

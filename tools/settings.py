"""Write what follows from the settings: ``captionless/config/keyword_types.py`` and ``docs/settings.md``.

python tools/settings.py          write both
python tools/settings.py --check  say whether they are as they would be written
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from captionless.config.evaluation import ClassifierConfig, EvaluationConfig
from captionless.config.fields import field_default, field_range
from captionless.config.sampling import SamplingConfig
from captionless.config.train_request import TrainRequest
from captionless.config.training import TrainConfig

ROOT = Path(__file__).parents[1]
OPTIONS = {
    "TrainKeywords": (TrainRequest, TrainConfig),
    "SamplingKeywords": (SamplingConfig,),
    "EvaluationKeywords": (EvaluationConfig,),
}
TITLES = {
    "Training: what and where": TrainRequest,
    "Training": TrainConfig,
    "Sampling": SamplingConfig,
    "Evaluation": EvaluationConfig,
    "Reference classifier of an evaluation": ClassifierConfig,
}


def spelled(kind: Any) -> str:
    """Return a type as it is written in source code, for what Python callers may pass."""
    if get_origin(kind) is Literal:
        return "Literal[" + ", ".join(f'"{name}"' for name in get_args(kind)) + "]"
    if isinstance(kind, UnionType) or (get_origin(kind) is not None and NoneType in get_args(kind)):
        return " | ".join(dict.fromkeys(" | ".join(spelled(one) for one in get_args(kind)).split(" | ")))
    if kind == tuple[str, ...]:
        return "Sequence[str]"
    if get_origin(kind) is tuple:
        return f"tuple[{', '.join('...' if one is ... else spelled(one) for one in get_args(kind))}]"
    return {NoneType: "None", Path: "str | Path"}.get(kind, kind.__name__)


def keyword_types() -> str:
    """Return the module of typed keywords."""
    lines = [
        '"""The settings as typed keywords for editors and type checkers; written by tools/settings.py."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Sequence",
        "from pathlib import Path",
        "from typing import TYPE_CHECKING, Literal, TypedDict",
        "",
        "if TYPE_CHECKING:",
        "    from captionless.config.evaluation import ClassifierConfig",
    ]
    for name, configs in OPTIONS.items():
        fields = [one for config in configs for one in config.model_fields.items()]
        lines += ["", "", f"class {name}(TypedDict, total=False):"]
        lines += [f'    """The fields of ``{"`` and ``".join(config.__name__ for config in configs)}``."""', ""]
        lines += [f"    {field}: {spelled(info.annotation)}" for field, info in fields if not info.is_required()]
    lines += ["", "", "class EvaluateKeywords(EvaluationKeywords, SamplingKeywords, total=False):"]
    lines += ['    """The settings of ``captionless.evaluate``."""']
    return "\n".join(lines) + "\n"


def tables() -> str:
    """Return the page of the settings."""
    lines = ["# Settings", "", "<!-- Written by tools/settings.py; do not edit. -->", ""]
    lines += [
        "Each is a keyword in Python and an option on the command line: `hold_out=0.1` is `--hold-out 0.1` "
        "(`start_from` is `--from`).",
    ]
    for title, config in TITLES.items():
        lines += ["", f"## {title}", "", "| setting | default | allowed | effect |", "|---|---|---|---|"]
        for field, info in config.model_fields.items():
            lines.append(f"| `{field}` | {field_default(info)} | {field_range(info)} | {info.description} |")
    return "\n".join(lines) + "\n"


WRITTEN = {ROOT / "src/captionless/config/keyword_types.py": keyword_types, ROOT / "docs/settings.md": tables}


def main() -> None:
    """Write the files, or check them."""
    stale = [path for path, make in WRITTEN.items() if not path.exists() or path.read_text("utf-8") != make()]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(map(str, stale))}; run python tools/settings.py" if stale else 0)
    for path in stale:
        path.write_text(WRITTEN[path](), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Export a model: choose the function of the target, let it write a folder, and upload the folder if asked to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captionless.config.export import ExportRequest, Target
from captionless.errors import CaptionlessError
from captionless.exports.hub import export_hub
from captionless.exports.onnx import export_onnx
from captionless.exports.push import check_push, push
from captionless.exports.web import export_web
from captionless.files import atomic_folder
from captionless.generation.generator import Generator, load
from captionless.paths import is_vacant
from captionless.progress import Progress, choose_progress

Export = Callable[[Generator, ExportRequest, Path, Progress], None]
"""Writes the files of a target into an empty folder, which is renamed to ``request.out`` when they are complete."""


def _export_diffusers(generator: Generator, request: ExportRequest, folder: Path, progress: Progress) -> None:
    from captionless.exports.diffusers import export_diffusers  # needs diffusers, and registers a pipeline there

    export_diffusers(generator, request, folder, progress)


TARGETS: dict[Target, Export] = {
    "hub": export_hub,
    "diffusers": _export_diffusers,
    "onnx": export_onnx,
    "web": export_web,
}


def export(
    model: str | Path,
    to: Target,
    out: str | Path | None = None,
    *,
    progress: Progress | bool | None = None,
    **options: Any,
) -> list[str]:
    """Write a model in a form that other programs or places expect, and upload it if asked to.

    Args:
        model: a model folder, ``bundled``, or ``user/repo`` on the Hugging Face Hub.
        to: the form.
        out: the folder to write, which must be missing or empty; not needed with ``push``.
        progress: whether to show progress; see `captionless.train`.
        **options: other fields of ``captionless.config.export.ExportRequest``.

    Returns:
        Where it is now: the folder, and the address of the repository.

    Raises:
        CaptionlessError: the model cannot be loaded or exported in this form, a package is missing, the folder exists
            and is not empty, or the upload fails.
    """
    request = ExportRequest(model=str(model), to=to, out=None if out is None else Path(out), **options)
    if request.push is not None:
        check_push(request.push)
    elif request.out is None:
        raise CaptionlessError("there is no place to write to. Pass `out=FOLDER`.", parameter="out")
    with _folder(request.out) as folder:
        try:
            generator = load(request.model)
            _check_spaces(generator, request)
            TARGETS[request.to](generator, request, folder, choose_progress(progress))
        except ModuleNotFoundError as error:
            raise CaptionlessError(
                f"the export to {request.to} needs a package that is not installed ({error.name}). Install it in a "
                f"clone of captionless: pip install -c constraints.txt '.[{request.to}]'"
            ) from error
        if request.out is None:
            return [push(folder, request)]
    return [str(request.out)] + ([push(request.out, request)] if request.push else [])


def _check_spaces(generator: Generator, request: ExportRequest) -> None:
    if request.to != "hub" and any(stage.config.autoencoder for stage in generator.stages):
        raise CaptionlessError(
            f"the export to {request.to} has no place for the autoencoder of {request.model}. Choose `to=hub`; "
            "`captionless serve` and `captionless generate` run the model.",
            parameter="to",
            value=request.to,
            code="contradicts_model",
        )


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Yield an empty folder, which becomes ``out``, or is removed if there is no ``out``."""
    if out is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    if not is_vacant(out):
        raise CaptionlessError(
            f"`out={out}` exists, and nothing is overwritten. Choose another folder, or move it away.",
            parameter="out",
            value=out,
            code="folder_in_use",
        )
    with atomic_folder(out) as temporary:
        yield temporary

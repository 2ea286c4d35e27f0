"""`captionless generate`: words in, pictures out."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from captionless.cli.console import bar, remarks, say
from captionless.errors import CaptionlessError
from captionless.sampling import SAMPLERS, Sampling

DEFAULTS = Sampling()


def generate(
    words: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to paint.")] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts, one a line; - reads standard input.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model folder, or 'bundled', the flower model.")] = "bundled",
    encoder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the model's own encoder lies now, if it has moved.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Pictures a prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Picture i of a prompt (from 0) uses seed + i.")] = 0,
    guidance: Annotated[
        float,
        typer.Option(help="w of (1+w)·cond − w·uncond: 0 is none; more follows the words closer and varies less."),
    ] = DEFAULTS.guidance,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = DEFAULTS.steps,
    sampler: Annotated[str, typer.Option(help=f"One of: {', '.join(SAMPLERS)}.")] = DEFAULTS.sampler,
    bridge: Annotated[
        str,
        typer.Option(help="From text vector to condition: 'nearest' (mean of the nearest training vectors) or 'none'."),
    ] = DEFAULTS.bridge,
    precision: Annotated[
        str,
        typer.Option(
            help="float32 or bf16; auto takes bf16 where the processor computes it itself "
            "(without, it is many times slower), else float32."
        ),
    ] = DEFAULTS.precision,
    batch: Annotated[
        int, typer.Option(help="Pictures computed together; changes memory, not pictures.")
    ] = DEFAULTS.batch,
    out: Annotated[Path, typer.Option(help="Folder to write into; existing files are never overwritten.")] = Path(),
) -> None:
    """Paint pictures from words; the paths are printed.

    Writes numbered PNGs (which remember prompt, seed and settings), a contact sheet and manifest.jsonl.
    """
    sampling = Sampling(guidance, steps, sampler, bridge, precision, batch)
    texts = all_prompts(words or [], prompts)

    import captionless
    from captionless.gallery import Gallery, Painted, sheet_limit
    from captionless.generator import check_request
    from captionless.precision import resolve_precision

    check_request(texts, n, seed)
    gallery = Gallery(out)
    generator = captionless.load(model, encoder)
    sampling = replace(sampling, precision=resolve_precision(sampling.precision, generator.device))
    facts = {**asdict(sampling), "model": model}
    total, done = len(texts) * n, 0
    shown: list[Painted] = []
    with bar() as progress, remarks():
        task = progress.add_task("Painting", total=total)
        # What is painted is written at once, and not lost on a crash.
        for images in generator.stream(texts, n, seed, sampling):
            fresh = [
                Painted(image, {"prompt": texts[i // n], "seed": seed + i % n, **facts})
                for i, image in enumerate(images, done)
            ]
            for path in gallery.add(fresh):
                print(path)
            done += len(fresh)
            shown += fresh[: sheet_limit(n) - len(shown)]
            progress.update(task, completed=done)
    sheet = gallery.add_sheet(shown, n)
    say(f"Contact sheet: {sheet}" + (f" (the first {len(shown):,} of {total:,} pictures)" if done > len(shown) else ""))


def all_prompts(words: list[str], file: Path | None) -> list[str]:
    """Return the prompts given as words and those in a file, blank lines left out.

    Raises:
        CaptionlessError: there is none, or the file cannot be read.
    """
    texts = list(words)
    if file is not None:
        texts += [line.strip() for line in _read(file).splitlines() if line.strip()]
    if not texts:
        where = f"{file} holds no prompt" if file else "no prompt given"
        raise CaptionlessError(f'{where}. Say what to paint, such as: captionless generate "a red rose".')
    return texts


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CaptionlessError(
            f"cannot read --prompts {file}: {error.strerror}. Name a text file, one prompt a line."
        ) from error
    except UnicodeDecodeError as error:
        raise CaptionlessError(f"--prompts {file} is not UTF-8 text. Save it as UTF-8, one prompt a line.") from error

"""Find the files of an encoder: bundled, in a folder, in the local hub cache, or on the Hugging Face Hub.

Only safetensors weights are fetched or read, and no code from a repository is run.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captionless.errors import CaptionlessError
from captionless.progress import Progress, Silent

BUNDLED = "bundled"
"""The name of the encoder that ships inside the package."""
BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled" / "encoder"
CLIP = "openai/clip-vit-base-patch32"
"""The encoder that ``auto`` uses for images outside the domain of the bundled one (512 features)."""
# The main branch of this repository has pickled weights only; this commit holds the same tensors as safetensors.
PINNED = {CLIP: "c237dc49a33fc61debc9276459120b7eac67e7ef"}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS, _WEIGHTS_INDEX, _SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"
_TOKENIZER_RULES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_FILES = [_CONFIG, _TOKENIZER, *_TOKENIZER_RULES, *_PREPROCESSING, _WEIGHTS, _WEIGHTS_INDEX, _SHARDS]


@dataclass(frozen=True)
class ModelKind:
    """Requirements on a model's folder, and wording for messages about the model."""

    noun: str
    parameter: str  # that names it
    needs: tuple[tuple[str, ...], ...]  # groups of file names: config, weights and one file of each group are needed
    advice: str  # what to provide, one sentence


ENCODER = ModelKind(
    "encoder",
    "encoder",
    ((_TOKENIZER,), _PREPROCESSING),
    f"Use a transformers dual encoder (CLIP, SigLIP, ...) by its hub id, such as {CLIP}, or a folder that holds its "
    "files (`encoder=FOLDER`), or the small encoder for flowers that ships with captionless (`encoder=bundled`).",
)
IMAGE_MODEL = ModelKind(
    "image model",
    "features",
    (_PREPROCESSING,),
    "Use a transformers image model, such as facebook/dinov2-small, or a folder that holds one (`features=FOLDER`), or "
    "leave `features` out.",
)


def find_encoder_folder(
    name: str, kind: ModelKind = ENCODER, progress: Progress | None = None, *, timeout: float = 5.0
) -> Path:
    """Return the folder of a model, and download it from the hub if it is nowhere else.

    Args:
        name: ``"bundled"``, a folder, or a hub id such as ``"openai/clip-vit-base-patch32"``.
        kind: what the folder must contain.
        progress: receives one line with the size before a download.
        timeout: seconds to wait for an answer of the hub.

    Raises:
        CaptionlessError: there is no such folder or model, it is incomplete, or the hub cannot be reached.
    """
    folder = BUNDLED_FOLDER if name == BUNDLED else Path(os.path.expanduser(name))
    # os.path returns False for names that no file can have, where pathlib raises.
    if name.strip() and os.path.exists(folder):
        if not folder.is_dir():
            raise CaptionlessError(f"the {kind.noun} {name} is a file, not a folder. {kind.advice}")
        if missing := _missing(folder, kind):
            raise CaptionlessError(f"the {kind.noun} {name} is incomplete: there is no {missing} in it. {kind.advice}")
        return folder.absolute()
    if not _HUB_ID.fullmatch(name):
        raise CaptionlessError(f"there is no {kind.noun} {name!r}: it is neither a folder nor a hub id. {kind.advice}")
    return _cached(name, kind) or _download(name, kind, progress or Silent(), timeout)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder: one, the shards named by its index, or none.

    Raises:
        CaptionlessError: the index is damaged.
    """
    index = folder / _WEIGHTS_INDEX
    if (folder / _WEIGHTS).is_file() or not index.is_file():
        return [path for path in (folder / _WEIGHTS,) if path.is_file()]
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CaptionlessError(f"{index} is damaged. Download the encoder again or use another.") from error
    return [folder / Path(shard).name for shard in sorted(set(shards))]


@contextmanager
def hub_errors(name: str, kind: ModelKind) -> Iterator[None]:
    """Silence the hub's library but for its progress bars, and convert its exceptions into a `CaptionlessError`."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with quiet_hub(bars=sys.stderr.isatty()):
            yield
    except CaptionlessError:
        raise
    except RepositoryNotFoundError as error:  # a gated one, too
        raise CaptionlessError(
            f"there is no {kind.noun} {name}: neither a folder here nor a public model on the Hugging Face Hub. Check "
            f"the spelling; for a private or gated model, run `hf auth login` first. {kind.advice}",
            parameter=kind.parameter,
            value=name,
            code="model_not_found",
        ) from error
    except Exception as error:  # refused, timed out, offline mode, disk full: each library below has its own
        lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines() or ["no answer"]
        offline = isinstance(error, LocalEntryNotFoundError | ConnectionError)
        raise CaptionlessError(
            f"there is no folder {name}, and the {kind.noun} of that name cannot be downloaded from the Hugging Face "
            f"Hub ({'no connection' if offline else lines[0].rstrip('.')}). {kind.advice}",
            parameter=kind.parameter,
            value=name,
            code="hub_unreachable",
        ) from error


@contextmanager
def quiet_hub(bars: bool = False) -> Iterator[None]:
    """Silence the advice, load reports and (unless ``bars``) progress bars of transformers and the hub."""
    from transformers.utils import logging as transformers_logging

    disabled, had_bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    if not bars:
        transformers_logging.disable_progress_bar()  # the hub's bars too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _missing(folder: Path, kind: ModelKind) -> str | None:
    """Return the first file that the folder lacks; None if it is complete.

    Checked here because transformers invents a tokenizer of three words if there is none.
    """
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    weights = weight_files(folder)
    if not weights:
        return f"{_WEIGHTS} (no other weights are read)"
    absent = [file.name for file in weights if not file.is_file()]
    absent += [names[0] for names in kind.needs if not any((folder / name).is_file() for name in names)]
    return absent[0] if absent else None


def _cached(name: str, kind: ModelKind) -> Path | None:
    """Return the folder of a model in the local hub cache, if it is complete; without network."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, _CONFIG, revision=PINNED.get(name))
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder and not _missing(folder, kind) else None


def _download(name: str, kind: ModelKind, progress: Progress, timeout: float) -> Path:
    import huggingface_hub as hub

    revision = PINNED.get(name)
    with hub_errors(name, kind):
        # snapshot_download has no time limit for the question which files there are; this call has.
        info = hub.HfApi().model_info(name, revision=revision, timeout=timeout)
        if not {_WEIGHTS, _WEIGHTS_INDEX} & {file.rfilename for file in info.siblings or ()}:
            raise CaptionlessError(
                f"{name} has no safetensors weights on the model hub, and no others are read (pickles can run code). "
                f"{kind.advice}"
            )
        fetch: Callable[..., Any] = functools.partial(
            hub.snapshot_download, name, revision=revision, allow_patterns=_FILES, etag_timeout=timeout
        )
        size = sum(file.file_size or 0 for file in fetch(dry_run=True) if file.will_download)
        progress.say(
            f"Downloading the {kind.noun} {name}: {size / 1e6:.0f} MB, kept for the next time in "
            f"{hub.constants.HF_HUB_CACHE}"
        )
        return Path(fetch())

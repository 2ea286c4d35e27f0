"""Find the files of an encoder: bundled, in a folder, in the local hub cache, or on the Hugging Face Hub.

Only safetensors weights are downloaded or read, and no code from a repository is run.
"""

from __future__ import annotations

import functools
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
from captionless.paths import kind_of, user_path
from captionless.progress import Progress, Silent
from captionless.text_files import read_json

BUNDLED = "bundled"
"""Name of the encoder that ships with the package."""
BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled" / "encoder"
CLIP = "openai/clip-vit-base-patch32"
"""Encoder that ``auto`` selects for images outside the domain of the bundled encoder (512 features)."""
NAME_ENCODER = "captionless_names"
"""Model type in the ``config.json`` of an encoder that was learned from names."""
# The main branch of this repository contains only pickled weights; this commit has the same tensors as safetensors.
PINNED = {CLIP: "c237dc49a33fc61debc9276459120b7eac67e7ef"}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = "model.safetensors"
_TOKENIZER_RULES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_FILES = [_CONFIG, _TOKENIZER, *_TOKENIZER_RULES, *_PREPROCESSING]


@dataclass(frozen=True)
class ModelKind:
    """The required files of a kind of model, and the wording of messages about it."""

    noun: str
    parameter: str  # name of the parameter that selects the model
    needs: tuple[tuple[str, ...], ...]  # groups of file names; one file of each is required besides config and weights
    advice: str  # one sentence on which models can be used
    weights: str = _WEIGHTS  # name of the file of weights
    beside: tuple[str, ...] = ()  # other files to download

    @property
    def weight_files(self) -> tuple[str, str, str]:
        """The names of the file of weights or, if they are divided, of their index and of the parts."""
        parts = self.weights.replace(".", "-*-of-*.", 1)
        return self.weights, f"{self.weights}.index.json", parts


ENCODER = ModelKind(
    "encoder",
    "encoder",
    ((_TOKENIZER,), _PREPROCESSING),
    f"Use the hub id of a transformers dual encoder (CLIP, SigLIP, ...), such as {CLIP}, a local folder with its files "
    "(`encoder=FOLDER`; `captionless encoder` learns one from names), or the small encoder for flowers that ships with "
    "captionless (`encoder=bundled`).",
)
IMAGE_MODEL = ModelKind(
    "image model",
    "features",
    (_PREPROCESSING,),
    "Use the hub id of a transformers image model, such as facebook/dinov2-small, or a local folder with its files "
    "(`features=FOLDER`), or omit `features`.",
)


def find_encoder_folder(
    name: str, kind: ModelKind = ENCODER, progress: Progress | None = None, *, timeout: float = 5.0
) -> Path:
    """Return the folder of a model; download the model from the hub if it is not available locally.

    Args:
        name: ``"bundled"``, a folder, or a hub id such as ``"openai/clip-vit-base-patch32"``.
        kind: the kind of model, which determines the required files.
        progress: receives a message with the download size before a download.
        timeout: seconds to wait for a response from the hub.

    Raises:
        CaptionlessError: the folder or model does not exist or is incomplete, or the hub cannot be reached.
    """
    folder = BUNDLED_FOLDER if name == BUNDLED else user_path(name)
    if name.strip() and os.path.exists(folder):
        if not folder.is_dir():
            raise CaptionlessError(f"the {kind.noun} {name} is {kind_of(folder)}, not a folder. {kind.advice}")
        if missing := _missing(folder, kind):
            raise CaptionlessError(f"the {kind.noun} {name} is incomplete: it has no {missing}. {kind.advice}")
        return folder.resolve()
    if not _HUB_ID.fullmatch(name):
        raise CaptionlessError(f"there is no {kind.noun} {name!r}: it is neither a folder nor a hub id. {kind.advice}")
    return cached_folder(name, kind) or _download(name, kind, progress or Silent(), timeout)


def is_name_encoder(folder: Path) -> bool:
    """Return whether the encoder in this folder was learned from names, by ``captionless.encoders.learning``."""
    try:
        config = read_json(folder / _CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == NAME_ENCODER


def weight_files(folder: Path, kind: ModelKind = ENCODER) -> list[Path]:
    """List the safetensors files of a model folder: a single file, the shards listed in its index, or no files.

    Raises:
        CaptionlessError: the index is damaged.
    """
    whole, index = (folder / name for name in kind.weight_files[:2])
    if whole.is_file() or not index.is_file():
        return [path for path in (whole,) if path.is_file()]
    try:
        shards = sorted({Path(shard).name for shard in read_json(index)["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CaptionlessError(
            f"{index} is damaged. Download the {kind.noun} again or use another {kind.noun}."
        ) from error
    return [folder / shard for shard in shards]


@contextmanager
def hub_errors(name: str, kind: ModelKind) -> Iterator[None]:
    """Silence the hub library except for progress bars, and convert its exceptions into a `CaptionlessError`.

    No code of our own belongs inside: its bugs would pass for failures of the hub.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with quiet_hub(bars=sys.stderr.isatty()):
            yield
    except CaptionlessError:
        raise
    except RepositoryNotFoundError as error:  # also raised for gated models
        raise CaptionlessError(
            f"there is no {kind.noun} {name}: neither a local folder nor a public model on the Hugging Face Hub. Check "
            f"the spelling; for a private or gated model, run `hf auth login` first. {kind.advice}",
            parameter=kind.parameter,
            value=name,
            code="model_not_found",
        ) from error
    except Exception as error:  # refused, timed out, offline, disk full: each library has its own exceptions
        lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines() or ["no response"]
        offline = isinstance(error, LocalEntryNotFoundError | ConnectionError)
        raise CaptionlessError(
            f"there is no folder {name}, and the {kind.noun} with this name cannot be downloaded from the Hugging Face "
            f"Hub ({'no connection' if offline else lines[0].rstrip('.')}). Try again once the Hub can be "
            f"reached. {kind.advice}",
            parameter=kind.parameter,
            value=name,
            code="hub_unreachable",
        ) from error


@contextmanager
def quiet_hub(bars: bool = False) -> Iterator[None]:
    """Silence the log messages, warnings and (unless ``bars``) progress bars of transformers and the hub library."""
    from transformers.utils import logging as transformers_logging

    disabled, had_bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.CRITICAL)
    if not bars:
        transformers_logging.disable_progress_bar()  # also disables the hub's bars
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _missing(folder: Path, kind: ModelKind) -> str | None:
    """Return the first missing file of a model folder; None if the folder is complete.

    transformers does not check this: without tokenizer files it silently creates a tokenizer of three words.
    """
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    weights = weight_files(folder, kind)
    if not weights:
        return f"{kind.weights} (other weight formats are not supported)"
    absent = [file.name for file in weights if not file.is_file()]
    absent += [names[0] for names in kind.needs if not any((folder / name).is_file() for name in names)]
    return absent[0] if absent else None


def cached_folder(name: str, kind: ModelKind = ENCODER) -> Path | None:
    """Return the folder of a model in the local hub cache, without network access; None if it is incomplete."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, _CONFIG, revision=PINNED.get(name))
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder and not _missing(folder, kind) else None


def _download(name: str, kind: ModelKind, progress: Progress, timeout: float) -> Path:
    import huggingface_hub as hub

    revision = PINNED.get(name)
    with hub_errors(name, kind):
        # snapshot_download has no timeout for listing the files of a repository; this call has one.
        info = hub.HfApi().model_info(name, revision=revision, timeout=timeout)
    if not {*kind.weight_files} & {file.rfilename for file in info.siblings or ()}:
        raise CaptionlessError(
            f"{name} has no safetensors weights on the model hub, and other weight formats are not supported (pickles "
            f"can run code). {kind.advice}"
        )
    fetch: Callable[..., Any] = functools.partial(
        hub.snapshot_download,
        name,
        revision=revision,
        allow_patterns=[*_FILES, *kind.weight_files, *kind.beside],
        etag_timeout=timeout,
    )
    with hub_errors(name, kind):
        planned = fetch(dry_run=True)
    size = sum(file.file_size or 0 for file in planned if file.will_download)
    progress.say(f"Downloading the {kind.noun} {name} ({size / 1e6:.0f} MB) to the cache {hub.constants.HF_HUB_CACHE}")
    with hub_errors(name, kind):
        return Path(fetch())

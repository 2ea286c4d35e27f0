"""Find the files of an encoder: bundled, in a folder, in the local hub cache, or on the model hub.

Only safetensors weights are fetched or read, and no code from a repository is run.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionless.errors import CaptionlessError
from captionless.progress import Progress, Silent

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BUNDLED = "bundled"
"""The name of the encoder that ships inside the package."""
BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled" / "encoder"
CLIP = "openai/clip-vit-base-patch32"
"""The encoder that ``auto`` uses for images outside the domain of the bundled one (512 features)."""
# The main branch of this repository has pickled weights only; this commit holds the same tensors as safetensors.
PINNED = {CLIP: "c237dc49a33fc61debc9276459120b7eac67e7ef"}
_KNOWN_SIZES = {CLIP: 605_000_000}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""Vocabulary files of tokenizers that have no ``tokenizer.json``."""
_TOKENIZER = ("tokenizer.json", *(name for name in VOCABULARIES if name != "merges.txt"))
_TOKENIZER_RULES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SMALL_FILES = {_CONFIG, *_PREPROCESSING, *_TOKENIZER, *VOCABULARIES, *_TOKENIZER_RULES}


@dataclass(frozen=True)
class ModelKind:
    """Requirements on a model's folder, and wording for messages about the model.

    Args:
        noun: the word for it in messages.
        parameter: the parameter that names it.
        needs: groups of file names; the folder must contain config, weights and one file from each group.
        expected: a sentence that describes what to provide.
        instead: an alternative if it is unavailable.
    """

    noun: str
    parameter: str
    needs: tuple[tuple[str, ...], ...]
    expected: str
    instead: str


ENCODER = ModelKind(
    "encoder",
    "encoder",
    (_TOKENIZER, _PREPROCESSING),
    "Give a folder with config.json, model.safetensors, a tokenizer and preprocessor_config.json of a transformers "
    "dual encoder (CLIP, SigLIP, ...).",
    "use the small encoder for flowers that ships with captionless (`encoder=bundled`)",
)
IMAGE_MODEL = ModelKind(
    "image model",
    "features",
    (_PREPROCESSING,),
    "Use a transformers image model, such as facebook/dinov2-small, or a folder that holds one.",
    "leave `features` out",
)


def find_model(name: str, kind: ModelKind = ENCODER, progress: Progress | None = None, *, timeout: float = 5.0) -> Path:
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
    if name == BUNDLED or (name.strip() and os.path.exists(folder)):
        if not folder.is_dir():
            raise CaptionlessError(f"the {kind.noun} {name} is a file, not a folder. {kind.expected}")
        if missing := _missing(folder, kind):
            raise CaptionlessError(
                f"the {kind.noun} {name} is incomplete: there is no {missing} in it. {kind.expected}"
            )
        return folder.absolute()
    if not _HUB_ID.fullmatch(name):
        raise CaptionlessError(
            f"there is no {kind.noun} {name!r}: it is neither a folder nor a hub id. Use auto, bundled, an existing "
            f"folder, or a hub id such as {CLIP}."
        )
    return _cached(name, kind) or _download(name, kind, progress or Silent(), timeout)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder: one, the shards named by its index, or none.

    Raises:
        CaptionlessError: the index is damaged.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _WEIGHTS_INDEX).is_file():
        return []
    try:
        shards = json.loads((folder / _WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CaptionlessError(
            f"{folder / _WEIGHTS_INDEX} is damaged. Download the encoder again or use another."
        ) from error
    return [folder / Path(shard).name for shard in sorted(set(shards))]


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """Silence the advice, load reports and (unless ``bars``) progress bars of transformers and the hub."""
    from logging import CRITICAL

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    levels = logging.get_verbosity(), hub_logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    hub_logging.set_verbosity(CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not bars:
            logging.disable_progress_bar()  # the hub's bars too
        try:
            yield
        finally:
            logging.set_verbosity(levels[0])
            hub_logging.set_verbosity(levels[1])
            if had_bars and not bars:
                logging.enable_progress_bar()


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


def _revisions(name: str) -> list[str]:
    return [*filter(None, [PINNED.get(name)]), "main"]


def _cached(name: str, kind: ModelKind) -> Path | None:
    """Return the folder of a model in the local hub cache, if it is complete; without network."""
    from huggingface_hub import try_to_load_from_cache

    for revision in _revisions(name):
        config = try_to_load_from_cache(name, _CONFIG, revision=revision)
        if isinstance(config, str) and not _missing(Path(config).parent, kind):
            return Path(config).parent
    return None


def _download(name: str, kind: ModelKind, progress: Progress, timeout: float) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        with quiet(bars=sys.stderr.isatty()):
            revision, files = _find_weights(hub.HfApi(), name, timeout)
            fetch: Callable[..., Any] = functools.partial(
                hub.snapshot_download, name, revision=revision, allow_patterns=files, etag_timeout=timeout
            )
            size = sum(file.file_size or 0 for file in fetch(dry_run=True) if file.will_download)
            progress.say(
                f"Downloading the {kind.noun} {name}: {size / 1e6:.0f} MB, kept for the next time in "
                f"{hub.constants.HF_HUB_CACHE}"
            )
            return Path(fetch())
    except CaptionlessError:
        raise
    except GatedRepoError as error:
        raise CaptionlessError(
            f"the model hub gives {name} only to those who accepted its terms. Accept them on its page and "
            f"run `hf auth login`, or use another {kind.noun}."
        ) from error
    except RepositoryNotFoundError as error:
        raise CaptionlessError(
            f"there is no {kind.noun} {name}: neither a folder here nor a public model on the hub. Check the spelling."
        ) from error
    except Exception as error:  # refused, timed out, proxy, offline mode, 5xx: each HTTP library has its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise CaptionlessError(
                f"the disk is full: {name} cannot be stored. Free some space, or set HF_HOME to a larger disk."
            ) from error
        size_known = f" (about {_KNOWN_SIZES[name] / 1e6:.0f} MB)" if name in _KNOWN_SIZES else ""
        raise CaptionlessError(
            f"the {kind.noun} {name}{size_known} is neither a folder here nor in the local hub cache, and the model "
            f"hub cannot be reached. Give a folder that holds it (`{kind.parameter}=FOLDER`), or {kind.instead}."
        ) from error


def _find_weights(api: HfApi, name: str, timeout: float) -> tuple[str, list[str]]:
    """Return the revision that has safetensors weights, and the files of it to fetch."""
    from huggingface_hub.errors import RevisionNotFoundError

    for revision in _revisions(name):
        try:
            # snapshot_download has no time limit for the question which files there are; this call has.
            info = api.model_info(name, revision=revision, timeout=timeout)
        except RevisionNotFoundError:
            continue
        files = {file.rfilename for file in info.siblings or ()}
        weights = {_WEIGHTS} & files or {file for file in files if file == _WEIGHTS_INDEX or _SHARD.fullmatch(file)}
        if weights:
            return revision, sorted(weights | (_SMALL_FILES & files))
    raise CaptionlessError(
        f"{name} has no safetensors weights on the model hub, and no others are read here (pickles can run "
        f"code). Use an encoder that has them, such as {CLIP}, or convert it and give the folder."
    )

"""Where an encoder's files lie: the shipped folder, the person's own, the local hub cache, or the model hub.

Only safetensors weights are ever fetched or read, and no code from a repository is ever run.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from captionless.errors import CaptionlessError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BUNDLED = "bundled"
"""The name of the encoder that ships inside the package."""

CLIP = "openai/clip-vit-base-patch32"
"""The encoder ``auto`` takes where the bundled one does not know what the pictures show (512 features)."""

BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled" / "encoder"

# The main branch of OpenAI's ViT-B/32 repository has pickled weights only. The hub's own conversion bot put
# the same tensors into safetensors in this commit; naming the commit also makes every machine get the same.
PINNED = {CLIP: "c237dc49a33fc61debc9276459120b7eac67e7ef"}
_KNOWN_SIZES = {CLIP: 605_000_000}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TIMEOUT = 5.0  # seconds to wait for the answers of the hub
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_SMALL_FILES = {
    _CONFIG,
    *_PREPROCESSING,
    *_VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}
_EXPECTED = (
    "Give a folder with config.json, model.safetensors, a tokenizer and preprocessor_config.json of a "
    "transformers dual encoder (CLIP, SigLIP, ...)."
)


def find_encoder(name: str, announce: Callable[[str], None] | None = None, option: str = "--encoder") -> Path:
    """Return the folder that holds the encoder ``name``; fetch it from the hub where it is nowhere else.

    Args:
        name: ``"bundled"``, a folder, or a hub id such as ``"openai/clip-vit-base-patch32"``.
        announce: is given one line naming the size before anything is downloaded.
        option: of the command line, by which it was named.

    Raises:
        CaptionlessError: no such folder, no such model, no safetensors weights, or the hub is out of reach.
    """
    folder = BUNDLED_FOLDER if name == BUNDLED else Path(os.path.expanduser(name))
    # os.path, for it answers "no" to names that no file can have, where pathlib raises.
    if name == BUNDLED or (name.strip() and os.path.exists(folder)):
        _check_folder(folder, name)
        return folder.absolute()
    if not _HUB_ID.fullmatch(name):
        raise CaptionlessError(
            f"there is no encoder {name!r}: neither a folder nor a hub id. "
            f"Use auto, bundled, an existing folder, or a hub id such as {CLIP}."
        )
    return _cached(name) or _download(name, announce, option)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder: one, the shards its index names, or none.

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
            f"{folder / _WEIGHTS_INDEX} is damaged. Fetch the encoder again or use another."
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


def _check_folder(folder: Path, name: str) -> None:
    if not folder.is_dir():
        raise CaptionlessError(f"the encoder {name} is not a folder. {_EXPECTED}")
    missing = _missing(folder)
    if missing:
        raise CaptionlessError(f"{name} holds no whole encoder: there is no {missing} in it. {_EXPECTED}")


def _missing(folder: Path) -> str | None:
    """Name the first thing that loading needs and the folder has not; None where all is there.

    Checked here because transformers makes up a tokenizer of three words where there is none.
    """
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    weights = weight_files(folder)
    absent = [file.name for file in weights if not file.is_file()]
    if absent or not weights:
        return absent[0] if absent else f"{_WEIGHTS} (no other weights are read)"
    for names in (_VOCABULARIES, _PREPROCESSING):
        if not any((folder / name).is_file() for name in names):
            return names[0]
    return None


def _cached(name: str) -> Path | None:
    """Look the hub id up in the local cache, without any network."""
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    references = [repository / "refs" / "main", *sorted((repository / "refs/refs/pr").glob("*"))]
    commits = [reference.read_text().strip() for reference in references if reference.is_file()]
    for commit in (*filter(None, [PINNED.get(name)]), *commits):
        snapshot = repository / "snapshots" / commit
        if not _missing(snapshot):  # an interrupted download is not whole
            return snapshot
    return None


def _download(name: str, announce: Callable[[str], None] | None, option: str) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        with quiet(bars=sys.stderr.isatty()):
            revision, files = _plan(hub.HfApi(), name)
            if announce is not None:
                announce(_announcement(name, revision, files))
            patterns = list(files)
            return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns, etag_timeout=_TIMEOUT))
    except CaptionlessError:
        raise
    except GatedRepoError as error:
        raise CaptionlessError(
            f"the model hub gives {name} only to those who accepted its terms. Accept them on its page and "
            "run `hf auth login`, or use another encoder."
        ) from error
    except RepositoryNotFoundError as error:
        raise CaptionlessError(
            f"there is no encoder {name}: neither a folder here nor a (public) model on the hub. Check the spelling."
        ) from error
    except Exception as error:  # refused, timed out, proxy, offline mode, 5xx: each HTTP library has its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise CaptionlessError(
                f"the disk is full: {name} cannot be stored. Free some space, or set HF_HOME to a larger disk."
            ) from error
        raise _out_of_reach(name, option) from error


def _out_of_reach(name: str, option: str) -> CaptionlessError:
    size = f" (about {_KNOWN_SIZES[name] / 1e6:.0f} MB)" if name in _KNOWN_SIZES else ""
    kind, instead = "model", f"leave {option} out"
    if option == "--encoder":
        kind, instead = (
            "encoder",
            f"use the small encoder that ships with captionless and knows flowers ({option} bundled)",
        )
    return CaptionlessError(
        f"the {kind} {name}{size} is neither a folder here nor in the local hub cache, and the model hub "
        f"cannot be reached: give a folder that holds it ({option} FOLDER), or {instead}."
    )


def _plan(api: HfApi, name: str) -> tuple[str, dict[str, int | None]]:
    """Choose the revision with safetensors weights; return it and the sizes in bytes of the files to fetch."""
    from huggingface_hub.errors import RevisionNotFoundError

    for revision in _revisions(api, name):
        try:
            info = api.model_info(name, revision=revision, timeout=_TIMEOUT, files_metadata=True)
        except RevisionNotFoundError:
            continue
        files = _wanted({file.rfilename: file.size for file in info.siblings or ()})
        if any(file.endswith(".safetensors") for file in files):
            return revision, files
    raise CaptionlessError(
        f"{name} has no safetensors weights on the model hub, and no others are read here (pickles can run "
        f"code). Use an encoder that has them, such as {CLIP}, or convert it and give the folder."
    )


def _revisions(api: HfApi, name: str) -> Iterator[str]:
    """Yield the pinned commit, the main branch, then open pull requests of the hub's own conversion bot."""
    if name in PINNED:
        yield PINNED[name]
    yield "main"
    requests = api.get_repo_discussions(
        name, author="SFconvertbot", discussion_type="pull_request", discussion_status="open"
    )
    for request in requests:
        if request.title == "Adding `safetensors` variant of this model" and request.git_reference:
            yield request.git_reference


def _wanted(sizes: Mapping[str, int | None]) -> dict[str, int | None]:
    whole = {_WEIGHTS} if _WEIGHTS in sizes else {_WEIGHTS_INDEX}
    return {
        name: size
        for name, size in sizes.items()
        if name in _SMALL_FILES or name in whole or (_WEIGHTS not in sizes and _SHARD.fullmatch(name))
    }


def _announcement(name: str, revision: str, files: Mapping[str, int | None]) -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    missing = {
        file: size
        for file, size in files.items()
        if not isinstance(try_to_load_from_cache(name, file, revision=revision), str)
    }
    total = sum(size or 0 for size in missing.values()) or _KNOWN_SIZES.get(name, 0)
    size = f"{total / 1e6:.0f} MB" if total else "of unknown size"
    return f"downloading the encoder {name}: {size}, kept for the next time in {constants.HF_HUB_CACHE}"

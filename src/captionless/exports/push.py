"""Upload an exported folder to the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captionless._version import __version__
from captionless.checkpoints.hub import HUB_ID
from captionless.config.export import ExportRequest
from captionless.encoders.hub import quiet_hub
from captionless.errors import CaptionlessError

TAG = "captionless"
"""The tag of every exported model card, by which repositories that may be replaced are known."""
_LOGIN = "Run `hf auth login`, or set the environment variable HF_TOKEN, with a token that may write."


def check_push(name: str) -> None:
    """Raise a `CaptionlessError` unless ``name`` has the form user/repo and there is a token to write with."""
    from huggingface_hub import get_token

    if not re.fullmatch(HUB_ID, name):
        raise _error(name, f"`push={name}` does not have the form user/repo.", "invalid_setting")
    if not get_token():
        raise _error(name, f"uploading to the Hugging Face Hub needs a token. {_LOGIN}", "not_logged_in")


def push(folder: Path, request: ExportRequest) -> str:
    """Upload a folder to the repository ``request.push``, and return the repository's address.

    The repository is created, private unless ``request.public``, or gets a new commit; files of an earlier export that
    this one does not have are deleted in that commit.

    Raises:
        CaptionlessError: the Hub refuses it or cannot be reached, or the repository holds something else.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    name, api = str(request.push), HfApi(library_name="captionless", library_version=__version__)
    with _hub_errors(name), quiet_hub(bars=sys.stderr.isatty()):
        address = str(api.create_repo(name, private=not request.public, exist_ok=True))
        info = api.model_info(name)
        before = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
        if before and TAG not in (info.tags or ()):
            raise _error(
                name,
                f"{address} exists and holds no export of captionless, so it is left as it is. Choose another name.",
                "repository_in_use",
            )
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        api.create_commit(
            name,
            [CommitOperationDelete(file) for file in sorted(before - set(files))]
            + [CommitOperationAdd(file, path) for file, path in files.items()],
            commit_message=f"Export of captionless {__version__} ({request.to})",
            parent_commit=info.sha,
        )
    return address


def _error(name: str, message: str, code: str) -> CaptionlessError:
    return CaptionlessError(message, parameter="push", value=name, code=code)


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Convert the exceptions of an upload into a `CaptionlessError`."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of the client it uses

    try:
        yield
    # Refused, timed out or offline; a disk or a file that cannot be read; what uploading in parts raises.
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise _error(
                name, f"the Hugging Face Hub does not let you write to {name}. {_LOGIN}", "forbidden"
            ) from error
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise _error(
            name,
            f"the upload to {name} failed ({reason}). Check the network connection, and export again; a repository "
            "has the whole upload or nothing of it.",
            "hub_unreachable",
        ) from error

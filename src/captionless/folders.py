"""Finding the files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from captionless.errors import CaptionlessError


def find_pictures(folder: str | Path) -> list[Path]:
    """Every regular file in a folder and its sub-folders, sorted; hidden ones (a leading dot) are left out.

    Files of any kind are listed: `read_folder` says of each that is no picture why it was skipped. Links to
    folders are followed, but no folder is entered twice. A sub-folder that cannot be listed, and a link that
    leads nowhere, are listed as if they were files, so that they are reported too.

    Raises:
        CaptionlessError: the folder does not exist, is a file, or cannot be listed.
    """
    root = Path(os.path.abspath(folder))
    if not root.exists():
        raise CaptionlessError(f"there is no folder {folder}. Check the path.")
    if not root.is_dir():
        raise CaptionlessError(f"{folder} is a file. Give the folder that holds the pictures.")
    entered: set[tuple[int, int]] = set()
    files: list[Path] = []

    def enter(directory: Path) -> None:
        status = directory.stat()
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(directory) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
        # Real folders first, so that a picture is called by its own name, not by that of a link to it.
        for entry in sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name)):
            path = directory / entry.name
            if entry.is_dir():
                try:
                    enter(path)
                except OSError:
                    files.append(path)
            elif entry.is_file() or (entry.is_symlink() and not path.exists()):
                files.append(path)

    try:
        enter(root)
    except OSError as error:
        raise CaptionlessError(f"cannot list {folder}: {error.strerror or error}. Check its permissions.") from error
    return sorted(files, key=lambda path: path.relative_to(root).parts)


def relative_name(path: Path, folder: str | Path) -> str:
    """The name of a file in its folder: relative, forward slashes, and always encodable as UTF-8."""
    name = path.relative_to(os.path.abspath(folder)).as_posix()
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

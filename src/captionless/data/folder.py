"""Find the files of a folder, and match file names with the paths in a table."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from captionless.data.stored import File, StoredFile, expand, is_stored, list_stored
from captionless.errors import CaptionlessError


def find_images(source: str | Path) -> list[File]:
    """List the images of a source: a folder, or a URL, an archive or a pattern such as ``*.tar`` (see `is_stored`).

    An archive (tar, Parquet) stands for the images in it, in a folder as well.

    Raises:
        CaptionlessError: the source does not exist or cannot be listed.
    """
    return [*expand(list_files(source), lambda path: relative_name(path, source))]


def list_files(source: str | Path) -> Sequence[File]:
    """List the files of a source as in `find_images`, but archives as they are."""
    return list_stored(source) if is_stored(source) else list_folder(source)


def list_folder(folder: str | Path) -> list[Path]:
    """List all regular files in a folder recursively, sorted by path, without hidden ones (leading dot).

    Files of any type are listed, so that `read_images` can report why it skips a file. Symbolic links to folders are
    followed, but no folder is visited twice. Broken links and sub-folders that cannot be listed are returned like
    files, so that they are reported too.

    Raises:
        CaptionlessError: the folder does not exist, is a file, or cannot be listed.
    """
    root = Path(os.path.abspath(folder))
    if not root.exists():
        raise CaptionlessError(f"there is no folder {folder}. Check the path.")
    if not root.is_dir():
        raise CaptionlessError(f"{folder} is a file, not a folder. Pass the folder that contains the images.")
    entered: set[str] = set()
    files: list[Path] = []
    failed: list[OSError] = []
    for place, folders, names in os.walk(root, onerror=failed.append, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        # Real folders first, so that an image gets its own path and not the path of a link to it.
        folders[:] = sorted(_visible(folders), key=lambda name: os.path.islink(os.path.join(place, name)))
        paths = [Path(place, name) for name in _visible(names)]
        files += [path for path in paths if path.is_file() or not path.exists()]  # no pipes; broken links
    files += [Path(error.filename) for error in failed]
    if root in files:
        raise CaptionlessError(f"cannot list {folder}. Check its permissions.")
    return sorted(files, key=lambda path: str(path).replace(os.sep, "\0"))  # folder by folder: no name contains \0


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def source_root(source: str | Path) -> str | Path:
    """Return a source in a form that does not depend on the working directory: a URL, or an absolute path."""
    return str(source) if "://" in str(source) else Path(os.path.abspath(source))


def relative_name(path: File, folder: str | Path) -> str:
    """Return the path of a file relative to ``folder``, with forward slashes and always valid UTF-8."""
    if isinstance(path, StoredFile):
        return path.name
    name = path.relative_to(os.path.abspath(folder)).as_posix()
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def match_names(names: Iterable[str], keys: Iterable[str], folder: str | Path) -> dict[str, str]:
    """Match file names with the paths in a table.

    A path matches a file if it is the file's name or absolute path. A bare file name matches if only one file has that
    name. A file that several paths match is left out.

    Args:
        names: file paths relative to ``folder``, with forward slashes.
        keys: paths in a table, with slashes or backslashes.
        folder: the folder of the files.

    Returns:
        The matching path (key) of each name; names without a match are left out.
    """
    names, root = set(names), Path(os.path.abspath(folder)).as_posix() + "/"
    plain: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        plain[name.rpartition("/")[2]].append(name)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        path = key if key in names else key.replace("\\", "/").removeprefix(root).removeprefix("./")
        alike = [path] if path in names else plain[path]
        if len(alike) == 1:
            found[alike[0]].append(key)
    return {name: same[0] for name, same in found.items() if len(same) == 1}

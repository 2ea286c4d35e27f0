"""Find the files of a folder, and match file names with paths from a table."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from captionless.errors import CaptionlessError


def find_images(folder: str | Path) -> list[Path]:
    """List every regular file in a folder and its sub-folders, sorted; hidden ones (a leading dot) are left out.

    Files of any kind are listed, so that `read_folder` can report why it skips some. Links to folders are followed,
    but no folder is entered twice. A sub-folder that cannot be listed and a broken link are returned like files, so
    that they are reported, too.

    Raises:
        CaptionlessError: the folder does not exist, is a file, or cannot be listed.
    """
    root = Path(os.path.abspath(folder))
    if not root.exists():
        raise CaptionlessError(f"there is no folder {folder}. Check the path.")
    if not root.is_dir():
        raise CaptionlessError(f"{folder} is a file. Give the folder that holds the images.")
    entered: set[tuple[int, int]] = set()
    files: list[Path] = []

    def enter(directory: Path) -> None:
        status = directory.stat()
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(directory) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
        # Real folders first, so that an image gets its own path, not that of a link to it.
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
    """Return the name of a file in its folder: relative, with forward slashes, and always valid UTF-8."""
    name = path.relative_to(os.path.abspath(folder)).as_posix()
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def match_names(names: Iterable[str], keys: Iterable[str], folder: str | Path) -> dict[str, str]:
    """Match file names with paths from a table: name → key; names without a key are left out.

    A key matches the name that it equals, or whose absolute path it is. Failing that, it matches a name that it ends
    with (a path from another machine) or that ends with it (a plain file name), always at a slash. A key that fits
    several names this way, and several keys that fit one name, match nothing.

    Args:
        names: paths relative to ``folder``, with forward slashes.
        keys: paths from a table; backslashes count as slashes if the key has no slash.
        folder: what the names are relative to.
    """
    names, root = set(names), Path(os.path.abspath(folder)).as_posix() + "/"
    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_file[name.rpartition("/")[2]].append(name)
    exact: dict[str, str] = {}
    loose: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        if (name := key if key in names else key.removeprefix(root)) in names:
            exact[name] = key
            continue
        path = (key if "/" in key else key.replace("\\", "/")).removeprefix("./")
        fitting = [
            name
            for name in by_file.get(path.rpartition("/")[2], ())
            if name == path or name.endswith("/" + path) or path.endswith("/" + name)
        ]
        # /data/flowers/rose/a.jpg ends with rose/a.jpg and with a.jpg; the longer name is more specific.
        fitting = [name for name in fitting if not any(other.endswith("/" + name) for other in fitting)]
        if len(fitting) == 1:
            loose[fitting[0]].append(key)
    return {name: found[0] for name, found in loose.items() if len(found) == 1} | exact

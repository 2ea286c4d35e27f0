"""Find the files of a folder, and match file names with the paths in a table."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from captionless.data.stored import File, StoredFile, expand, is_stored, list_stored
from captionless.errors import CaptionlessError
from captionless.paths import WINDOWS, kind_of

_SYSTEM = frozenset(
    [
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx", "lost+found"),
        *("$recycle.bin", "recycler", "recycled", "system volume information"),
        *("network trash folder", "temporary items", "thevolumesettingsfolder"),
    ]
)
"""Folders that operating systems and network drives (Synology, QNAP) make, in lower case."""


def absolute(folder: str | Path) -> Path:
    """Return an absolute path; ``~`` becomes the home folder."""
    return Path(os.path.abspath(os.path.expanduser(folder)))


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
    """List all files in a folder recursively, sorted by path, without hidden ones (leading dot).

    Files of any type are listed, so that `read_images` can report why it skips a file. Symbolic links to folders are
    followed, but no folder is visited twice. What cannot be examined or listed (broken links, locked sub-folders),
    devices, FIFOs and sockets, and folders of the system, such as its trash, are returned like files, so that they are
    reported too.

    Raises:
        CaptionlessError: the folder does not exist, is a file, or cannot be listed.
    """
    root = absolute(folder)
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            kind = kind_of(root)
            raise CaptionlessError(f"{folder} is {kind}, not a folder. Pass the folder that contains the images.")
        os.scandir(root).close()
    except (FileNotFoundError, NotADirectoryError):
        raise CaptionlessError(f"there is no folder {folder}. Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = getattr(error, "strerror", None) or error
        raise CaptionlessError(f"cannot list {folder}: {reason}. Check the path and its permissions.") from error
    entered: set[str] = set()
    files: list[Path] = []
    # Real folders first, so that an image gets its own path and not the path of a link to it.
    real, links = list[tuple[Path, str]](), [root]
    while real or links:
        place, target = real.pop() if real else (links[0], os.path.realpath(links.pop(0)))
        if target in entered:
            continue
        entered.add(target)
        try:
            entries = [entry for entry in os.scandir(place) if not entry.name.startswith(".")]
        except OSError:
            files.append(place)
            continue
        for entry in entries:
            path = place / entry.name
            try:
                mode = entry.stat().st_mode
            except OSError:  # a link to nowhere, to itself, into a locked folder; a name that is too long
                files.append(path)
                continue
            if not stat.S_ISDIR(mode) or entry.name.lower() in _SYSTEM:
                files.append(path)
            elif entry.is_symlink() or WINDOWS:  # where a junction is a link too
                links.append(path)
            else:
                real.append((path, os.path.join(target, entry.name)))
    return sorted(files, key=lambda path: str(path).replace(os.sep, "\0"))  # folder by folder: no name contains \0


def is_system_folder(path: Path) -> bool:
    """Return whether a path is a folder that the operating system or a network drive made."""
    return path.name.lower() in _SYSTEM and path.is_dir()


def source_root(source: str | Path) -> str | Path:
    """Return a source in a form that does not depend on the working directory: a URL, or an absolute path."""
    return str(source) if "://" in str(source) else absolute(source)


def relative_name(path: File, folder: str | Path) -> str:
    """Return the path of a file relative to ``folder``, with forward slashes and always valid UTF-8."""
    if isinstance(path, StoredFile):
        return path.name
    name = path.relative_to(absolute(folder)).as_posix()
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def match_names(names: Iterable[str], keys: Iterable[str], folder: str | Path) -> dict[str, str]:
    """Match file names with the paths in a table.

    A path matches a file if it is the file's name or absolute path. A bare file name matches if only one file has that
    name. If no path matches, the folder may have been elsewhere when the table was written: then the paths match that
    begin with the name of that folder, which is the prefix that fits most files. A file that several paths match is
    left out. Slashes may be backslashes, and accents composed or decomposed.

    Args:
        names: file paths relative to ``folder``, with forward slashes.
        keys: paths in a table.
        folder: the folder of the files.

    Returns:
        The matching path (key) of each name; names without a match are left out.
    """
    names, root = set(names), absolute(folder)
    roots = [composed(path.as_posix()).rstrip("/") + "/" for path in (root, Path(os.path.realpath(root)))]
    known: defaultdict[str, set[str]] = defaultdict(set)
    plain: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        known[composed(name)].add(name)
        plain[composed(name).rpartition("/")[2]].add(name)
    found: defaultdict[str, list[str]] = defaultdict(list)
    elsewhere: list[tuple[str, str]] = []
    for key in keys:
        spelled = composed(key if key in names else key.replace("\\", "/"))
        for start in (*roots, "./"):
            spelled = spelled.removeprefix(start)
        alike = {key} if key in names else known.get(spelled) or plain.get(spelled, set())
        if len(alike) == 1:
            found[next(iter(alike))].append(key)
        elif "/" in spelled:
            elsewhere.append((spelled, key))
    if not found:
        found = _moved(elsewhere, {path: next(iter(same)) for path, same in known.items() if len(same) == 1}, roots)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def _moved(paths: list[tuple[str, str]], known: dict[str, str], roots: list[str]) -> defaultdict[str, list[str]]:
    """Return the keys of each name if the folder was elsewhere; ``paths`` are pairs of a path and its key."""
    by_start: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, key in paths:
        at = path.find("/")
        while at >= 0:
            if (name := known.get(path[at + 1 :])) is not None:
                by_start[path[: at + 1]].append((name, key))
            at = path.find("/", at + 1)
    fitting = Counter({start: len({name for name, _ in pairs}) for start, pairs in by_start.items()})
    ours = [start for start in by_start if any(f"/{root}".endswith(f"/{start}") for root in roots)]
    best = ours or [start for start, count in fitting.items() if count == max(fitting.values())]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for start in best:
        for name, key in by_start[start]:
            found[name].append(key)
    return found


def composed(path: str) -> str:
    """Return a path in Unicode NFC: file systems and programs encode "é" in two ways."""
    return unicodedata.normalize("NFC", path)

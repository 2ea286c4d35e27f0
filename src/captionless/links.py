"""Keep what links lead to out of model folders, because they get published."""

from __future__ import annotations

import os
from pathlib import Path

from captionless.files import remark_once

_READ = (".safetensors", "config.json")
"""How the names of files end that may be links to anywhere: what they hold was read as that of a model."""


def is_publishable(path: Path) -> bool:
    """Return whether a file is there and may be copied; a link that leads out of its folder may not, as a remark says.

    The files of a download are links too (``snapshots/REVISION/README.md``, to the folder ``blobs`` beside it).
    """
    if not path.is_file():
        return False
    folder = Path(os.path.realpath(path.parent))
    caches = (one.parent for one in (folder, *folder.parents) if one.name == "snapshots")
    inside = next((one for one in caches if (one / "blobs").is_dir()), folder)
    if path.name.endswith(_READ) or Path(os.path.realpath(path)).is_relative_to(inside):
        return True
    remark_once(str(path), f"{path} is a link that leads out of its folder, and is not copied. Replace it by the file.")
    return False

"""Keep arrays by key in a folder of files that are only ever added, never modified.

Layout: ``<folder>/part-<time>-<random>.safetensors``. Concurrent processes do not interfere with each other, and a
crash loses only what was not flushed. Each part stores the SHA-256 of its arrays.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from captionless.data.cache import remark_unwritable, touch
from captionless.errors import CaptionlessError
from captionless.files import atomic_write

Array = NDArray[Any]


class Parts:
    """A store of arrays of one type, by key, on disk.

    A damaged part is ignored with a warning: its keys count as missing.

    Args:
        folder: the folder of the parts. If it cannot be written to, the arrays stay in memory.
        what: name of the tensor in the files; also names the content in warnings.
        flush_bytes: number of added bytes that triggers an automatic flush.
    """

    def __init__(self, folder: Path, what: str, flush_bytes: int = 1 << 23) -> None:
        self.folder, self.what = folder, what
        self._flush_bytes = flush_bytes
        self._places: dict[str, tuple[_Part, int]] = {}
        self._pending: dict[str, Array] = {}
        self._bytes = 0
        with suppress(OSError):  # it cannot be listed
            for path in sorted(folder.glob("part-*.safetensors")):
                self._open(path)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._places.keys() | self._pending.keys())

    def __contains__(self, key: str) -> bool:
        """Return whether there is an undamaged array with this key."""
        return key in self._pending or (key in self._places and self._check(self._places[key][0]))

    def get(self, key: str) -> Array | None:
        """Return a copy of the array with this key, or None if there is none."""
        if key not in self:
            return None
        if key in self._pending:
            return self._pending[key].copy()
        part, row = self._places[key]
        return part.read(row)

    def add(self, key: str, array: Array) -> None:
        """Add an array, which is written by the next `flush`."""
        self._pending[key] = array
        self._bytes += array.nbytes
        if self._bytes >= self._flush_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the arrays added since the last flush as a new part; if that is not possible, they stay in memory."""
        if not self._pending:
            return
        path = self.folder / f"part-{time.time_ns():020d}-{uuid.uuid4().hex}.safetensors"
        shapes = [array.shape for array in self._pending.values()]
        about = {"digests": json.dumps([*self._pending])}
        if len(set(shapes)) > 1:
            tensor = np.concatenate([array.ravel() for array in self._pending.values()])
            about["shapes"] = json.dumps(shapes)
        else:
            tensor = np.stack([*self._pending.values()])
        about["sha256"] = hashlib.sha256(tensor.data).hexdigest()
        try:
            with atomic_write(path) as temporary:
                save_file({self.what: tensor}, temporary, about)
        except (CaptionlessError, SafetensorError) as error:
            remark_unwritable(self.folder, error)
            self._flush_bytes = 2 * self._bytes  # each attempt takes as long as there are arrays
            return
        self._pending.clear()
        self._bytes = 0
        self._open(path, checked=True)

    def _open(self, path: Path, *, checked: bool = False) -> None:
        """Index the keys of a part without reading its arrays."""
        try:
            part = _Part(path, self.what, checked)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            self._warn(path, str(error))
        else:
            self._places.update((key, (part, row)) for row, key in enumerate(part.keys))

    def _check(self, part: _Part) -> bool:
        """Return whether a part is undamaged; its arrays are verified once, when the first of them is needed."""
        if not part.checked:
            if not part.is_intact():
                self._warn(part.path, "its checksum differs")
                self._places = {key: place for key, place in self._places.items() if place[0] is not part}
                return False
            part.checked = True
            touch(part.path)
        return True

    def _warn(self, path: Path, why: str) -> None:
        warnings.warn(
            f"a file of the cache is damaged, so its {self.what} will be computed again; you can delete {path} ({why})",
            stacklevel=4,
        )


class _Part:
    """An open part: one tensor with a row per key or, if the arrays differ in shape, all of them in one row."""

    def __init__(self, path: Path, what: str, checked: bool) -> None:
        self.path, self.checked, self._what = path, checked, what
        opened: Any = safe_open(path, framework="np")
        self._file, about = opened, opened.metadata()
        self.keys: list[str] = json.loads(about["digests"])
        self._sha256 = about.get("sha256")  # vectors written by earlier versions have none
        self._shapes = np.array(json.loads(about["shapes"])) if "shapes" in about else None
        self._starts = np.cumsum([0, *([] if self._shapes is None else self._shapes.prod(1))])

    def is_intact(self) -> bool:
        """Return whether the arrays have the recorded checksum."""
        if self._sha256 is None:
            return True
        return bool(hashlib.sha256(self._file.get_tensor(self._what).data).hexdigest() == self._sha256)

    def read(self, row: int) -> Array:
        """Return the array of a key."""
        tensor = self._file.get_slice(self._what)
        if self._shapes is None:
            array: Array = tensor[row]
            return array
        flat: Array = tensor[int(self._starts[row]) : int(self._starts[row + 1])]
        return flat.reshape(self._shapes[row])

"""Write digest and id into the headers of safetensors files; the tensors keep their bytes.

    python tools/seal.py ID FILE…

Files that captionless wrote have both already. Those of the bundled encoder are written by other programs: their id is
the digest of its image side (``captionless.encoders.digest.BUNDLED_DIGESTS``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from captionless.files import atomic_write
from captionless.tensor_files import ENTRY, content_digest, read_about, read_tensors


def seal(path: Path, model: str) -> None:
    """Replace the header of a file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    plain = {name: text for name, text in header.get("__metadata__", {}).items() if name != ENTRY}
    digest = content_digest(load_file(path), plain | {"model": model})
    header["__metadata__"] = plain | {ENTRY: json.dumps({"digest": digest, "model": model})}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    read_tensors(path, model)
    print(f"{path}: {read_about(path)}")


if __name__ == "__main__":
    for name in sys.argv[2:]:
        seal(Path(name), sys.argv[1])

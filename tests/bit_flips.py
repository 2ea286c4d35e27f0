"""Flip bits of files, as failing disks do."""

import random
from collections.abc import Iterator
from pathlib import Path


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def flipped(path: Path, times: int = 60) -> Iterator[int]:
    """Flip bits of a tensor file, one after the other, a third of them in its header; at the end it is whole again."""
    draw = random.Random(path.name)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for turn in range(times):
        area = range(8 * header) if turn < times // 3 else range(8 * header, 8 * path.stat().st_size)
        flip(path, bit := draw.choice(area))
        yield bit
        flip(path, bit)

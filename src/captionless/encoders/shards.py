"""Embed a large source of images shard by shard, on one machine or on many.

A shard is embedded as a whole or not at all: its Parquet file is written aside and renamed. What is there is done, so
a run that was interrupted continues with the other shards, and nothing else is kept of its progress.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captionless.config.shards import ShardConfig
from captionless.data.decode import BACKGROUND
from captionless.data.folder import relative_name
from captionless.data.images import Decoding, ImageFile, SkippedFile, decode_files
from captionless.data.parquet import import_pyarrow
from captionless.data.stored import expand, is_stored
from captionless.data.stores import StoreError
from captionless.device import default_device, usable_cpus
from captionless.encoders.cache import EncodingVisitor, Vectors
from captionless.encoders.choice import AUTO, choose_encoder
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.embeddings import encode_batch
from captionless.encoders.manifest import Shard, list_shards, read_shards, shard_names
from captionless.encoders.shard_files import read_about, read_skipped, shard_about, shard_bytes
from captionless.errors import CaptionlessError, shorten
from captionless.files import atomic_write, sweep
from captionless.progress import Progress, choose_progress

Outcome = tuple[str, "bytes | CaptionlessError"]
"""The name of a shard, and its Parquet file or what went wrong."""
_BATCH = 64
_RAY_CPUS = 4
_RETRIES = 3


def embed_shards(
    source: str | Path,
    out: str | Path,
    encoder: Encoder | str = AUTO,
    config: ShardConfig | None = None,
    *,
    background: str = BACKGROUND,
    progress: Progress | bool | None = None,
) -> int:
    """Embed a folder, tars, Parquet files or the objects behind a URL; each shard becomes a Parquet file in ``out``.

    The encoder receives what it receives in `embed`. Shards that are in ``out`` are not embedded again.

    Args:
        source: see `find_images`.
        out: the folder of the shards and of their list, which all machines share.
        encoder: see `embed`; ``auto`` looks at the first shard.
        config: how the shards are cut, and by what they are embedded.
        background: colour behind transparent images.
        progress: see `embed`.

    Returns:
        The number of shards that this call has embedded.

    Raises:
        CaptionlessError: the source cannot be listed, ``out`` holds vectors of another source or encoder, or some
            shards could not be read; the others are complete.
    """
    progress, config, out = choose_progress(progress), config or ShardConfig(), Path(out)
    import_pyarrow()
    list_shards(source, out, config.shard_size, again=config.relist)
    encoder = _encoder(source, out, encoder, background, progress)
    sweep(out.rglob(".*.tmp"))
    number, parts = config.share
    names = shard_names(source, out)[number::parts]
    todo = {name for name in names if not _path(out, name).exists()}
    progress.say(f"Shards: {len(names) - len(todo):,} of {len(names):,} are complete.")
    shards = read_shards(source, out, todo)
    about = shard_about(encoder, background)
    outcomes: Iterator[Outcome]
    if config.engine == "ray":
        outcomes = _with_ray(shards, about, config.workers or _RAY_CPUS)
    else:
        outcomes = map(ShardEmbedder(about, config.workers or usable_cpus(), encoder).embed, shards)
    done, failed, skipped = 0, list[StoreError](), list[str]()
    for name, outcome in outcomes:
        if isinstance(outcome, StoreError):
            failed.append(outcome)
        elif isinstance(outcome, CaptionlessError):
            raise outcome
        else:
            skipped += _store(_path(out, name), outcome)
            done += 1
        progress.advance("Embedding shards", done + len(failed), len(todo))
    _say_skipped(skipped, progress)
    if failed:
        missing = f"{len(failed):,} of {len(todo):,} shards could not be embedded"
        raise CaptionlessError(f"{missing}, the first because {failed[0]} The others are complete.")
    return done


def _store(path: Path, parquet: bytes) -> list[str]:
    """Write the Parquet file of a shard, and return its files without a vector, with the reasons."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(parquet)
    return [f"{one.name} ({one.reason})" for one in read_skipped(path)]


def _say_skipped(skipped: Sequence[str], progress: Progress) -> None:
    if skipped:
        remark = f"{len(skipped):,} files have no vector: {', '.join(shorten(skipped, 5))}."
        progress.say(f"{remark} To try those again that may be images, pass `relist=True`.")


def _encoder(source: str | Path, out: Path, encoder: Encoder | str, background: str, progress: Progress) -> Encoder:
    """Return the encoder, chosen by the first shard if it is ``auto``; it must be that of the shards in ``out``."""
    if isinstance(encoder, str):
        first = next(read_shards(source, out))
        files = [*expand(first.files, lambda path: relative_name(path, source))]
        device = str(default_device())
        encoder, reason = choose_encoder(encoder, source, device=device, files=files, progress=progress)
        progress.say(f"Encoder: {reason}.")
    about = shard_about(encoder, background)
    if (before := read_about(out)) and any(before[name] != about[name] for name in ("digest", "background")):
        raise CaptionlessError(
            f"{out} holds vectors of the encoder {before['encoder']} on {before['background']}. Pass "
            f"`encoder={before['encoder']}` and `background={before['background']}`, or choose another folder."
        )
    return encoder


def _path(out: Path, name: str) -> Path:
    return out / f"{name}.parquet"


class ShardEmbedder:
    """Embeds one shard after the other.

    Args:
        about: see `shard_about`.
        workers: number of processes that decode images.
        encoder: the encoder; by default it is loaded with the first shard.
    """

    def __init__(self, about: Mapping[str, Any], workers: int, encoder: Encoder | None = None) -> None:
        self._about, self._given = about, encoder
        self._workers = max(2, workers)  # with one, an image that crashes the decoder would crash this process

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self._given or load_encoder(self._about["encoder"], str(default_device()))
        if encoder.digest != self._about["digest"]:
            raise CaptionlessError(f"{encoder.name} is not the same encoder on all machines. Give all the same files.")
        return encoder

    def embed(self, shard: Shard) -> Outcome:
        """Return the Parquet file of a shard."""
        try:
            return shard.name, self._parquet(shard)
        except CaptionlessError as error:
            return shard.name, error

    def _parquet(self, shard: Shard) -> bytes:
        visitor = _ShardVectors(self._encoder, self._about["background"])
        decoding = Decoding(full=visitor.full, background=self._about["background"])
        files = [*expand(shard.files, lambda path: relative_name(path, shard.source))]
        entries: list[ImageFile | SkippedFile] = []
        for entry in decode_files(shard.source, files, decoding, self._workers):
            if isinstance(entry, ImageFile):
                visitor.visit(entry)
                entry = replace(entry, full=None)
            entries.append(entry)
        visitor.finish()
        if not is_stored(shard.source) and not os.path.isdir(shard.source):  # else its files would count as unreadable
            raise StoreError(f"{shard.source} is not there any more. Mount it, and run the same command again.")
        return shard_bytes(entries, visitor.vectors, self._about)


class _ShardVectors(EncodingVisitor):
    """Encodes the images of a shard, identical ones once."""

    def __init__(self, encoder: Encoder, background: str) -> None:
        super().__init__(encoder.image_size, background, _BATCH)
        self._encoder, self.vectors = encoder, dict[str, Vectors]()

    def needs_pixels(self, image: ImageFile) -> bool:
        """Return whether the image has no vector yet."""
        return self.key(image) not in self.vectors

    def encode(self, keys: Sequence[str], images: Sequence[Image.Image]) -> None:
        """Encode images."""
        self.vectors.update(zip(keys, encode_batch(self._encoder, images), strict=True))


def _with_ray(shards: Iterator[Shard], about: Mapping[str, Any], workers: int) -> Iterator[Outcome]:
    """Hand shards to Ray's actors, each of which holds an encoder; Ray starts an actor again that dies."""
    try:
        import ray
        from ray.util import ActorPool
    except ModuleNotFoundError as error:
        raise CaptionlessError(
            "`engine=ray` needs the package ray. Install it with `pip install 'captionless[ray]'`."
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        except (OSError, RuntimeError, ValueError) as error:  # no cluster there, or another version
            raise CaptionlessError(f"Ray cannot be started ({error}). Check RAY_ADDRESS and the cluster.") from error
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = any(machine.get("GPU") for machine in machines)
    places = [min(one["CPU"] // workers, one.get("GPU", 0) if gpus else np.inf) for one in machines if "CPU" in one]
    if not (actors := int(sum(places))):
        raise CaptionlessError(f"no machine of the Ray cluster has {workers} CPUs for an encoder. Try `workers=1`.")
    options = {"num_cpus": workers, "num_gpus": int(gpus), "max_restarts": -1, "max_task_retries": _RETRIES}
    actor = ray.remote(**options)(ShardEmbedder)
    pool = ActorPool([actor.remote(about, workers) for _ in range(actors)])

    def finished() -> Outcome:
        try:
            outcome: Outcome = pool.get_next_unordered()
            return outcome
        except ray.exceptions.RayActorError:
            return "", StoreError(f"its process died {_RETRIES + 1} times (out of memory?).")
        except ray.exceptions.RayTaskError as error:  # no error of a shard, which would have been returned
            raise error.cause from error
        except ray.exceptions.RayError as error:  # a machine or Ray's own store failed
            what = " ".join(str(error).split())[:200]
            return "", StoreError(f"Ray failed ({type(error).__name__}: {what}). Run the same command again.")

    for shard in shards:
        if not pool.has_free():
            yield finished()
        pool.submit(lambda actor, one: actor.embed.remote(one), shard)
    while pool.has_next():
        yield finished()

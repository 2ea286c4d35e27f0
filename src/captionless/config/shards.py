"""The settings of embedding a large source of images shard by shard."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from captionless.config.base import Config, setting
from captionless.config.limits import MAX_SAMPLES, MAX_WORKERS
from captionless.errors import harmless


class ShardConfig(Config):
    """How the shards of a source are cut, and by what they are embedded."""

    engine: Literal["local", "ray"] = setting(
        "local",
        "local embeds one shard after the other in this process; ray hands them to every GPU, or all CPUs, of a Ray "
        "cluster, or of this machine if there is none.",
        panel="With `shards`",
    )
    shard: str | None = setting(
        None,
        "Embed only every n-th shard, beginning with number i (from 0): for job arrays and loops of a shell.",
        shown="all",
        metavar="I/N",
    )
    shard_size: int = setting(
        10_000, "Files in a shard; a tar or Parquet file is always a shard of its own.", ge=1, le=MAX_SAMPLES
    )
    relist: bool = setting(
        False, "List the source again; files that came since, and images that had no vector, form new shards."
    )
    workers: int | None = setting(
        None,
        "Processes that decode the images for one encoder; with ray also the CPUs that it reserves.",
        shown="one for each CPU; with ray 4",
        ge=1,
        le=MAX_WORKERS,
        example=4,
    )

    @field_validator("shard")
    @classmethod
    def _check_share(cls, shard: str | None) -> str | None:
        if shard is not None:
            found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", shard)
            if not found or not int(found[1]) < int(found[2]):
                raise ValueError(
                    f"`shard={harmless(shard)}` is not a part of the shards. Of 8 parts, the first is `shard=0/8`."
                )
        return shard

    @property
    def share(self) -> tuple[int, int]:
        """The number of this part of the shards, from 0, and the number of parts."""
        number, _, count = (self.shard or "0/1").partition("/")
        return int(number), int(count)

"""The settings of ``captionless serve`` besides the sampling settings, which are the defaults of its requests."""

from __future__ import annotations

from pathlib import Path

from captionless.config.base import Config, setting
from captionless.config.limits import (
    MAX_BATCH,
    MAX_MINUTES,
    MAX_SAMPLES,
    MAX_SAMPLING_STEPS,
    MAX_SIZE,
    MAX_UPLOAD,
)


class ServeConfig(Config):
    """Which models to serve, to whom, and within which limits."""

    models: tuple[str, ...] = setting(
        ("bundled",),
        "The model folders to serve, 'bundled' for the included flower model, or user/repo[@revision] on the Hub. "
        "Clients name a model by the last part of its name.",
        flag="",
        metavar="MODEL",
    )
    host: str = setting(
        "127.0.0.1",
        "The address to listen on. Other computers reach the server only on another one, such as 0.0.0.0, which needs "
        "an API key in the environment variable CAPTIONLESS_API_KEY.",
        panel="Access",
        metavar="ADDRESS",
    )
    port: int = setting(8000, "The port to listen on; 0 takes any free one.", ge=0, le=65535)
    no_key: bool = setting(False, "Listen on an address that other computers reach, without an API key.")
    allow_host: tuple[str, ...] = setting(
        (),
        "A name under which clients reach the server, such as that of a reverse proxy. Repeatable; localhost and the "
        "address to listen on are always allowed.",
        metavar="NAME",
    )
    training_images: Path | None = setting(
        None,
        "The folder of the models' training images, which the page then shows as thumbnails beside the images that are "
        "near them. Everybody who can reach the server sees them.",
        metavar="FOLDER",
    )
    batch: int = setting(
        16,
        "Rows per network call, shared by all requests; an image takes two rows where it is guided. Larger batches "
        "raise throughput on a GPU, smaller ones shorten the wait of a request among others.",
        panel="Load and limits",
        ge=2,
        le=MAX_BATCH,
    )
    queue: int = setting(
        64,
        "Images that may be waiting or in progress; further requests are answered with status 429.",
        ge=10,
        le=MAX_SAMPLES,
    )
    max_steps: int = setting(
        200, "Largest number of denoising steps that a request may ask for.", ge=1, le=MAX_SAMPLING_STEPS
    )
    max_size: int = setting(2048, "Longest side that a request may ask for, in pixels.", ge=16, le=MAX_SIZE)
    max_upload: int = setting(
        32,
        "Largest request, in megabytes; uploaded images may also have at most 25 million pixels.",
        ge=1,
        le=MAX_UPLOAD,
    )
    grace: float = setting(
        120.0,
        "Seconds for which requests may go on after a signal to stop (SIGTERM); the rest are then answered with "
        "status 503.",
        ge=0,
        le=60 * MAX_MINUTES,
    )

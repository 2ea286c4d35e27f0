"""The fields of requests and answers, as in OpenAI's images API, with the sampling settings as extensions.

A field that OpenAI's models know but that has no meaning here, such as ``quality``, is ignored. One that would change
the image, such as a transparent background, is an error.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Le
from pydantic import ConfigDict, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError

from captionless.config.base import Config, setting
from captionless.config.sampling import SamplingConfig
from captionless.config.serve import ServeConfig
from captionless.errors import CaptionlessError
from captionless.generation.editing import SMALLEST_STRENGTH
from captionless.generation.sample import MAX_SEED

SETTINGS = ("steps", "guidance", "sampler", "variety")
"""The sampling settings that a request may give; their definitions are those of ``SamplingConfig``."""
MOST_IMAGES = 10
"""Images per request, as in OpenAI's API."""
LONGEST_PROMPT = 2000
"""Characters of a prompt; encoders read less."""
MOST_NAMES, LONGEST_NAME = 50, 40
"""How many fields are compared with those that have a meaning, and how many characters of each."""
SMALLEST = 16
"""Shortest side that can be asked for, in pixels."""
REJECTED = ("svg", "markup", "frame_count", "frame_duration_ms")
"""Fields of OpenAI's API that would change the image."""


class ImageRequest(Config):
    """A request for images; ``request_model`` adds the sampling settings."""

    model_config = ConfigDict(extra="ignore")
    largest: ClassVar[int] = 2048

    prompt: str = setting(
        "", "What the image shows; for a class-conditional model, the name of a class.", example="a red rose"
    )
    model: str | None = setting(None, "The name of a model. While one model is served, every name means that one.")
    n: int = setting(1, "The number of images.", ge=1, le=MOST_IMAGES)
    size: str | None = setting(
        None,
        "WIDTHxHEIGHT in pixels, or `auto` for the size of the model. Images are sampled at the size of the model, "
        "enlarged, and cropped if they are not to be square.",
        example="512x512",
    )
    response_format: Literal["b64_json", "url"] = setting("b64_json", "How an image is returned.")
    output_format: Literal["png", "jpeg", "webp"] = setting("png", "The file format of the images.")
    output_compression: int = setting(100, "Quality of JPEG and WebP files in percent.", ge=0, le=100)
    background: Literal["auto", "opaque"] = setting("auto", "Images are always opaque.")
    stream: bool = setting(False, "Return images as server-sent events, as they are finished.")
    partial_images: int = setting(0, "Predictions of each image that a stream shows on the way.", ge=0, le=3)
    user: str | None = setting(None, "Identifies an end user; network calls are shared fairly among users.")
    safety_identifier: str | None = setting(None, "The newer name of `user`.")
    trajectory: bool = setting(
        False, "Streams only: show the prediction of every step (of 60 at most) as a JPEG file, not `partial_images`."
    )
    seed: int | None = setting(
        None, "Seed of the first image; further images use consecutive seeds.", shown="random", ge=0, le=MAX_SEED
    )
    negative_prompt: str | None = setting(None, "A prompt to guide away from.")
    towards: str | None = setting(None, "A second prompt to interpolate to.")
    towards_share: float | None = setting(
        None,
        "The place between the prompt (0) and `towards` (1). By default, the images are evenly spaced between both, "
        "with the same seed.",
        shown="evenly spaced",
        example=0.5,
        ge=0,
        le=1,
    )
    like_share: float = setting(
        0.5, "The weight of the reference image `like` in its mixture with the prompt.", ge=0, le=1
    )
    strength: float | None = setting(
        None,
        "Edits only: how much of the image is replaced, from 0.001 (nothing) to 1 (everything).",
        shown="0.6; with a mask 1",
        ge=SMALLEST_STRENGTH,
        le=1,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_boolean(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[field.field_name or ""].annotation is not bool:
            raise PydanticCustomError("boolean", "true and false are no numbers here")
        return value

    @field_validator("prompt", "negative_prompt", "towards")
    @classmethod
    def _check_length(cls, value: str | None) -> str | None:
        if value and len(value) > LONGEST_PROMPT:
            raise ValueError(f"the prompt has {len(value):,} characters. Use at most {LONGEST_PROMPT:,}.")
        return value

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str | None) -> str | None:
        if value in (None, "auto"):
            return None
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value or "")
        if not found or not all(SMALLEST <= int(side) <= cls.largest for side in found.groups()):
            raise ValueError(
                f"`size` must be `auto` or WIDTHxHEIGHT with sides from {SMALLEST} to {cls.largest} pixels, not "
                f"{value!r}. Try `size=512x512`."
            )
        return value

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Width and height asked for, in pixels."""
        if self.size is None:
            return None
        width, height = self.size.split("x")
        return int(width), int(height)

    @property
    def owner(self) -> str | None:
        """The end user whom the request is for."""
        return self.safety_identifier or self.user

    def sampling(self, defaults: SamplingConfig, sizes: list[int]) -> SamplingConfig:
        """Return the sampling settings: those given, or the defaults.

        Args:
            defaults: the settings of the server.
            sizes: the sizes of the model's stages. Sampling stops at the first that is as large as the size asked for.
        """
        given = {name: getattr(self, name) for name in SETTINGS if name in self.model_fields_set}
        if self.pixels:
            given["size"] = next((size for size in sizes if size >= max(self.pixels or ())), sizes[-1])
        return defaults.replace(**given)


def request_model(config: ServeConfig, sampling: SamplingConfig) -> type[ImageRequest]:
    """Return the type of requests: with sampling settings among its fields, and the server's limits and defaults."""
    fields: dict[str, Any] = {}
    for name in SETTINGS:
        field = SamplingConfig.model_fields[name]
        limits = list(field.metadata)
        if name == "steps":
            limits = [limit for limit in limits if not isinstance(limit, Le)] + [Le(config.max_steps)]
        kind = Annotated[field.annotation, *limits] if limits else field.annotation
        fields[name] = (kind, setting(getattr(sampling, name), field.description or ""))
    made = create_model("ImageRequest", __base__=ImageRequest, **fields)
    made.largest = config.max_size
    return made


def parse(model: type[ImageRequest], fields: dict[str, Any]) -> ImageRequest:
    """Validate the fields of a request; null means not given.

    Raises:
        CaptionlessError: a field is invalid, or asks for what does not exist here.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        "".join(value for value in given.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise CaptionlessError("the request contains half a character (a lone surrogate). Send UTF-8.") from error
    for name in REJECTED:
        if name in given:
            raise CaptionlessError(
                f"`{name}` is not supported. Leave it out.", parameter=name, code="unsupported_parameter"
            )
    return model(**given)


def ignored(model: type[ImageRequest], fields: Iterable[str]) -> list[str]:
    """Return a remark about each field that has no meaning here but nearly the name of one that has."""
    remarks = []
    for name in itertools.islice(fields, MOST_NAMES):
        if name not in model.model_fields and (
            close := get_close_matches(name[:LONGEST_NAME], model.model_fields, 1, 0.8)
        ):
            remarks.append(f"`{name}` was ignored. Did you mean `{close[0]}`?")
    return remarks


USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0} | {
    f"{side}_tokens_details": {"image_tokens": 0, "text_tokens": 0} for side in ("input", "output")
}
"""Clients require this field, but nothing is counted in tokens here."""

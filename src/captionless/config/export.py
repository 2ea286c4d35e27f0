"""The options of ``captionless export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationInfo, field_validator

from captionless.config.base import Config, setting

Target = Literal["hub", "diffusers", "onnx", "web"]


class ExportRequest(Config):
    """Which model to export, in which form, and where to write it."""

    model: str = setting(
        ..., "A model folder, 'bundled', or user/repo[@revision] on the Hub.", flag="", metavar="MODEL"
    )
    to: Target = setting(
        ...,
        "`hub` is a folder for the Hugging Face Hub, `diffusers` a pipeline for that library, `onnx` a folder for "
        "programs in other languages, and `web` a page that generates images in the browser.",
        metavar="TARGET",
    )
    out: Path | None = setting(
        None, "The folder to write; it must be missing or empty.", shown="required without `push`", metavar="FOLDER"
    )
    push: str | None = setting(
        None,
        "Upload the folder to this repository on the Hugging Face Hub, which is created if it does not exist. Log in "
        "first (`hf auth login`, or HF_TOKEN).",
        metavar="USER/REPO",
    )
    public: bool = setting(False, "Let everyone see a repository that `push` creates; without it, only you do.")
    license: str | None = setting(
        None,
        "The licence of the weights as the Hub writes it, such as apache-2.0 or cc-by-4.0.",
        shown="that of the model card",
        panel="Model card",
        metavar="ID",
    )
    report: Path | None = setting(
        None, "A report of `captionless evaluate`, whose figures are stated.", metavar="FOLDER"
    )
    prompts: tuple[str, ...] = setting(
        (),
        "A prompt to show an example image of. Repeatable.",
        shown="the classes, or the names of the training images' sub-folders",
        flag="--prompt",
        metavar="TEXT",
    )

    runtime: Path | None = setting(
        None,
        "The folder `dist` of the npm package onnxruntime-web, for `to=web`.",
        shown="downloaded once, 33 MB",
        panel="Web page",
        metavar="FOLDER",
    )

    @field_validator("runtime")
    @classmethod
    def _check_runtime(cls, runtime: Path | None, info: ValidationInfo) -> Path | None:
        if runtime is not None and info.data.get("to") != "web":
            raise ValueError("`runtime` has an effect with `to=web` only. Leave `runtime` out.")
        return runtime

    @field_validator("push")
    @classmethod
    def _check_target(cls, push: str | None, info: ValidationInfo) -> str | None:
        if push is not None and info.data.get("to") == "web":
            raise ValueError("`push` is for models, not for a web page. Pass `out=DIR`, and copy it to a web host.")
        return push

    @field_validator("public")
    @classmethod
    def _check_push(cls, public: bool, info: ValidationInfo) -> bool:
        if public and info.data.get("push") is None:
            raise ValueError("`public` has no effect without `push`. Add `push`, or leave `public` out.")
        return public

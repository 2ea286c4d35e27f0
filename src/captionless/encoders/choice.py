"""Choose an encoder for a folder of images: the bundled one, CLIP, or one learned from the names of the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL.Image import Image
from torch import Tensor

from captionless.data.decode import BACKGROUND
from captionless.data.images import sample_images
from captionless.data.stored import File
from captionless.encoders.digest import BUNDLED_DIGESTS
from captionless.encoders.dual_encoder import Encoder, load_encoder
from captionless.encoders.hub import BUNDLED, BUNDLED_FOLDER, CLIP, cached_folder, is_name_encoder
from captionless.encoders.image_texts import image_texts
from captionless.encoders.learning import learn_encoder, missing_words
from captionless.errors import CaptionlessError
from captionless.paths import quoted
from captionless.progress import Progress, Silent
from captionless.tensor_files import read_about, read_tensors

AUTO = "auto"
DOMAIN = "domain.safetensors"
"""File of an encoder with vectors of images that it was trained on."""
_SAMPLE = 48
"""Number of images that the choice is based on."""
_ENOUGH = 1_000
"""Number of vectors of a folder that tell whether its images are in a domain."""


def choose_encoder(
    name: str,
    folder: str | Path,
    *,
    device: str = "cpu",
    learned: Path | None = None,
    hold_out: float = 0.0,
    background: str = BACKGROUND,
    files: Sequence[File] | None = None,
    progress: Progress | None = None,
) -> tuple[Encoder, str]:
    """Load the encoder ``name``, or choose an encoder for the images if ``name`` is ``"auto"``.

    ``auto`` selects the bundled encoder if the images are in its domain (see `in_domain_score`), else `CLIP` if it is
    in the local hub cache, else an encoder learned from the names of the images. It never uses the network.

    Args:
        name: ``"auto"``, or a name accepted by `load_encoder`.
        folder: the folder of images.
        device: the torch device to compute on.
        learned: where an encoder learned from names is written, or was by an interrupted run; by default ``auto`` does
            not learn one.
        hold_out: share of the images not to learn from.
        background: colour behind transparent images, if an encoder is learned.
        files: those files of the folder that the choice is to be based on; by default all.
        progress: receives progress and messages, such as the download size before a download.

    Returns:
        The encoder, and its name with the reason for the choice, to be printed and recorded.

    Raises:
        CaptionlessError: as in `load_encoder`; or the encoder is ``auto``, and the folder has no usable image or no
            encoder is at hand. The message then lists the ways to get one.
    """
    if name != AUTO:
        return load_encoder(name, device, progress=progress), f"{name}, as requested"
    images = sample_images(folder, _SAMPLE, files)
    bundled = load_encoder(BUNDLED, device)
    score, threshold = in_domain_score(bundled, images)
    figures = f"score {score:.2f}, threshold {threshold:.2f}"
    if score >= threshold:
        return bundled, f"bundled, because the images are in its domain ({figures})"
    reason = f"the images are outside the domain of the bundled encoder ({figures})"
    if cached_folder(CLIP):
        return load_encoder(CLIP, device), f"{CLIP}, because {reason}"
    if learned is not None and is_name_encoder(learned):
        how = "learned from the names of the images by an earlier run (delete it to learn it again)"
        return load_encoder(str(learned), device), f"{learned}, {how}"
    texts = image_texts(folder, files)
    missing = missing_words([*texts.values()])
    if learned is not None and not missing:
        _, quality = learn_encoder(
            folder, learned, texts=texts, hold_out=hold_out, background=background, progress=progress or Silent()
        )
        how = f"learned from the names of the images because {reason}; {quality}"
        return load_encoder(str(learned), device), f"{learned}, {how}"
    raise _no_encoder(folder, texts, figures, missing)


def _no_encoder(folder: str | Path, names: Iterable[str], figures: str, missing: str) -> CaptionlessError:
    """Return an error that lists the ways to train without the bundled encoder, the easiest first."""
    ways = []
    if not missing:
        command = f"`captionless encoder {quoted(folder)} --out ENCODER`"
        ways.append(f"learn an encoder from the names: {command}, then `encoder=ENCODER`")
    if len({name.split("/")[0] for name in names if "/" in name}) > 1:
        ways.append("train on the sub-folders as classes, without words: `classes=True`")
    ways.append("use a local folder with the files of CLIP or another dual encoder: `encoder=FOLDER`")
    ways.append(f"download CLIP (605 MB): `encoder={CLIP}`")
    return CaptionlessError(
        f"no encoder at hand knows these images: the bundled one knows little but flowers ({figures}), and {CLIP}, "
        f"which knows most things, is not in the local cache. {missing and f'{missing} '}You can "
        f"{'; '.join(f'({number}) {way}' for number, way in enumerate(ways, 1))}.",
        parameter="encoder",
        code="no_encoder",
    )


def in_domain_score(encoder: Encoder, images: Sequence[Image]) -> tuple[float, float]:
    """Score how similar images are to the photographs that an encoder was trained on.

    The score of an image is its mean cosine similarity to its nearest neighbours among a sample of these photographs,
    whose vectors are stored in the encoder's file ``DOMAIN``. The score of several images is the median of their
    scores, which is robust to outliers.

    Returns:
        The score, in [-1, 1], and the minimum score of images in the encoder's domain.

    Raises:
        CaptionlessError: the encoder's domain file is missing (only the bundled encoder has one) or damaged.
    """
    return _domain_score(encoder, encoder.encode_images(images))


def outside_domain(encoder: Encoder, vectors: Tensor) -> str:
    """Return a remark on image vectors, (n, d), outside the domain of the encoder that computed them, else ""."""
    if not (encoder.folder / DOMAIN).exists():
        return ""
    score, threshold = _domain_score(encoder, vectors[:: len(vectors) // _ENOUGH + 1].float())
    if score >= threshold:
        return ""
    return (
        f"The images are unlike those that the encoder {encoder.name} learned from (score {score:.2f}, threshold "
        f"{threshold:.2f}): it can hardly tell them apart, or find them by words. A training without `start_from` and "
        "`encoder` chooses an encoder that knows them."
    )


def _domain_score(encoder: Encoder, vectors: Tensor) -> tuple[float, float]:
    """Return the score of image vectors, (n, d), and the minimum score of the encoder's domain."""
    path = encoder.folder / DOMAIN
    try:
        own = BUNDLED_DIGESTS.image if encoder.folder == BUNDLED_FOLDER else ""
        reference, about = read_tensors(path, own)["reference"].float(), read_about(path)
        neighbours, threshold = int(about["neighbours"]), float(about["threshold"])
    except (CaptionlessError, KeyError, ValueError, TypeError) as error:
        raise CaptionlessError(
            f"the encoder's domain cannot be read from {path}. Choose an encoder with `encoder`, or "
            "reinstall captionless if this is the bundled encoder."
        ) from error
    cosines = vectors @ reference.T
    nearest = cosines.topk(min(neighbours, len(reference)), dim=1).values
    return float(nearest.mean(1).quantile(0.5)), threshold

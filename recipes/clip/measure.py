"""Measure captionless with CLIP on folders that are not flowers: one command, from the download to the table.

    python recipes/clip/measure.py --out runs/clip
    python recipes/clip/measure.py --out runs/mine --folders birds=PHOTOS/birds coins=PHOTOS/coins
    python recipes/clip/measure.py --out runs/check --folders flowers=FLOWERS --encoder stand-in --minutes 2 --size 32

The sub-folders of a folder name the kinds that its images show. For each folder a model is trained, with a fifth of the
images held out, and sampled by every bridge. Whatever is interrupted goes on with the same command. OUT receives
results.jsonl, table.md and a sheet of samples for each folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from folders import PUBLIC, public_folder
from present import ROWS, read_results, sheet, table
from standin import NAME as STAND_IN
from standin import load_stand_in
from torch import Tensor

import captionless
from captionless.conditioning import nearest
from captionless.config.evaluation import ClassifierConfig
from captionless.device import default_device
from captionless.encoders import BUNDLED, CLIP, Encoder, write_vectors
from captionless.evaluation.classifier import ReferenceClassifier, train_reference
from captionless.evaluation.data import EvaluationData, load_evaluation_data
from captionless.evaluation.metrics import kid, share
from captionless.generation.writer import ImageWriter
from captionless.progress import choose_progress

HELD_OUT = 0.2
JUDGE = ClassifierConfig()


@dataclass(frozen=True)
class Subject:
    """A folder, the model that was trained on it, and what its samples are measured by."""

    name: str
    prompts: tuple[str, ...]  # one for each class of the judge
    data: EvaluationData
    generator: captionless.Generator
    judge: ReferenceClassifier

    @property
    def encoder(self) -> Encoder:
        return self.generator.encoder

    @property
    def held_out(self) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the held-out images (n, d), and the index of each one's class (n,)."""
        images, classes = self.data.held_out, self.judge.classes
        of_a_class = [i for i, label in enumerate(images.labels) if label in classes]
        kinds = torch.tensor([classes.index(str(images.labels[i])) for i in of_a_class], dtype=torch.long)
        return images.conditions[of_a_class], kinds


def prompt_about(kind: str, pattern: str = "a photo of {}") -> str:
    """Return the sentence about a kind."""
    words = " ".join(kind.replace("_", " ").replace("-", " ").split())
    return pattern.format(f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}")


def prepare(name: str, folder: Path, encoder: Encoder, asked: argparse.Namespace) -> Subject:
    """Embed a folder, train its model (or continue), and train the classifier that judges its samples."""
    model, progress = asked.out / name / "model", choose_progress(None)
    bound: dict[str, Any] = {"encoder": encoder.name}
    if asked.encoder == STAND_IN:  # the library trains on its vectors as a table, which fits the bundled encoder
        found = captionless.embed(folder, encoder)
        table = asked.out / name / "vectors.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        write_vectors(table, found.names, found.vectors)
        bound = {"encoder": BUNDLED, "vectors": table}
    settings = {"size": asked.size, "minutes": asked.minutes, "hold_out": HELD_OUT, **bound}
    captionless.train(folder, model, resume=True, **settings)
    generator = captionless.load(model, encoder)
    data = load_evaluation_data(folder, generator, generator.model.config.size, progress)
    judge = train_reference(data.everything, progress, config=JUDGE)
    pattern = PUBLIC[name].prompt if not asked.folders else "a photo of {}"
    return Subject(name, tuple(prompt_about(kind, pattern) for kind in judge.classes), data, generator, judge)


def measure_encoder(subject: Subject) -> dict[str, Any]:
    """Measure how words find images: recall among held-out images, geometry, size of the neighbourhoods."""
    texts, (images, kinds) = subject.encoder.encode_texts(subject.prompts), subject.held_out
    cosines, right = texts @ images.T, kinds == torch.arange(len(texts)).unsqueeze(1)
    among = nearest(texts, subject.generator.model.bridge_data.bank).weights.double()
    pairs = (images @ images.T)[~torch.eye(len(images), dtype=torch.bool)]
    figures = retrieval(cosines, right) | {
        "matched_cosine": float(cosines[right].mean()),
        "unmatched_cosine": float(cosines[~right].mean()),
        "image_cosine_5_50_95": pairs.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist(),
        "logit_scale": subject.encoder.logit_scale,
        "effective_images": float(torch.special.entr(among).sum(1).exp().mean()),
        "train_images": len(subject.data.seen),
        "held_out_images": len(images),
    }
    return figures | real_images(subject)


def retrieval(cosines: Tensor, right: Tensor) -> dict[str, float]:
    """Return how often texts find right images, given cosines and truth, both (texts, images).

    ``recall_at_k``: share of texts with a right image among the k nearest; ``precision_at_10``: share of right ones
    among the ten nearest.
    """
    found = right.gather(1, cosines.topk(min(10, cosines.shape[1]), dim=1).indices).float()
    recall = {f"recall_at_{k}": float(found[:, :k].amax(1).mean()) for k in (1, 10)}
    return recall | {"precision_at_10": float(found.mean())}


def real_images(subject: Subject) -> dict[str, Any]:
    """Return the figures of real held-out images, next to which those of samples are read."""
    images, kinds = subject.held_out
    ceiling = subject.judge.ceiling(torch.arange(len(subject.prompts)))
    of_kinds = [images[kinds == kind] for kind in range(len(subject.prompts))]
    return {
        "recognised": asdict(ceiling) if ceiling else None,
        "kid": kid_x_1000(images, subject.data.seen.conditions),
        "cosine_within_prompt": float(np.mean([mean_cosine(own) for own in of_kinds if len(own) > 1])),
    }


def measure_row(subject: Subject, row: str, n: int, folder: Path) -> dict[str, Any]:
    """Sample n images of every prompt, keep them in ``folder``, and measure them."""
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    samples = subject.generator.generate(subject.prompts, n, seed=0, **ROWS[row])
    writer = ImageWriter(folder)
    for sample in samples:
        writer.add(sample)
    images = [sample.image.convert("RGB") for sample in samples]
    vectors = subject.encoder.encode_images(images)
    wanted = torch.arange(len(subject.prompts)).repeat_interleave(n)
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    found = subject.judge.classify(pixels)
    return {
        "recognised": asdict(share(int((found == wanted).sum()), len(wanted))),
        "kid": kid_x_1000(subject.held_out[0], vectors),
        "cosine_within_prompt": float(np.mean([mean_cosine(own) for own in vectors.split(n)])),
    }


def kid_x_1000(real: Tensor, other: Tensor) -> float:
    """Return KID times 1000 of unit vectors (n, d) and (m, d), with elements scaled to about 1 for its kernel."""
    return 1000 * kid(real * real.shape[1] ** 0.5, other * other.shape[1] ** 0.5)


def mean_cosine(vectors: Tensor) -> float:
    """Return the mean cosine of two of n unit vectors (n, d)."""
    n = len(vectors)
    return float((vectors.sum(0).square().sum() - n) / (n * (n - 1)))


def circumstances(subject: Subject, asked: argparse.Namespace) -> dict[str, Any]:
    """Return what a figure depends on; it is measured again if any of this has changed."""
    device = torch.cuda.get_device_name() if default_device().type == "cuda" else default_device().type
    training, size = subject.generator.model.config.training, subject.generator.model.config.size
    numbers = {"images_seen": training.images_seen, "size": size, "images_per_class": asked.images_per_class}
    versions = {"captionless": captionless.__version__, "torch": torch.__version__}
    versions |= {"transformers": transformers.__version__, "python": platform.python_version()}
    return {"encoder": asked.encoder, **numbers, "minutes": asked.minutes, "device": device, "versions": versions}


def measure(subject: Subject, asked: argparse.Namespace) -> None:
    """Append a line to results.jsonl for the encoder and for every row that is not there yet."""
    known, where = read_results(asked.out), circumstances(subject, asked)
    for row in ("encoder", *ROWS):
        before = known.get((subject.name, row), {})
        if where.items() <= before.items():
            continue
        started = time.monotonic()
        if row == "encoder":
            figures = measure_encoder(subject)
        else:
            figures = measure_row(subject, row, asked.images_per_class, asked.out / subject.name / row)
        line = {"folder": subject.name, "row": row, **figures, "seconds": round(time.monotonic() - started, 1), **where}
        with (asked.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/clip"))
    parser.add_argument("--folders", nargs="+", default=[], metavar="NAME=FOLDER", help="instead of the public folders")
    parser.add_argument("--encoder", default=CLIP, help=f"a hub id, a folder, or {STAND_IN}; default: {CLIP}")
    parser.add_argument("--minutes", type=float, default=30, help="of training per folder")
    parser.add_argument("--images-per-class", type=int, default=8, help="samples per prompt, at least 2")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    asked = parser.parse_args(words)
    if asked.images_per_class < 2 or not all("=" in one for one in asked.folders):
        parser.error("--images-per-class is at least 2, and --folders are given as NAME=FOLDER")
    device = str(default_device())
    encoder = load_stand_in(device) if asked.encoder == STAND_IN else captionless.load_encoder(asked.encoder, device)
    own = {name: Path(folder) for name, _, folder in (one.partition("=") for one in asked.folders)}
    for name in own or PUBLIC:
        measure(prepare(name, own.get(name) or public_folder(name, asked.out / "folders"), encoder, asked), asked)
        sheet(asked.out / name).save(asked.out / f"{name}.png")
        (asked.out / "table.md").write_text(table(read_results(asked.out)), encoding="utf-8")
    print((asked.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

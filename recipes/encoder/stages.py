"""The tenth attribute, stage: bud, opening, open or seed head. Captions tell it; the records have no field for it.

The image tower was trained without it. Its vectors hold the stage nevertheless, so that a sentence about a stage has a
place among them: `stage_targets` finds it, and the text tower learns it (`stage_lesson`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lexicon import held_out
from photographs import Photograph
from sentences import FRAMES, GROUP, KINDS, Attribute, article, in_frames, plural
from torch import Tensor
from torch.nn import functional as F

STAGES = ("bud", "opening", "open", "seed head")
BESIDE = 0.3
"""The weight of a photograph whose bud is not what its caption names first, as in "a rose with a bud beside it"."""

_HEAD_ENDS = r",|\b(?:with|and|beside|behind|against|before|in|on|from|among|near|under|next|over|at|by|to|of)\b"
_SEEDS = r"\bseed|\bclocks?\b|\bpuff|\bfluff|\btufts?\b|\bparachute|\bbald\b|\bglobe\b|\bball\b|\b(?:bare|blown)\b"
_BUD = r"\b(?:rose)?buds?\b"
_OPENING = r"\bopening\b|\bhalf[- ](?:open|opened|closed)\b|\bpartly closed\b"
_OVER = r"\bwither|\bdried\b|\bdrying\b|\bfad(?:ed|ing)\b|\bbare\b|\bold\b|\bspent\b"

WORDINGS: dict[str, tuple[str, ...]] = {
    "bud": (
        *("{} bud", "closed {}", "closed {} bud", "unopened {}", "{} still in bud", "tight {} bud", "small {} bud"),
        *("bud of a {}", "{} that is not open yet", "{} before it opens", "tightly closed {}", "young {} bud"),
    ),
    "opening": (
        *("half-open {}", "half open {}", "opening {}", "{} just opening", "{} about to open", "partly open {}"),
        *("{} unfurling its petals", "half-open {} bud", "opening {} bud"),
    ),
    "open": ("open {}", "fully open {}", "wide open {}", "{} in full bloom", "full-blown {}", "{} fully opened"),
    "seed head": ("{} seed head", "{} gone to seed", "{} with ripe seeds", "head of {} seeds", "{} in seed"),
}
"""Wordings of each stage, about "rose", "red rose", "flower" and so on."""

NAMES: dict[tuple[str, str], tuple[str, ...]] = {
    ("dandelion", "seed head"): (
        *("dandelion clock", "dandelion puff", "dandelion puffball", "puffball", "puff ball of seeds", "seed clock"),
        *("fluffy seed ball", "fluffy white seed head", "round fluffy seed head", "dandelion fluff", "dandelion ball"),
        *("head of seeds with parachutes", "pappus of a dandelion", "wishing flower", "flower you blow on"),
        *("taraxacum seed clock", "downy dandelion head", "globe of dandelion seeds", "white puffball of seeds"),
        *("dandelion with white fluff", "dandelion that can be blown", "dandelion after flowering"),
        *("seeds of a dandelion", "dandelion seeds", "ball of parachute seeds", "feathery dandelion head"),
    ),
    ("rose", "bud"): ("rosebud", "closed rosebud", "tight rosebud", "single rosebud", "unopened rosebud"),
    ("rose", "opening"): ("half-open rosebud", "opening rosebud", "rosebud just opening"),
}
"""Names of a flower at one stage. "{colour} {name}" is said too."""


def stages(record: Photograph) -> dict[str, float]:
    """Return the stages that a caption tells, with weights; empty where it tells none.

    A seed head is a flower other than a yellow or a sunflower with words such as seed, clock, puff or half-bare. A bud
    or an opening flower is named so, by the words before the caption's first preposition. A flower is open if its
    caption tells neither this nor that it withers; a dandelion only if it is yellow. A caption with another flower's
    bud tells that as well, with the weight ``BESIDE``.
    """
    caption = record.caption.lower()
    head = re.split(_HEAD_ENDS, caption, maxsplit=1)[0]
    if record.flower != "none" and re.search(_SEEDS, caption):
        if record.flower == "dandelion" and record.petals not in ("yellow", "orange"):
            return {"seed head": 1.0}
        if record.flower == "other" and "seed head" in caption:
            return {"seed head": 1.0}
    if record.flower not in KINDS:
        return {}
    found = {}
    if re.search(rf"{_BUD}|\bclosed\b", head):
        found["bud"] = 1.0
    if re.search(_OPENING, caption):
        found["opening"] = 1.0
    if not found and not re.search(_OVER, caption) and (record.flower != "dandelion" or record.petals == "yellow"):
        found["open"] = 1.0
    if "bud" not in found and re.search(_BUD, caption):
        found["bud"] = BESIDE
    return found


def stage(record: Photograph) -> str | None:
    """Return the first stage that a caption tells with full weight, as a class."""
    return next((name for name in STAGES if stages(record).get(name) == 1.0), None)


def stage_wordings(name: str) -> list[str]:
    """Return sentences about a stage only."""
    return in_frames(*(article(pattern.format("flower")) for pattern in WORDINGS[name]))


STAGE = Attribute("stage", 0.0, stage, stage_wordings)
"""The tenth attribute. Its weight is that in the training of the image tower, which does not learn it."""


@dataclass(frozen=True)
class Cell:
    """Sentences that mean the same: a kind of flower ("flower" is any) at a stage, in a colour or in any ("")."""

    kind: str
    stage: str
    colour: str = ""

    def wordings(self) -> list[str]:
        """Return what the cell is called, without article."""
        flower = f"{self.colour} {self.kind}".strip()
        named = (f"{self.colour} {name}".strip() for name in NAMES.get((self.kind, self.stage), ()))
        generic = ("bud", "flower bud") if (self.kind, self.stage, self.colour) == ("flower", "bud", "") else ()
        generic += ("seed head",) if (self.kind, self.stage) == ("flower", "seed head") else ()
        found = [*(pattern.format(flower) for pattern in WORDINGS[self.stage]), *named, *generic]
        return [text for text in dict.fromkeys(found) if not held_out(text)]

    def sentences(self) -> list[str]:
        """Return the wordings as sentences."""
        found = []
        for number, text in enumerate(self.wordings()):
            one = text if re.search(r"\bseeds of|fluff$|dandelion seeds$", text) else article(text)
            found += [one, text, FRAMES[1 + number % (len(FRAMES) - 1)].format(one)]
            last = re.fullmatch(rf"(?!.* (?:of a|still in) )(.*\b)({self.kind}|bud|seed head|clock|puff)", text)
            found += [last[1] + plural(last[2])] if last else []
        return list(dict.fromkeys(found))

    def weights(self, records: Sequence[Photograph]) -> Tensor:
        """Return how much each photograph is what the cell means, (n,), sum 1; zeros if none is.

        Where a colour is named, photographs of the same stage in other colours count a fifth, all together.
        """
        shown = torch.tensor([stages(record).get(self.stage, 0.0) for record in records])
        if self.kind != "flower":
            shown *= torch.tensor([float(record.flower == self.kind) for record in records])
        if not self.colour:
            return shown / shown.sum().clamp(min=1e-6)
        group = GROUP.get(self.colour, self.colour)
        ours = shown * torch.tensor([float(GROUP.get(record.petals) == group) for record in records])
        if not ours.sum():
            return ours
        rest = shown - ours
        return 0.8 * ours / ours.sum() + 0.2 * (rest / rest.sum() if rest.sum() else ours / ours.sum())


def cells(records: Sequence[Photograph]) -> Iterator[Cell]:
    """Yield every cell that a photograph shows: of each kind and of any, in each of its colours and in any."""
    seen = set()
    for record in records:
        for name in stages(record):
            colour = record.petals if record.petals in GROUP else ""
            colours = dict.fromkeys(("", colour, GROUP.get(colour, "")))
            kinds = ("flower", record.flower) if record.flower in KINDS else ("flower",)
            seen |= {Cell(kind, name, said) for kind in kinds for said in colours}
    yield from sorted(seen, key=lambda cell: (cell.kind, cell.stage, cell.colour))


def stage_targets(
    weights: Tensor, start: Tensor, banks: Sequence[Tensor], scale: float, near: float = 0.5, steps: int = 200
) -> Tensor:
    """Return the place of each cell among the image vectors: unit vectors (n, d).

    A place ranks the photographs as the cell's weights do (cross-entropy of the softmax over all of them), and stays
    near its captions.

    Args:
        weights: (n, m), each row of sum 1.
        start: text vectors to stay near, of unit length, (n, d): the mean of the captions of each cell's photographs.
        banks: unit vectors (m, d) of the photographs, one tensor per view.
        scale: inverse temperature of the softmax.
        near: weight of the cosine to ``start``.
        steps: optimisation steps.
    """
    place = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([place], lr=0.02)
    for step in range(steps):
        unit = F.normalize(place, dim=1)
        ranking = -(weights * (scale * unit @ banks[step % len(banks)].T).log_softmax(1)).sum(1)
        loss = (ranking - near * (unit * start).sum(1)).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return F.normalize(place.detach(), dim=1)

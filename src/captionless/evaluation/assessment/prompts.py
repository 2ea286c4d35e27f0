"""Choose the prompts of an assessment for each class to be graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from captionless.conditioning.classes import list_classes
from captionless.data.labels import normalise_label
from captionless.errors import CaptionlessError
from captionless.evaluation.classifier.train import MINIMUM
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt, photo_of

ClassPrompts = Mapping[str, tuple[str, ...]]
"""For each class to be graded, in the classifier's order, its prompts."""

LeftOut = tuple[tuple[str, str], ...]
"""(class, why) of those that are not graded."""


def class_prompts(
    generator: Generator, known: Sequence[str], few: Sequence[str], prompts: Sequence[Prompt] | None
) -> tuple[ClassPrompts, LeftOut]:
    """Return the prompts of each class, and the classes that cannot be graded.

    Args:
        generator: the model.
        known: the classifier's labels.
        few: labels of the folder with too few images for it.
        prompts: those of a file; None names the classes.

    Raises:
        CaptionlessError: a prompt without a label, or with one that the classifier does not have; or there is nothing
            to grade.
    """
    too_few = tuple((label, f"the folder has fewer than {MINIMUM} different images of it") for label in few)
    if prompts is not None:
        found = _of_file(known, few, prompts)
        return found, (*((label, "no prompt has this label") for label in known if label not in found), *too_few)
    if not generator.classes:
        return {label: (photo_of(label).text,) for label in known}, too_few
    common = {label: (label,) for label in known if label in generator.classes}
    if not common:
        raise CaptionlessError(
            f"the model {generator.model.name} and the folder have no class in common. "
            f"{list_classes(generator.classes)} The folder's labels are: {', '.join(known[:10])}. Use a folder with "
            "the model's classes or, if the classes only have different names, map them with `prompts`: a file with "
            f'lines such as {{"prompt": "{generator.classes[0]}", "label": "{known[0]}"}}.'
        )
    missing = ((label, "the folder has no images of it") for label in generator.classes if label not in (*known, *few))
    unknown = ((label, "the model has no such class") for label in known if label not in common)
    return common, (*missing, *unknown, *too_few)


def _of_file(known: Sequence[str], few: Sequence[str], prompts: Sequence[Prompt]) -> ClassPrompts:
    found: dict[str, list[str]] = {}
    for prompt in prompts:
        label = prompt.label and normalise_label(prompt.label)
        if label is None:
            reason = 'has no label. Write JSON lines such as {"prompt": "a red rose", "label": "rose"}.'
        elif label in few:
            reason = (
                f"has the label {label}, but the folder has fewer than {MINIMUM} different images with that label. "
                "Add some."
            )
        elif label not in known:
            reason = f"has the label {label}, which the folder lacks. Its labels are: {', '.join(known)}."
        else:
            found.setdefault(label, []).append(prompt.text)
            continue
        raise CaptionlessError(f"`prompts`: {prompt.text!r} {reason}")
    return {label: tuple(found[label]) for label in known if label in found}


def spread(texts: Sequence[str], n: int) -> list[str]:
    """Return the prompts of ``n`` images, spread evenly over ``texts``, those of one prompt together."""
    return [texts[i * len(texts) // n] for i in range(n)]

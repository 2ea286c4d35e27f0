"""What a model is asked for in an assessment: of each class that is to be graded, prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from captionless.conditioning.classes import list_classes
from captionless.data.labels import normalise_label
from captionless.errors import CaptionlessError
from captionless.evaluation.classifier.train import MINIMUM
from captionless.generation.generator import Generator
from captionless.generation.prompts import Prompt, photo_of

Asked = Mapping[str, tuple[str, ...]]
"""For each class to be graded, in the order of the classifier's, the prompts that ask for it."""

LeftOut = tuple[tuple[str, str], ...]
"""(class, why) of those that are not graded."""

_WRITE = 'Write JSON lines such as {"prompt": "a red rose", "label": "rose"}.'


def what_to_ask(
    generator: Generator, known: Sequence[str], few: Sequence[str], prompts: Sequence[Prompt] | None
) -> tuple[Asked, LeftOut]:
    """Return what to ask a model for, and which classes cannot be graded.

    Args:
        generator: the model.
        known: the labels that the classifier knows.
        few: labels of the folder with too few pictures for it.
        prompts: those of a file; None asks for classes by their names.

    Raises:
        CaptionlessError: a prompt without a label, or with one that the classifier does not know; or there is nothing
            to grade.
    """
    too_few = tuple((label, f"the folder has fewer than {MINIMUM} different pictures of it") for label in few)
    if prompts is not None:
        asked = _of_prompts(known, few, prompts)
        return asked, (*((label, "no prompt asks for it") for label in known if label not in asked), *too_few)
    if not generator.classes:
        return {label: (photo_of(label).text,) for label in known}, too_few
    common = {label: (label,) for label in known if label in generator.classes}
    if not common:
        raise CaptionlessError(
            f"the model {generator.model.name} and the folder have no class in common. "
            f"{list_classes(generator.classes)} The folder's labels are: {', '.join(known[:10])}. "
            "Name a folder of the model's classes; or, if they are only "
            'called differently, say which is which: --prompts FILE with lines such as {"prompt": '
            f'"{generator.classes[0]}", "label": "{known[0]}"}}.'
        )
    strange = (label for label in generator.classes if label not in (*known, *few))
    missing = ((label, "the folder has no pictures of it") for label in strange)
    unasked = ((label, "the model has no such class") for label in known if label not in common)
    return common, (*missing, *unasked, *too_few)


def _of_prompts(known: Sequence[str], few: Sequence[str], prompts: Sequence[Prompt]) -> Asked:
    asked: dict[str, list[str]] = {}
    for prompt in prompts:
        if prompt.label is None:
            raise CaptionlessError(f"--prompts: {prompt.text!r} has no label to be graded by. {_WRITE}")
        label = normalise_label(prompt.label)
        if label in few:
            raise CaptionlessError(
                f"--prompts: the folder has fewer than {MINIMUM} different pictures labelled {label}, too few to learn "
                "from. Add some, or leave its prompts out."
            )
        if label not in known:
            raise CaptionlessError(
                f"--prompts: {prompt.text!r} is labelled {label}, and the folder has no such label. Its labels are: "
                f"{', '.join(known)}."
            )
        asked.setdefault(label, []).append(prompt.text)
    return {label: tuple(asked[label]) for label in known if label in asked}


def spread(texts: Sequence[str], n: int) -> list[str]:
    """Return the prompts of ``n`` pictures, each prompt's together, spread evenly over ``texts``."""
    return [texts[i * len(texts) // n] for i in range(n)]

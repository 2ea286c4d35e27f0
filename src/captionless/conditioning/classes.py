"""Map class names to one-hot conditions, and check requested classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from captionless.data.labels import normalise_label
from captionless.errors import CaptionlessError, shorten

_MOST_LISTED = 40


def one_hot(names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Return the one-hot conditions for class names, float32, shape (n, len(classes)).

    Raises:
        CaptionlessError: a name is not among ``classes``.
    """
    indices = torch.tensor(class_indices(names, classes), dtype=torch.int64)
    return torch.zeros(len(names), len(classes)).scatter_(1, indices[:, None], 1.0)


def class_indices(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the index of each name in ``classes``.

    Raises:
        CaptionlessError: a name is not among ``classes``; the message suggests a similar class.
    """
    indices = {name: index for index, name in enumerate(classes)}
    for name in names:
        if normalise_label(name) not in indices:
            folded = {known.casefold(): known for known in classes}
            similar = difflib.get_close_matches(normalise_label(name).casefold(), folded, n=1)
            hint = f" Did you mean {folded[similar[0]]}?" if similar else ""
            message = f"there is no class {name!r}.{hint} {list_classes(classes)}"
            raise CaptionlessError(message, parameter="classes", value=name)
    return [indices[normalise_label(name)] for name in names]


def list_classes(classes: Sequence[str]) -> str:
    """Return a sentence that lists at most the first 40 classes."""
    return f"The classes are: {', '.join(shorten(classes, _MOST_LISTED, 'more (`captionless info` lists them)'))}."


def check_classes(model: str, classes: Sequence[str], names: Sequence[str], words: bool) -> None:
    """Check that a request has prompts for a text-conditional model, or known classes for a class-conditional model.

    Args:
        model: the model's name.
        classes: the classes that the model was trained on; empty for a text-conditional model.
        names: the requested classes.
        words: whether the request has prompts.

    Raises:
        CaptionlessError: the request has classes for a text-conditional model, prompts or nothing for a
            class-conditional model, or an unknown class.
    """
    if not classes and names:
        raise CaptionlessError(
            f"the model {model} was trained without classes. Omit `classes` and write a prompt instead, such as "
            f'"a photo of a {names[0]}".'
        )
    if classes and (words or not names):
        raise CaptionlessError(
            f"the model {model} is class-conditional: it takes class names instead of prompts. Choose one with "
            f"`classes`. {list_classes(classes)}"
        )
    class_indices(names, classes)

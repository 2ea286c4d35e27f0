"""Measure how good a model is, and whether it memorised its training images, in comparison with real images.

    prompts ────────────────────────► generated images ──► text alignment, memorisation
    held-out images ──► conditions ──► generated images ──► fidelity and diversity, memorisation

``metrics`` holds pure functions of tensors; ``run`` evaluates models, ``sections`` measure one aspect each, and
``report`` writes the results. ``classifier`` recognises what images show, and so passes or fails a model.
"""

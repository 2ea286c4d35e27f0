"""Measure the quality of a model in comparison with real images, and test whether it memorised its training images.

    prompts ────────────────────────► generated images ──► text alignment, memorisation
    held-out images ──► conditions ──► generated images ──► fidelity and diversity, memorisation

``metrics`` contains pure functions of tensors. ``run`` evaluates models, each module of ``sections`` measures one
aspect, and ``report`` writes the results. ``classifier`` recognises what images show, to test a model class by class.
"""

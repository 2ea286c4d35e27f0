"""How good a model is, and whether it has merely memorised: figures with ranges, beside those of photographs.

    held-out pictures ──► their vectors ──► painted pictures ──► likeness, memorisation
    prompts ──────────────────────────────► painted pictures ──► faithfulness to words, memorisation

The modules of figures are pure functions of tensors; ``measure`` gathers, paints and measures; ``report`` shows it.
"""

SAMPLES = 500
"""Pictures painted from held-out pictures' vectors, at most, unless another number is asked for."""

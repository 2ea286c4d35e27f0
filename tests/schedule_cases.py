"""Every noise schedule, with the options that change what it does."""

from __future__ import annotations

from hypothesis import strategies as st

from captionless.diffusion.schedules import (
    AnySchedule,
    CosineSchedule,
    FlowSchedule,
    KarrasSchedule,
    LinearSchedule,
    SigmoidSchedule,
)

EVERY: dict[str, AnySchedule] = {
    "cosine": CosineSchedule(),
    "cosine-cut": CosineSchedule(9.0, -11.0),
    "sigmoid": SigmoidSchedule(),
    "sigmoid-late": SigmoidSchedule(0.0, 10.0),
    "karras": KarrasSchedule(),
    "linear": LinearSchedule(),
    "linear-150": LinearSchedule(150),
    "linear-zero": LinearSchedule(zero_terminal_snr=True),
    "flow": FlowSchedule(),
}

PRESERVING = {name: schedule for name, schedule in EVERY.items() if name != "flow"}


def sigmoids() -> st.SearchStrategy[SigmoidSchedule]:
    ends = st.tuples(st.floats(-30, 10), st.floats(0, 1))
    return ends.map(lambda end: SigmoidSchedule(end[0], min(30.0, end[0] + 0.11 + end[1] * (29.8 - end[0]))))


ANY = st.one_of(
    st.builds(CosineSchedule, log_snr_max=st.floats(0.5, 20), log_snr_min=st.floats(-20, 0)),
    sigmoids(),
    st.builds(KarrasSchedule, sigma_min=st.floats(1e-5, 0.1), sigma_max=st.floats(1, 1e5), rho=st.floats(1, 100)),
    st.builds(
        LinearSchedule,
        steps=st.integers(2, 400),
        beta_start=st.floats(1e-6, 0.01),
        beta_end=st.floats(0.01, 0.05),
        zero_terminal_snr=st.booleans(),
    ),
    st.just(FlowSchedule()),
)
"""All that the schedules allow (of the linear ones: with few enough steps for a test)."""

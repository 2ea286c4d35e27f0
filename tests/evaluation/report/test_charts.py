"""The contract of captionless.evaluation.report.charts: where figures lie on their scale."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionless.evaluation.metrics import Estimate
from captionless.evaluation.report.charts import EDGE, SPACING, Bar, Scale, scale

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
estimates = st.lists(numbers, min_size=3, max_size=3).map(lambda x: Estimate(sorted(x)[1], min(x), max(x), 9))
scales = st.builds(scale, st.lists(estimates, min_size=1, max_size=6), bent=st.booleans())


def test_an_even_scale_is_even() -> None:
    even = Scale(0, 10)
    assert [even.at(value) for value in (0, 2.5, 5, 10)] == [EDGE, 26, 50, 100 - EDGE]
    assert even.bar(Estimate(5, 2.5, 10, 9)) == Bar(50, 26, 98)


def test_a_bent_scale_is_even_near_zero_and_logarithmic_beyond() -> None:
    bent = Scale(-1000, 1000, bend=0.1)
    assert bent.at(0.02) - bent.at(0) == pytest.approx(2 * (bent.at(0.01) - bent.at(0)), abs=0.02)
    assert bent.at(1000) - bent.at(100) == pytest.approx(bent.at(100) - bent.at(10), abs=0.02)
    assert bent.at(-7) + bent.at(7) == pytest.approx(100)


@given(scales, numbers, numbers)
def test_larger_values_never_lie_further_left(on: Scale, a: float, b: float) -> None:
    assert EDGE <= on.at(min(a, b)) <= on.at(max(a, b)) <= 100 - EDGE


@given(st.lists(estimates, min_size=1, max_size=6), st.booleans())
def test_a_scale_holds_zero_and_all_that_is_shown(shown: list[Estimate], bent: bool) -> None:
    on = scale(shown, bent=bent)
    slack = 1e-6 * (on.high - on.low)
    assert on.low <= 0 <= on.high
    assert all(on.low - slack <= one.low <= one.high <= on.high + slack for one in shown)


@given(scales)
def test_an_axis_has_round_numbers_in_order_that_do_not_touch(on: Scale) -> None:
    ticks = on.ticks()
    assert len(ticks) >= 2
    assert all(b.at - a.at >= SPACING - 0.02 for a, b in pairwise(ticks))
    assert all(on.at(float(tick.text.replace("−", "-"))) == pytest.approx(tick.at, abs=0.05) for tick in ticks)
    assert "0" in [tick.text for tick in ticks]


def test_shares_end_at_100_percent() -> None:
    on = scale([Estimate(0.93, 0.9, 0.96, 50)], percent=True)
    assert [tick.text for tick in on.ticks()] == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_small_shares_are_not_crowded_at_the_edge() -> None:
    on = scale([Estimate(0.004, 0.001, 0.013, 550)], percent=True)
    assert on.high <= 0.02


def test_an_axis_leaves_room_for_its_outermost_numbers() -> None:
    ticks = scale([Estimate(5, 0, 10, 9)]).ticks()
    assert [tick.anchor for tick in ticks] == ["start", "middle", "middle", "middle", "middle", "end"]


def test_a_scale_bends_only_where_values_span_much() -> None:
    near, far = Estimate(1, 0.9, 1.1, 9), Estimate(90, 80, 100, 9)
    assert scale([near, far], bent=True).bend is not None
    assert scale([near, far]).bend is None
    assert scale([far, far], bent=True).bend is None


def test_small_values_stay_apart_on_a_bent_scale() -> None:
    shown = [Estimate(v, v * 0.9, v * 1.1, 9) for v in (0.5, 2, 10, 90)]
    places = [scale(shown, bent=True).at(one.value) for one in shown]
    assert min(b - a for a, b in pairwise(places)) > 10


@pytest.mark.parametrize(
    "shown", [[], [Estimate(0, 0, 0, 5)], [Estimate(math.nan, 0, 1, 5)], [Estimate(0, 0, 1e-300, 5)]]
)
@pytest.mark.parametrize("bent", [False, True])
def test_where_there_is_nothing_to_show_there_is_still_a_scale(shown: list[Estimate], bent: bool) -> None:
    assert scale(shown, bent=bent) == Scale(0, 1)


def test_what_is_no_number_has_no_bar_and_does_not_disturb_the_others() -> None:
    good, bad = Estimate(2, 1, 3, 9), Estimate(2, 1, math.inf, 9)
    on = scale([good, bad])
    assert on == scale([good])
    assert on.bar(bad) is None

"""Which pictures of a camera are taken: so many a second, no more, whatever else comes and whenever."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinipot.camera.rate import Rate

WANTED = st.sampled_from([0.5, 1.0, 2.0, 4.0, 10.0])


def taken(rate: Rate, times: list[float]) -> list[float]:
    return [time for time in times if rate.takes(time)]


@pytest.mark.parametrize("begun", [0.0, 0.8, 1e6])
@pytest.mark.parametrize("early", [0.0, 0.25])
def test_the_first_pictures_are_as_far_apart_as_the_others(begun, early):
    """However late a camera opens, and whenever somebody joins it."""
    for fps in (2.0, 5.0, 10.0):
        times = taken(Rate(fps, early), [begun + number / 25 for number in range(200)])
        gaps = [later - sooner for sooner, later in pairwise(times)]
        assert min(gaps) > (1 - early) / fps - 1 / 25 - 1e-6
        assert max(gaps) < 1 / fps + 1 / 25 + 1e-6
        assert len(times) == pytest.approx(8 * fps, abs=1)


@given(st.lists(st.floats(0.001, 3.0), min_size=2, max_size=60), WANTED, st.sampled_from([0.0, 0.25]))
def test_no_more_are_taken_than_are_wanted(waits, fps, early):
    """Over any time, but for one that was late and one that was early."""
    chosen = taken(Rate(fps, early), list(accumulate(waits)))
    for first, start in enumerate(chosen):
        for count, end in enumerate(chosen[first:], 1):
            assert count <= (end - start) * fps + 2 + early + 1e-6


@given(st.lists(st.floats(0.0, 0.24), min_size=2, max_size=60), WANTED)
def test_what_was_taken_at_a_rate_is_taken_again_at_the_same_rate(late, fps):
    """A camera takes what its decoder took at its rate, a little later: all of it, though not all as late."""
    sent = taken(Rate(fps), [number / 30 for number in range(round(30 * len(late) / fps))])
    times = [time + share / fps for time, share in zip(sent, late, strict=False)]
    assert taken(Rate(fps, 0.25), times) == times


@pytest.mark.parametrize("pause", [1.0, 1.3, 60.0])
def test_a_pause_is_followed_by_no_burst(pause):
    times = [number / 25 for number in (*range(25), *range(25 + round(25 * pause), 50 + round(25 * pause)))]
    first, second = (time for time in taken(Rate(2.0), times) if time > 1)
    assert second - first >= 0.5


def test_all_are_taken_where_nobody_says_how_many():
    times = [0.0, 0.001, 0.5, 0.5001, 7.0]
    assert taken(Rate(None), times) == times

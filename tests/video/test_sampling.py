from fractions import Fraction
from itertools import count, islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinipot.video.sampling import LONGEST, TOLERANCE, Picture, sample, spread, timed


def pictures_at(times, duration=0.1):
    """Pictures whose content is their index; each stays until the next, the last for `duration`."""
    return [Picture(time, duration, index) for index, time in enumerate(times)]


def sampled(times, fps, duration=0.1, **limits):
    return list(sample(pictures_at(times, duration), fps, **limits))


def oracle(times, fps, duration, start, end):
    """The last picture that came by each instant, by search over all of them, in exact arithmetic."""
    times = [Fraction(time) for time in times]
    stop = min(times[-1] + max(Fraction(duration), 2 * Fraction(TOLERANCE)), Fraction(end))
    instants = takewhile(
        lambda instant: Fraction(instant) + Fraction(TOLERANCE) < stop, (start + k / fps for k in count())
    )
    return [
        (instant, max(i for i, time in enumerate(times) if time <= Fraction(instant) + Fraction(TOLERANCE)))
        for instant in instants
    ]


@given(
    gaps=st.lists(st.integers(0, 3000), max_size=12),
    fps=st.sampled_from([0.3, 0.5, 1.0, 2.0, 7.5, 24.0, 30000 / 1001]),
    duration=st.integers(0, 2500).map(lambda ms: ms / 1000),
    start=st.sampled_from([0.0, 0.25, 1.0, 3.3]),
    length=st.sampled_from([0.5, 2.0, 100.0]),
)
def test_sampling_takes_what_is_on_show_at_each_instant(gaps, fps, duration, start, length):
    times = [sum(gaps[:n]) / 1000 for n in range(len(gaps) + 1)]
    found = sampled(times, fps, duration, start=start, end=start + length)
    assert found == oracle(times, fps, duration, start, start + length)


@given(gaps=st.lists(st.integers(0, 3000), max_size=12), start=st.floats(0, 5), length=st.floats(0.1, 9))
def test_every_frame_of_the_range_comes_once_at_its_own_time(gaps, start, length):
    times = [sum(gaps[:n]) / 1000 for n in range(len(gaps) + 1)]
    found = sampled(times, None, start=start, end=start + length)
    last_at = {time: index for index, time in enumerate(times)}  # of equal times the last is what is seen
    assert found == [
        (time, index) for time, index in last_at.items() if start - TOLERANCE <= time < start + length - TOLERANCE
    ]


@pytest.mark.parametrize("rate", [16, 24000 / 1001, 24, 25, 30000 / 1001, 30, 60])
@pytest.mark.parametrize("first", [0.0, 1.0335, 0.0625])
def test_times_rounded_to_milliseconds_lose_no_frame(rate, first):
    stamps = [round(first + k / rate, 3) for k in range(400)]
    found = sampled([stamp - stamps[0] for stamp in stamps], rate, duration=1 / rate)
    assert [index for _, index in found] == list(range(400))


@given(pictures=st.integers(1, 200), count=st.integers(1, 60), rate=st.sampled_from([2, 10, 24, 25, 30, 60]))
def test_spreading_takes_the_pictures_nearest_to_even_instants(pictures, count, rate):
    """By search over all pictures, in whole numbers; as `round(linspace(0, pictures - 1, count))`, each once."""
    found = list(spread(pictures_at([i / rate for i in range(pictures)], 1 / rate), count, 0.0, (pictures - 1) / rate))
    steps = max(count - 1, 1)

    def nearest_to(k: int) -> int:
        return min(range(pictures), key=lambda i: (abs(i * steps - k * (pictures - 1)), -i))

    nearest = [nearest_to(k) for k in range(count)]
    if all((2 * k * (pictures - 1) - steps) % (2 * steps) for k in range(count)):  # no instant is half-way
        assert nearest == [round(k * (pictures - 1) / steps) for k in range(count)]
    assert found == [(i / rate, i) for i in sorted(set(nearest))]


def test_a_held_picture_is_taken_again_and_a_short_one_is_not():
    found = sampled([0.0, 0.1, 0.2, 1.6], fps=2)
    assert found == [(0.0, 0), (0.5, 2), (1.0, 2), (1.5, 2)]


def test_the_last_picture_stays_for_its_duration():
    assert sampled([0.0, 1.0], fps=2, duration=1.0) == [(0.0, 0), (0.5, 0), (1.0, 1), (1.5, 1)]


def test_a_single_picture_without_duration_is_one_frame():
    assert sampled([0.0], fps=2, duration=0.0) == [(0.0, 0)]


def test_endless_sources_are_read_no_further_than_needed():
    read = []

    def endless():
        for index in count():
            read.append(index)
            yield Picture(index / 10, 0.1, index)

    assert [index for _, index in islice(sample(endless(), fps=2), 3)] == [0, 5, 10]
    assert len(read) == 12  # up to the one that ends the third frame's time on show
    read.clear()
    assert len(list(sample(endless(), fps=2, end=1.0))) == 2
    assert len(read) <= 11


def test_the_clock_starts_at_the_first_stamp():
    assert [p.time for p in timed([(-3.0, 1.0, "a"), (-1.5, 1.0, "b"), (0.0, 1.0, "c")])] == [0.0, 1.5, 3.0]


def test_a_missing_stamp_is_when_the_previous_picture_is_over():
    stamped = [(None, 0.5, "a"), (10.0, 0.5, "b"), (None, 0.25, "c"), (None, 0.5, "d"), (11.0, 0.5, "e")]
    assert [p.time for p in timed(stamped)] == [0.0, 0.5, 1.0, 1.25, 1.5]


def test_the_clock_goes_on_where_stamps_start_again():
    stamped = [(0.0, 1.0, "a"), (1.0, 1.0, "b"), (0.0, 1.0, "c"), (1.0, 1.0, "d")]
    assert [p.time for p in timed(stamped)] == [0.0, 1.0, 2.0, 3.0]


GAPS = st.lists(st.integers(10, 5000).map(lambda ms: ms / 1000), min_size=3, max_size=30)


def clocked(gaps, offsets):
    """True times of pictures, their times by stamps that are off, and where and by how much the clock jumped."""
    true = [sum(gaps[:number]) for number in range(len(gaps) + 1)]
    jumps = []
    stamped = [(time + by, gap, None) for time, by, gap in zip(true, offsets, [*gaps, 0.5], strict=True)]
    found = [picture.time for picture in timed(stamped, jumped=lambda time, by: jumps.append((time, by)))]
    return true, found, jumps


@given(GAPS, st.data(), st.sampled_from([-1e6, -40_000, -200, 1000, 37_600, 1e6]))
def test_one_wrong_stamp_moves_no_picture(gaps, data, by):
    wrong = data.draw(st.integers(1, len(gaps)))
    true, found, jumps = clocked(gaps, [by * (number == wrong) for number in range(len(gaps) + 1)])
    assert found == pytest.approx(true)
    assert jumps == [(pytest.approx(true[wrong]), pytest.approx(by))]


@given(GAPS, st.data(), st.sampled_from([-1e6, -40_000, -200, 200, 1000, 37_600]), st.integers(2, 4), st.floats(0, 30))
def test_wrong_stamps_in_a_row_move_no_picture(gaps, data, by, many, apart):
    """All wrong by the same, or each by something else; what comes behind them shows it."""
    wrong = data.draw(st.integers(1, max(1, len(gaps) - many)))
    many = min(many, len(gaps) - wrong)
    off = {number: by + apart * (number - wrong) for number in range(wrong, wrong + many)}
    offsets = [off.get(number, 0.0) for number in range(len(gaps) + 1)]
    true, found, jumps = clocked(gaps, offsets)
    assert found == pytest.approx(true)
    assert jumps == [(pytest.approx(true[number]), pytest.approx(each)) for number, each in off.items()]


@given(GAPS, st.data(), st.integers(2, 30))
def test_a_clock_that_stands_still_holds_no_picture_up(gaps, data, many):
    """As long as two pictures have one stamp they are two fields, or times that were rounded: not more."""
    true = [sum(gaps[:number]) for number in range(len(gaps) + 1)]
    stands = data.draw(st.integers(0, len(gaps) - 2))
    over = min(len(gaps), stands + many)
    stamps = [true[stands] if stands < number <= over else time for number, time in enumerate(true)]
    assert [picture.time for picture in timed(zip(stamps, [*gaps, 0.5], true, strict=True))] == pytest.approx(true)


@given(GAPS, st.data(), st.sampled_from([-1e6, -40_000, -200, 1000, 37_600, 1e6]))
def test_a_jump_for_good_moves_no_picture(gaps, data, by):
    jump = data.draw(st.integers(1, len(gaps) - 1))
    true, found, jumps = clocked(gaps, [by * (number >= jump) for number in range(len(gaps) + 1)])
    assert found == pytest.approx(true)
    assert jumps == [(pytest.approx(true[jump]), pytest.approx(by))]


@given(st.lists(st.one_of(st.none(), st.floats(-1e7, 1e7)), max_size=40), st.floats(0, 1e4))
def test_whatever_the_stamps_are_the_clock_neither_runs_back_nor_leaps(stamps, duration):
    found = list(timed((stamp, duration, None) for stamp in stamps))
    assert len(found) == len(stamps)
    times = [0.0, *(picture.time for picture in found)]
    assert all(0 <= after - before <= LONGEST + 1e-3 for before, after in pairwise(times))
    assert all(picture.duration <= LONGEST for picture in found)


def test_pictures_may_stay_as_long_as_they_are_said_to():
    found = timed([(1200.0 * number, 1200.0, None) for number in range(4)], longest=3600.0)
    assert [picture.time for picture in found] == [0.0, 1200.0, 2400.0, 3600.0]

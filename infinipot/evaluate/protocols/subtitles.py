"""Chooses the subtitles for a prompt, by the times of the frames. `rules.toml` names the functions."""

from collections.abc import Sequence

from infinipot.evaluate.records import Subtitle


def on_show(lines: Sequence[Subtitle], frame_times: Sequence[float]) -> str:
    """The subtitles shown at the time of a frame, a line each."""
    shown = "\n".join(line.text for line in lines if any(line.start <= at < line.end for at in frame_times))
    return shown if lines else "No subtitles available"


def among_frames(lines: Sequence[Subtitle], frame_times: Sequence[float]) -> str:
    """The subtitles that lmms-eval puts among the frames, a line each."""
    return "".join(f"{one}\n" for one in interleaved(lines, frame_times) if isinstance(one, str))


def words(lines: Sequence[Subtitle], frame_times: Sequence[float]) -> str:
    """All subtitles in one line."""
    return " ".join(line.text for line in lines)


def words_if_any(lines: Sequence[Subtitle], frame_times: Sequence[float]) -> str | None:
    """All of them in one line; None where there are none."""
    return words(lines, frame_times) or None


def interleaved(lines: Sequence[Subtitle], frame_times: Sequence[float]) -> list[int | str]:
    """Frames, by index, and subtitles in the order in which lmms-eval puts them.

    A line stands after the frames up to its middle, and is left out unless a frame lies within it; lines shorter
    than a second count as one second long.
    """
    order: list[int | str] = []
    placed = 0
    for line in lines:
        start, end = line.start, line.end
        middle = (start + end) / 2
        while placed < len(frame_times) and frame_times[placed] <= middle:
            order.append(placed)
            placed += 1
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if any(start < time < end for time in frame_times):
            order.append(line.text)
    return [*order, *range(placed, len(frame_times))]

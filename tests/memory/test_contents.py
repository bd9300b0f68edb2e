"""What a memory holds, told and drawn: against the memory's own columns, and pictures that stay bounded."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import infinipot
from infinipot import picture
from infinipot.cli import main
from infinipot.embedded.world import Clip
from infinipot.memory import Contents, HeldPatch
from infinipot.picture import History, draw_contents
from infinipot.video import Frame
from infinipot.video.thumbnails import Thumbnails


@pytest.fixture(scope="module")
def stream():
    with infinipot.load("embedded").stream(300, fps=2) as stream:
        for frame in Clip(10_001, 90, events=6, background="moving"):
            stream.watch(frame)
        yield stream


def test_it_tells_every_token_of_every_head(stream) -> None:
    contents, stats = stream.contents(), stream.stats()
    assert sum(patch.tokens for patch in contents.patches) == pytest.approx(stats.video_tokens, rel=1e-4)
    assert contents.over_frame().sum() == pytest.approx(stats.video_tokens, rel=1e-4)
    memory = stream._state.memory
    (group,) = memory.groups
    held = {name: group.columns[name][:, : memory.held].numpy() for name in ("patch", "cell", "time")}
    for patch in contents.patches:
        own = (held["patch"] == patch.number) & (held["cell"] >= 0)
        assert set(held["time"][own].tolist()) == {patch.time}
        counts = np.bincount(held["cell"][own], minlength=patch.cells.size).reshape(patch.cells.shape)
        assert np.allclose(counts / group.count, patch.cells)
    assert [patch.number for patch in contents.patches] == sorted(patch.number for patch in contents.patches)


def test_a_patch_has_the_time_of_a_frame(stream) -> None:
    assert {patch.time for patch in stream.contents().patches} <= {index / 2 for index in range(180)}


def test_telling_changes_nothing(stream) -> None:
    before = stream.ask("How many shapes have appeared so far?")
    assert stream.contents().as_dict() == stream.contents().as_dict()
    assert stream.ask("How many shapes have appeared so far?") == before


def test_an_empty_memory_holds_nothing(tmp_path: Path) -> None:
    with infinipot.load("embedded").stream(300) as stream:
        contents = stream.contents()
        assert contents.patches == ()
        assert contents.over_frame().shape == (1, 1)
        with pytest.raises(infinipot.InfinipotError, match="nothing to draw yet"):
            draw_contents(contents, History(), 300, tmp_path / "x.png", "x")


patches = st.lists(st.floats(0.01, 9), min_size=1, max_size=80).map(
    lambda tokens: Contents(
        tuple(HeldPatch(n, n / 2, np.full((3, 3), each / 9, np.float32)) for n, each in enumerate(tokens))
    )
)


@given(patches, st.integers(1, 12))
def test_those_shown_are_in_order_few_and_the_fullest_is_among_them(contents: Contents, most: int) -> None:
    shown = contents.fullest(most)
    assert len(shown) <= most
    assert [patch.number for patch in shown] == sorted({patch.number for patch in shown})
    if len(contents.patches) > most:
        assert max(patch.tokens for patch in shown) >= max(patch.tokens for patch in contents.patches) * (1 - 1e-6)


@given(patches)
def test_what_is_sent_is_what_is_held(contents: Contents) -> None:
    for sent, patch in zip(contents.as_dict()["patches"], contents.patches, strict=True):
        cells = np.frombuffer(base64.b64decode(sent["cells"]), np.uint8).reshape(sent["rows"], sent["columns"])
        assert np.abs(cells / 255 - patch.cells).max() <= 0.5 / 255 + 1e-6
    assert len(contents.as_dict(most=5)["patches"]) <= 5


def test_a_history_is_bounded_and_goes_to_the_end() -> None:
    history = History()
    for index in range(100_000):
        history.add(index / 2, index % 300, index)
    assert len(history.points) < 8000
    assert history.points[-1][0] > 49_900
    assert history.points == sorted(history.points)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_thumbnails_are_bounded_and_the_newest_is_among_them(steps: list[int], most: int) -> None:
    thumbnails, noise = Thumbnails(most, side=32, bytes_each=1500), np.random.default_rng(len(steps))
    for time in np.cumsum(steps).tolist():
        thumbnails.add(Frame(noise.integers(0, 256, (40, 60, 3), dtype=np.uint8), float(time)))
        assert len(thumbnails) <= most
        assert thumbnails.times[-1] == time
        at, held = thumbnails.nearest(float(time)) or (0.0, b"")
        assert at == time
        assert max(Image.open(io.BytesIO(held)).size) <= 32
        kept = [thumbnails.nearest(at) or (at, b"") for at in thumbnails.times]
        assert sum(len(file) for _, file in kept) <= thumbnails.reserved


def test_thumbnails_of_what_is_not_held_go() -> None:
    thumbnails = Thumbnails()
    for time in range(10):
        thumbnails.add(Frame(np.zeros((8, 8, 3), np.uint8), float(time)))
    thumbnails.keep([2.0, 5.0])
    assert thumbnails.times == (2.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    assert thumbnails.nearest(3.0) == thumbnails.nearest(2.0)


@pytest.mark.parametrize(("held", "looks"), [(2000, 80), (20, 29)])
def test_what_is_held_is_not_asked_for_again_where_that_frees_nothing(held: int, looks: int) -> None:
    thumbnails, asked = Thumbnails(most=96), 0
    for time in range(2000):
        thumbnails.add(Frame(np.zeros((1, 1, 3), np.uint8), float(time)), b"small")
        if thumbnails.crowded:
            asked += 1
            thumbnails.keep(thumbnails.times[-held:])
    assert asked == looks


def test_the_last_frame_of_a_patch_stands_for_it() -> None:
    thumbnails = Thumbnails(lasts=1.0)
    for number in range(12):
        thumbnails.add(Frame(np.full((8, 8, 3), number, np.uint8), number / 2))
    assert (thumbnails.nearest(2.0) or (0,))[0] == 2.5
    thumbnails.keep([0.0, 2.0])
    assert thumbnails.times == (0.5, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5)
    assert [(thumbnails.nearest(time) or (0,))[0] for time in (0.0, 1.0, 2.0, 9.0)] == [0.5, 0.5, 2.5, 5.5]


def test_what_is_counted_is_marked_at_whole_numbers() -> None:
    axes = Figure().subplots()
    axes.set(ylim=(0, 16))
    picture._plainly(axes)
    ticks = [float(tick) for tick in axes.get_yticks()]
    assert len(ticks) > 2
    assert all(tick.is_integer() for tick in ticks)


def test_watch_draws_what_the_memory_holds(tmp_path: Path) -> None:
    path = tmp_path / "held.png"
    question = "How many shapes have appeared so far?"
    args = ["watch", "demo://cuts?speed=40", "--model", "embedded", "--memory", "300", "--end", "60"]
    done = CliRunner().invoke(main, [*args, "--ask", question, "--picture", str(path)])
    assert done.exit_code == 0, done.output
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert (np.abs(pixels - 255).sum(2) > 60).mean() > 0.03
    wrong = CliRunner().invoke(main, [*args, "--ask", question, "--picture", str(tmp_path / "held.gif")])
    assert wrong.exit_code == 2
    assert ".png, .svg, .pdf" in wrong.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ask", "Who?"], "a camera does not end: give --end"),
        (["--start", "3", "--at", "5", "Who?"], "a camera, which begins now"),
    ],
)
def test_watch_says_what_a_camera_cannot_do(options: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["watch", "demo://still", "--model", "embedded", *options])
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize("size", [(1080, 1920), (333, 1001), (64, 64), (300, 3000)])
def test_the_small_picture_of_a_large_frame_shows_what_it_shows(size: tuple[int, int]) -> None:
    """It is made of a part of the pixels: as close to the frame, made small, as its JPEG is."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([255 * rows // height, 255 * columns // width, np.full(size, 90)], -1).astype(np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (250, 20, 20)
    thumbnails = Thumbnails()
    thumbnails.add(Frame(image, 0.0))
    made, whole = thumbnails.image(0.0), Image.fromarray(image)
    assert made is not None
    expected = np.asarray(whole.resize(made.shape[1::-1], Image.Resampling.BICUBIC)).astype(int)
    assert max(made.shape[:2]) == min(160, max(size))
    assert np.abs(made - expected).mean() < 8

"""Pixels are those that were stored: upright, in the right colours, and of the whole picture."""

import base64
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image, ImageOps, features

from infinipot.errors import VideoError
from infinipot.video import open_video
from support.video_files import FILES, encode, gray

needs_x264 = pytest.mark.skipif("libx264" not in av.codecs_available, reason="FFmpeg without libx264")


# --- orientation


def photo():
    """A picture of 96 x 64 that is another one however it is turned or mirrored."""
    shades = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(shades).resize((96, 64), Image.Resampling.BICUBIC)


def jpeg(orientation, quality=95):
    """The photo as a JPEG with an EXIF orientation, None: with EXIF that has none; and what Pillow shows."""
    exif = Image.Exif()
    if orientation is None:
        exif[0x010E] = "a photo"
    else:
        exif[0x0112] = orientation
    data = BytesIO()
    photo().save(data, "JPEG", exif=exif, quality=quality)
    return data.getvalue(), np.asarray(ImageOps.exif_transpose(Image.open(data)).convert("RGB"))


def mjpeg(path, pictures, rate=10):
    """Writes JPEG files as the pictures of a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for index, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.pts = packet.dts = index
            packet.duration, packet.time_base, packet.stream, packet.is_keyframe = 1, Fraction(1, rate), stream, True
            container.mux(packet)
    return path


def assert_like(image, expected):
    assert image.shape == expected.shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_a_jpeg_is_a_video_of_one_picture_upright_as_pillow_shows_it(tmp_path, orientation):
    data, expected = jpeg(orientation)
    (tmp_path / "photo.jpg").write_bytes(data)
    video = open_video(tmp_path / "photo.jpg")
    (frame,) = video
    assert_like(frame.image, expected)
    assert not video.incomplete
    assert len(list(open_video(tmp_path / "photo.jpg", fps=None, frames=8))) == 1


@pytest.mark.parametrize("ending", ["mov", "avi", "mkv"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_a_video_of_photos_is_upright_as_pillow_shows_them(tmp_path, ending, orientation):
    data, expected = jpeg(orientation)
    video = open_video(mjpeg(tmp_path / f"photos.{ending}", 20 * [data]))
    frames = list(video)
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5]
    for frame in frames:
        assert_like(frame.image, expected)
    assert not video.incomplete


def test_each_photo_has_its_own_orientation(tmp_path):
    pictures = [jpeg(orientation) for orientation in range(1, 9)]
    frames = list(open_video(mjpeg(tmp_path / "photos.mov", [data for data, _ in pictures]), fps=None))
    for frame, (_, expected) in zip(frames, pictures, strict=True):
        assert_like(frame.image, expected)


@needs_x264
@pytest.mark.parametrize("ending", ["ts", "h264"])
@pytest.mark.parametrize("b_pictures", ["0", "3"])
def test_an_orientation_that_only_key_pictures_have_lasts_until_the_next(tmp_path, ending, b_pictures):
    """H.264 has it in supplemental information (SEI)."""
    turn = None

    def turned(packets, stream):
        nonlocal turn
        turn = turn or BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        made = [(out, packet) for packet in packets for out in turn.filter(packet)]
        for out, packet in made:
            if packet.time_base is not None:
                out.time_base = packet.time_base  # which PyAV 15.0 forgets
        return [out for out, _ in made]

    stored = np.asarray(photo())
    path = encode(tmp_path / f"a.{ending}", 40 * [stored], "libx264", change=turned, g="10", bf=b_pictures)
    frames = list(open_video(path, fps=None))
    assert len(frames) == 40
    for frame in frames:
        assert_like(frame.image, np.rot90(stored))
    (later,) = open_video(path, fps=None, start=1.5, end=1.6)
    assert_like(later.image, np.rot90(stored))


# --- colours

PATCHES = np.array(
    [
        *[(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (200, 120, 40)],
        *[(30, 60, 200), (128, 128, 128), (16, 16, 16), (235, 235, 235), (255, 255, 255), (0, 0, 0), (90, 200, 120)],
        *[(180, 30, 90), (60, 60, 10)],
    ]
)
WEIGHTS = {  # of red and blue in luma: ITU-R BT.709-6 item 3.2, BT.601-7 item 2.5.1, BT.2020-2 table 4
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),  # nothing is said
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    9: (0.2627, 0.0593),
}


def coded(space, full, depth=8):
    """`PATCHES` as luma and chroma `[16, 3]`, as the standards write it down."""
    red, blue = WEIGHTS[space]
    r, g, b = PATCHES.T / 255
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = np.stack([(b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)])
    codes = [255 * y, *(128 + 255 * chroma)] if full else [16 + 219 * y, *(128 + 224 * chroma)]
    return np.clip(np.round(np.stack(codes, 1)), 0, 255).astype(np.uint8)


def coloured(path, space, colour_range, pixel_format="yuv420p", codec="ffv1"):
    """A video of `PATCHES` in a square of 4 x 4, lossless or nearly."""
    squares = np.kron(coded(space, colour_range == 2).reshape(4, 4, 3), np.ones((16, 16, 1), np.uint8))
    frame = av.VideoFrame(64, 64, pixel_format)
    for number, plane in enumerate(frame.planes):
        step = 64 // plane.width
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = squares[::step, ::step, number]
        plane.update(padded.tobytes())
    frame.colorspace, frame.color_range = space, colour_range
    frame.pts, frame.time_base = 0, Fraction(1, 10)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={} if codec == "ffv1" else {"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = space, colour_range
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def seen(path):
    (frame,) = open_video(path)
    return frame.image.reshape(4, 16, 4, 16, 3)[:, 4:12, :, 4:12].mean((1, 3)).reshape(16, 3)


@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("colour_range", [0, 1, 2], ids=["not said", "limited", "full"])
@pytest.mark.parametrize("space", list(WEIGHTS), ids=["BT.709", "not said", "BT.470BG", "BT.601", "BT.2020"])
def test_colours_are_those_of_the_standards(tmp_path, space, colour_range, pixel_format, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg without {codec}")
    path = coloured(tmp_path / "colours.mkv", space, colour_range, pixel_format, codec)
    assert np.abs(seen(path) - PATCHES).max() <= 3


def test_colours_may_change_inside_a_stream_of_videos(tmp_path):
    """What one video set up in FFmpeg's scaler means nothing to the next."""
    for space in (1, 5, 9, 6, 1, 2):
        path = coloured(tmp_path / "colours.mkv", space, 1, "yuv444p")
        assert np.abs(seen(path) - PATCHES).max() <= 3


@pytest.mark.parametrize(("ending", "codec", "pixel_format"), [("mov", "png", "rgb24"), ("mkv", "ffv1", "bgr0")])
def test_pictures_without_luma_are_taken_as_they_are(tmp_path, ending, codec, pixel_format):
    squares = PATCHES.reshape(4, 4, 3).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    frame = av.VideoFrame.from_ndarray(squares, format="rgb24").reformat(format=pixel_format)
    frame.pts, frame.time_base = 0, Fraction(1, 10)
    with av.open(str(tmp_path / f"a.{ending}"), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert np.array_equal(seen(tmp_path / f"a.{ending}"), PATCHES)


@pytest.mark.parametrize("colour_range", [0, 2], ids=["not said", "full"])
def test_gray_pictures_are_full_where_nothing_is_said(tmp_path, colour_range):
    frame = av.VideoFrame.from_ndarray(gray(31)[:, :, 0] + np.uint8(7), format="gray")
    frame.pts, frame.time_base, frame.color_range = 0, Fraction(1, 10), colour_range
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.color_range = colour_range
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (shown,) = open_video(tmp_path / "a.mkv")
    assert (shown.image == 255).all()


# --- tiles


def test_a_picture_of_tiles_is_whole():
    if not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    (shown,) = open_video(FILES / "grid.avif")
    with Image.open(FILES / "grid.avif") as image:
        assert image.size == (512, 512)
        assert np.array_equal(shown.image, np.asarray(image.convert("RGB")))


def test_a_picture_of_tiles_is_no_tile(monkeypatch):
    """Where Pillow cannot put them together either."""
    monkeypatch.setattr("infinipot.video.source.is_pillows", lambda address: False)
    with pytest.raises(VideoError, match="made of tiles"):
        open_video(FILES / "grid.avif")


# --- animations


def animation(folder, ending, **options):
    """Ten pictures, the fifth of which stays for two seconds, the others for a fifth of one."""
    stay = [2000 if number == 4 else 200 for number in range(10)]
    first, *others = [Image.fromarray(np.full((48, 64, 3), 20 * number, np.uint8)) for number in range(10)]
    first.save(folder / f"a.{ending}", save_all=True, append_images=others, duration=stay, **options)
    return folder / f"a.{ending}"


@pytest.mark.parametrize("ending", ["webp", "png", "gif"])
def test_an_animation_is_a_video(tmp_path, caplog, ending):
    path = animation(tmp_path, ending, **({"lossless": True} if ending == "webp" else {}))
    video = open_video(path, fps=None)
    found = [(round(frame.time, 3), round(float(frame.image.mean()) / 20)) for frame in video]
    assert found == [(round(0.2 * number + (1.8 if number > 4 else 0), 3), number) for number in range(10)]
    assert video.duration == pytest.approx(3.8)
    assert not video.incomplete
    assert [round(float(frame.image.mean()) / 20) for frame in open_video(path)] == [0, 2, 4, 4, 4, 4, 6, 8]
    assert [round(frame.time, 3) for frame in open_video(path, fps=None, frames=2)] == [0.0, 3.6]
    held = "data:image/x;base64," + base64.b64encode(path.read_bytes()).decode()
    assert len(list(open_video(held, fps=None))) == 10
    assert not caplog.records


def test_an_animation_that_is_cut_gives_what_is_there_or_an_error_of_ours(tmp_path):
    path = animation(tmp_path, "webp", lossless=True)
    data = path.read_bytes()
    for length in (30, len(data) // 2, len(data) - 8):
        path.write_bytes(data[:length])
        try:
            video = open_video(path, fps=None)
            assert len(list(video)) < 10
            assert video.incomplete
        except VideoError as error:
            assert "a.webp" in str(error)  # noqa: PT017

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
from infinipot.video.interlaced import without_combs
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


# --- HDR


def pq(light):
    """The signal of a brightness in cd/m² (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (light / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg(light):
    """The signal of a gray brightness in cd/m² on a display of 1,000 (ARIB STD-B67, BT.2100-2 note 5f)."""
    scene = (light / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def hdr(path, signal, transfer, primaries=9):
    """A video of 16 colours `[16, 3]`, RGB from 0 to 1, of 10 bits, BT.2020 and limited range."""
    red, blue = WEIGHTS[9]
    r, g, b = signal.T
    y = red * r + (1 - red - blue) * g + blue * b
    planes = [64 + 876 * y, 512 + 896 * (b - y) / (2 - 2 * blue), 512 + 896 * (r - y) / (2 - 2 * red)]
    frame = av.VideoFrame(64, 64, "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((64, plane.line_size // 2), "<u2")
        padded[:, :64] = np.round(values).reshape(4, 4).repeat(16, 0).repeat(16, 1)
        plane.update(padded.tobytes())
    frame.pts, frame.time_base, frame.colorspace, frame.color_range = 0, Fraction(1, 10), 9, 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_trc = 9, 1, transfer
        context.color_primaries = primaries
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


needs_transfer = pytest.mark.skipif(not hasattr(av.VideoFrame, "color_trc"), reason="PyAV does not tell the transfer")
IN_BT2020 = np.array(  # BT.2087-0: linear components of BT.709 as those of BT.2020
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


@needs_transfer
@pytest.mark.parametrize("primaries", [9, 1], ids=["BT.2020", "BT.709"])
def test_what_a_standard_display_can_show_too_looks_the_same_in_pq(tmp_path, primaries):
    patches = PATCHES * 0.6  # under a half of white, where nothing is compressed
    light = 203 * (patches / 255) ** 2.4
    path = hdr(tmp_path / "a.mkv", pq(light @ IN_BT2020.T if primaries == 9 else light), 16, primaries)
    assert np.abs(seen(path) - patches).max() <= 8  # of a component that is nearly none, in 10 bits
    assert np.abs(seen(path) - patches).mean() <= 1.5


@needs_transfer
@pytest.mark.parametrize(("transfer", "signal"), [(16, pq), (18, hlg)], ids=["PQ", "HLG"])
def test_bright_grays_are_compressed_in_order_and_stay_gray(tmp_path, transfer, signal):
    light = np.array([0, 1, 5, 10, 20, 30, 50, 80, 120, 160, 203, 300, 400, 600, 800, 1000.0])
    found = seen(hdr(tmp_path / "a.mkv", np.stack(3 * [signal(light)], 1), transfer))
    assert np.ptp(found, axis=1).max() <= 1
    grays = found[:, 1]
    dark = light <= 80
    assert np.abs(grays[dark] - 255 * (light[dark] / 203) ** (1 / 2.4)).max() <= 2
    assert (np.diff(grays) > 0).all() or grays[-1] == grays[-2] == 255
    assert 215 < grays[10] < 245  # white
    assert grays[-1] >= 254


# --- pixels that are not square


@pytest.mark.parametrize(("aspect", "told"), [("64/45", "narrow"), ("3/4", "wide"), ("12/11", ""), ("0", "")])
def test_pixels_that_are_not_square_are_taken_as_stored_and_told(tmp_path, caplog, aspect, told):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray(number), format="rgb24")))
        container.mux(stream.encode(None))
    assert all(frame.image.shape == (48, 64, 3) for frame in open_video(tmp_path / "a.mkv", fps=None))
    assert [record.getMessage().split("pictures look ")[1].split(";")[0] for record in caplog.records] == [told] * bool(
        told
    )


# --- two instants in one picture


def scene(time, height=96, width=128):
    """A red disc that crosses a pattern from left to right."""
    row, column = np.mgrid[:height, :width]
    pattern = 128 + 60 * np.sin(column / 9) * np.cos(row / 13)
    image = np.stack([pattern, 0.8 * pattern, 255 - pattern], -1)
    image[(column - 30 - 300 * time) ** 2 + (row - height / 2) ** 2 < 400] = [230, 40, 30]
    return image.astype(np.uint8)


def woven(first, second):
    both = first.copy()
    both[1::2] = second[1::2]
    return both


def off(image, expected):
    return np.abs(image.astype(int) - expected).mean()


@needs_x264
@pytest.mark.parametrize("size", [(96, 128), (94, 126)])
def test_what_moves_in_interlaced_pictures_is_not_torn(tmp_path, size):
    pairs = [(scene(number / 25, *size), scene(number / 25 + 0.02, *size)) for number in range(6)]
    both = [woven(*pair) for pair in pairs]
    options = {"crf": "1", "x264-params": "tff=1"}
    interlaced = encode(tmp_path / "i.mp4", both, "libx264", 25, pixel_format="yuv444p", **options)
    as_stored = encode(tmp_path / "p.mp4", both, "libx264", 25, pixel_format="yuv444p", crf="1")
    for frame, stored, (first, _) in zip(
        open_video(interlaced, fps=None), open_video(as_stored, fps=None), pairs, strict=True
    ):
        assert frame.image.shape == first.shape
        assert off(frame.image, first) < 0.5 * off(stored.image, first)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 96, 97])
def test_where_nothing_moves_interlaced_pictures_stay_as_they_are(height):
    still = scene(0, height)
    assert np.array_equal(without_combs(still), still)
    torn = woven(still, scene(0.1, height))
    assert np.array_equal(without_combs(torn)[::2], still[::2])
    assert off(without_combs(torn), still) <= off(torn, still)


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

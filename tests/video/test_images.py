import math
from io import BytesIO
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from infinipot.errors import FrameError
from infinipot.video import Frame, as_frame

RGB = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
ALPHA = np.full((5, 6, 1), 7, np.uint8)
RGBA = np.concatenate([RGB, ALPHA], axis=2)
TENSOR = torch.from_numpy(RGB)


def closed_image():
    image = Image.fromarray(RGB)
    image.close()
    return image


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        RGBA,
        RGB[:, ::-1][:, ::-1],
        RGB / 255,
        (RGB / 255).astype(np.float32),
        TENSOR,
        TENSOR.permute(2, 0, 1),
        torch.from_numpy(RGBA).permute(2, 0, 1),
        (TENSOR.permute(2, 0, 1) / 255).requires_grad_(),
        Image.fromarray(RGB),
        Image.fromarray(RGBA),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'dtype', getattr(image, 'mode', ''))}",
)
def test_pictures_of_every_kind_give_the_same_frame(image):
    frame = as_frame(image, 1.5)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    assert np.array_equal(frame.image, RGB)
    assert frame.time == 1.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_right_to_its_own_precision(dtype):
    frame = as_frame((TENSOR / 255).to(dtype), 0.0)
    assert np.abs(frame.image.astype(int) - RGB).max() <= 1


@pytest.mark.parametrize(
    "gray",
    [
        RGB[..., 0],
        RGB[..., :1],
        torch.from_numpy(RGB[..., 0]),
        TENSOR[None, ..., 0],
        Image.fromarray(RGB[..., 0]),
    ],
)
def test_gray_pictures_are_repeated_to_rgb(gray):
    assert np.array_equal(as_frame(gray, 0).image, np.repeat(RGB[..., :1], 3, axis=2))


def test_palette_images_show_their_colors():
    image = Image.fromarray(np.full((2, 2, 3), (255, 0, 0), np.uint8)).convert("P")
    assert as_frame(image, 0).image[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied():
    image, file = Image.fromarray(RGB), BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(file, format="png", exif=exif)
    assert np.array_equal(as_frame(Image.open(file), 0).image, np.rot90(RGB, -1))


def test_the_frame_owns_its_pixels():
    for image in (RGB.copy(), TENSOR.clone()):
        frame = as_frame(image, 0)
        image[:] = 0
        assert np.array_equal(frame.image, RGB)


def test_floating_point_pictures_are_rounded():
    assert as_frame(np.full((5, 6, 3), 0.999), 0).image.max() == 255
    assert as_frame(np.full((5, 6, 3), 0.001), 0).image.max() == 0


@pytest.mark.parametrize("beside", [1e-9, 1e-7, 0.0019])
def test_rounding_errors_of_a_resized_picture_are_no_other_range(beside):
    image = np.full((5, 6, 3), 0.5, np.float32)
    image[0], image[1] = 1 + beside, -beside
    frame = as_frame(image, 0)
    assert [int(row.mean()) for row in frame.image[:3]] == [255, 0, 128]


def test_16_bits_of_gray_are_scaled_and_not_cut_off(tmp_path):
    levels = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert image.mode == "I;16"
        assert np.array_equal(as_frame(image, 0).image, np.arange(256).reshape(16, 16, 1).repeat(3, axis=2))


def test_a_frame_is_checked_and_not_copied():
    frame = Frame(RGB, 2.0)
    assert as_frame(frame) is frame
    assert as_frame(frame, 3.0).time == 3.0
    assert as_frame(frame, 3.0).image is RGB


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (RGB.astype(np.uint16), "uint16"),
        (RGB.astype(np.int64), r"int64 \[5, 6, 3\].*uint8"),
        (RGB > 3, "bool"),
        (RGB.astype(np.float32), r"spans \d to 2\d\d"),
        (RGB / 255 - 0.5 * (RGB > 0), "spans -0.4"),
        (np.full((4, 6, 3), math.nan), "nan"),
        (np.full((4, 6, 3), math.inf), "inf"),
        (np.zeros((0, 6, 3), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3)), "no pixels"),
        (np.zeros((0, 0), np.uint8), "no pixels"),
        (RGB.transpose(2, 0, 1), "channels last"),
        (np.zeros((4, 6, 2), np.uint8), r"\[4, 6, 2\]"),
        (np.zeros(6, np.uint8), r"\[6\]"),
        (RGB[None], r"\[1, 5, 6, 3\]"),
        (TENSOR.int(), "int32"),
        (TENSOR.to("meta"), "a picture cannot be read from this tensor.*meta"),
        (TENSOR.to_sparse(), r"a picture cannot be read from this tensor.*dense\(\)"),
        (closed_image(), "could not be read.*closed"),
        (Image.new("La", (4, 4)), "could not be read.*La"),
        (Image.new("I", (4, 4)), "mode 'I' has no range"),
        (Image.new("F", (4, 4)), "array.*from 0 to 1"),
        (np.full((4, 6, 3), 1.003), "spans 1.003 to 1.003"),
        ("street.jpg", "not a str"),
        (None, "not a NoneType"),
        (Frame(RGB[..., 0], 0.0), r"uint8 \[5, 6\]"),
        (Frame(RGB / 255, 0.0), "float64"),
        (Frame(RGB[:0], 0.0), "no pixels"),
        (Frame(cast(Any, TENSOR), 0.0), "Tensor"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(image, says):
    with pytest.raises(FrameError, match=says):
        as_frame(image, 0.0)


def test_a_broken_image_file_is_a_frame_error():
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "jpeg")
    broken = Image.open(BytesIO(file.getvalue()[:1500]))
    with pytest.raises(FrameError, match="could not be read"):
        as_frame(broken, 0.0)


@pytest.mark.parametrize(
    "time", [-0.1, math.nan, math.inf, -math.inf, 10**400, 1.1e15, np.timedelta64(1, "s"), "3", True, None]
)
def test_times_that_cannot_be_are_refused(time):
    with pytest.raises(FrameError, match="time"):
        as_frame(RGB, time)
    if time is not None:
        with pytest.raises(FrameError, match="time"):
            as_frame(Frame(RGB, time))


def test_times_become_plain_floats():
    times: tuple[Any, ...] = (2, np.float32(2), np.int64(2))
    for time in times:
        assert type(as_frame(RGB, time).time) is float

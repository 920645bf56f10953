"""What becomes of the pictures that a client sends."""

import hashlib

import pytest
from PIL import Image

from backends.base import RequestRefused
from backends.inprocess.images import MAX_ASPECT, MAX_PIXELS, read_picture
from tests.support.pictures import file, plain, png

WHERE = "messages[0].content[1].image_url"
_ORIENTATION = 0x0112


def refused(data, **options):
    with pytest.raises(RequestRefused) as caught:
        read_picture(data, WHERE, **options)
    assert (caught.value.status, caught.value.param) == (400, WHERE)
    return caught.value


def pixel(data, at=(0, 0)):
    return read_picture(data, WHERE).pixels.getpixel(at)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_the_usual_formats_are_read(kind):
    picture = read_picture(file(Image.new("RGB", (6, 4), (255, 0, 0)), kind), WHERE)
    assert (picture.pixels.mode, picture.pixels.size) == ("RGB", (6, 4))
    red, green, blue = picture.pixels.getpixel((3, 2))
    assert red > 240
    assert max(green, blue) < 15


def test_a_picture_is_known_by_what_was_sent():
    data = plain("red")
    picture = read_picture(data, WHERE)
    assert (picture.digest, picture.where) == (hashlib.sha256(data).digest(), WHERE)
    assert read_picture(plain("blue"), WHERE).digest != read_picture(data, WHERE).digest


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(data) == (255, 0, 0)


def test_a_picture_stands_upright():
    image = Image.new("RGB", (6, 4), "white")
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    assert read_picture(file(image, "JPEG", exif=exif), WHERE).pixels.size == (4, 6)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_orientation_harms_no_pixel():
    data = file(Image.new("RGB", (6, 4), "white"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_picture(data, WHERE).pixels.size == (6, 4)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_mode_becomes_three_colours(mode, colour, seen):
    assert pixel(plain(colour, size=(2, 2), mode=mode)) == seen


def test_half_seen_through_lets_white_shine():
    red, green, blue = pixel(plain((255, 0, 0, 128), mode="RGBA"))
    assert red == 255
    assert 120 < green == blue < 135


def test_what_is_no_picture_is_refused_with_what_would_be_right():
    for data in (b"hello", b"%PDF-1.7", b"<svg/>", b"\x89PNG", b"\0" * 4096):
        error = refused(data)
        assert error.code == "invalid_image_format"
        assert "PNG, JPEG, WEBP" in error.message
    assert refused(b"").code == "empty_image_file"


def test_other_formats_that_pillow_reads_are_refused():
    for kind in ("TIFF", "PPM", "ICO"):
        assert refused(file(Image.new("RGB", (32, 32)), kind)).code == "invalid_image_format"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_torn_picture_is_refused(kind):
    data = file(Image.effect_noise((64, 64), 80).convert("RGB"), kind)
    error = refused(data[: len(data) // 2])
    assert error.code == "image_parse_error"


@pytest.mark.parametrize("size", [(9_000, 9_000), (12_000, 12_000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_its_head(size):
    """Three sizes: below Pillow's own warning, where it warns, and where it raises."""
    error = refused(png(*size))
    assert error.code == "image_too_large"
    assert f"{MAX_PIXELS // 1_000_000} million pixels" in error.message


def test_what_others_have_taken_is_not_left():
    error = refused(plain(size=(20, 20)), room=300)
    assert error.code == "image_too_large"
    assert "20 x 20" in error.message
    assert "300 of them are left" in error.message


def test_a_lie_about_the_size_is_a_broken_picture():
    assert refused(png(100, 100, b"\0" * 10)).code == "image_parse_error"
    assert refused(png(0, 5)).code in ("image_parse_error", "invalid_image_format")


@pytest.mark.parametrize("size", [(1, MAX_ASPECT + 1), (2 * MAX_ASPECT + 1, 2)])
def test_a_line_is_refused_before_anybody_scales_it(size):
    message = refused(plain(size=size)).message
    assert f"{size[0]} x {size[1]} pixels" in message
    assert str(MAX_ASPECT) in message


def test_a_narrow_picture_is_read():
    assert read_picture(plain(size=(1, MAX_ASPECT)), WHERE).pixels.size == (1, MAX_ASPECT)

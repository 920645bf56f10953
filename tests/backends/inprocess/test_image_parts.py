import base64

import pytest

from backends.base import RequestRefused
from backends.inprocess.image_parts import MAX_FILE, ImagePart, data_in, image_parts, is_data

WHERE = "messages[0].content[0].image_url"


def refused(url):
    with pytest.raises(RequestRefused) as caught:
        data_in(ImagePart(WHERE, url))
    assert (caught.value.status, caught.value.param) == (400, WHERE)
    return caught.value


def data(url):
    return data_in(ImagePart(WHERE, url))


def test_images_are_found_in_order_with_their_place():
    messages = [
        {"role": "system", "content": "Look."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "This?"},
                {"type": "image_url", "image_url": {"url": "data:a", "detail": "low"}},
                {"type": "image_url", "image_url": "data:b"},
            ],
        },
        {"role": "tool", "content": [{"type": "input_image", "image_url": "data:c"}]},
        {"role": "assistant", "content": None},
    ]
    assert image_parts(messages) == [
        ("messages[1].content[1].image_url", "data:a"),
        ("messages[1].content[2].image_url", "data:b"),
        ("messages[2].content[0].image_url", "data:c"),
    ]


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({}, "missing_required_parameter"),
        ({"image_url": None}, "missing_required_parameter"),
        ({"image_url": {}}, "missing_required_parameter"),
        ({"image_url": 3}, "invalid_type"),
        ({"image_url": {"url": 3}}, "invalid_type"),
        ({"image_url": ["data:"]}, "invalid_type"),
    ],
)
def test_a_part_without_its_url_is_refused(part, code):
    with pytest.raises(RequestRefused) as caught:
        image_parts([{"role": "user", "content": [{"type": "image_url", **part}]}])
    assert (caught.value.param, caught.value.code) == (WHERE, code)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGVsbG8=",
        "DATA:image/png;BASE64,aGVsbG8=",
        "data:image/png;charset=utf-8;base64,aGVsbG8",
        "data:;base64,aGVs\nbG8=\r\n",
        "data:application/octet-stream;base64,aGVsbG8=",
    ],
)
def test_data_urls_as_clients_write_them(url):
    assert is_data(ImagePart(WHERE, url))
    assert data(url) == b"hello"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png;base64,a$b=", "invalid_base64_image"),
        ("data:image/png;base64,aGVsbG8=x", "invalid_base64_image"),
        ("data:image/png;base64,aGVsb", "invalid_base64_image"),
        ("data:image/png;base64,aGVsbG8=aGVsbG8=", "invalid_base64_image"),
        ("data:image/png;base64," + "A" * (1 << 18) + "$$$$", "invalid_base64_image"),
        ("data:image/png;base64,é", "invalid_base64_image"),
        ("data:image/png,hello", "invalid_image_url"),
        ("data:image/png;base64", "invalid_image_url"),
        ("data:" + "x" * 5000, "invalid_image_url"),
    ],
)
def test_bad_data_urls_are_refused(url, code):
    error = refused(url)
    assert error.code == code
    assert len(error.message) < 400
    assert "Only base64 data" not in error.message, "a library's words"


def test_a_file_is_bounded_before_it_is_decoded():
    error = refused("data:image/png;base64," + "A" * (MAX_FILE // 3 * 4 + 8))
    assert error.code == "image_file_too_large"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 3000, (3 << 16) - 1, 3 << 16, (3 << 16) + 1, 1 << 19])
def test_what_was_sent_comes_out(size):
    sent = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert data("data:;base64," + base64.b64encode(sent).decode()) == sent
    assert data("data:;base64," + base64.encodebytes(sent).decode()) == sent
    assert data("data:;base64," + base64.b64encode(sent).decode().rstrip("=")) == sent


def test_other_urls_bring_nothing():
    for url in ("https://example.com/a.png", "file:///etc/passwd", ""):
        assert not is_data(ImagePart(WHERE, url))

from __future__ import annotations

from pathlib import Path

import pytest
from yaml.nodes import MappingNode, Node, ScalarNode

from gateway.config.document import LARGEST, UnreadableError, read, scalar_text


def refused(path: Path) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        read(path)
    return caught.value


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "routing.yaml"


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml").message == "no such file"
    assert refused(tmp_path).message == "is a directory"
    assert "cannot be read" in refused(written(tmp_path / "a", "x") / "b").message
    assert "cannot be read" in refused(Path("nul\0byte")).message


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file_says_what_it_needs(file: Path, content: str) -> None:
    root_error = None
    try:
        node = read(written(file, content))
    except UnreadableError as error:
        root_error = error
    else:
        assert isinstance(node, ScalarNode)  # `---` alone is a document that holds null
        return
    assert root_error.message == "is empty"
    assert "backends" in root_error.hint


def test_a_file_that_is_too_large_is_not_parsed(file: Path) -> None:
    assert "larger than 1 MiB" in refused(written(file, b"#" * (LARGEST + 1))).message


def test_other_encodings_are_named_with_the_line(file: Path) -> None:
    error = refused(written(file, b"a: 1\nb: \xe9\n"))
    assert (error.line, error.message) == (2, "expected UTF-8 text, found the byte 0xe9")
    assert "UTF-16" in refused(written(file, "a: 1".encode("utf-16"))).message


def test_a_byte_order_mark_is_no_trouble(file: Path) -> None:
    assert isinstance(read(written(file, b"\xef\xbb\xbfa: 1")), MappingNode)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a:\n\tb: 1\n", 2, "found a tab"),
        ("a: 1\n  b: 2\n", 2, "mapping values are not allowed"),
        ("a: *nowhere\n", 1, "an anchor (&) that is not there"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ("a: 'open\n", 2, "unexpected end"),
        ("a: 1\nb: \x07\n", 2, "U+0007"),
        ("a: !<\n", 1, "found a tag"),
    ],
)
def test_broken_yaml_is_told_by_line(file: Path, content: str, line: int, message: str) -> None:
    error = refused(written(file, content))
    assert message in error.message
    assert error.line == line


def test_a_syntax_error_does_not_quote_the_line(file: Path) -> None:
    error = refused(written(file, "key: 'sk-secret'value\n"))
    assert "sk-secret" not in error.message + error.hint


def test_aliases_that_multiply_or_go_in_circles_are_refused(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100000 values" in refused(written(file, "\n".join(lines))).message
    assert "part of" in refused(written(file, "a: &a [*a]")).message


@pytest.mark.slow
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(file: Path, opening: str) -> None:
    assert refused(written(file, opening * 5000)).message


def values(node: Node) -> dict[str, str]:
    assert isinstance(node, MappingNode)
    return {scalar_text(key): scalar_text(value) for key, value in node.value}


def test_references_need_no_quotes_inside_braces(file: Path) -> None:
    node = read(written(file, "{a: ${KEY}, b: 'x${H:-[a,b]}y', c: ${A}${B:-}, d: 1}"))
    assert values(node) == {"a": "${KEY}", "b": "x${H:-[a,b]}y", "c": "${A}${B:-}", "d": "1"}


def test_columns_are_those_of_the_file(file: Path) -> None:
    node = read(written(file, "{a: ${KEY}, b: 1}"))
    assert isinstance(node, MappingNode)
    assert node.value[1][0].start_mark.column == 12

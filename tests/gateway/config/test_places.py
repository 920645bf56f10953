from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.places import absolute, ggufs_in, hub_id, look, near


@pytest.mark.parametrize(
    ("path", "env", "meant"),
    [
        ("a/b", {}, "/base/a/b"),
        ("./a", {}, "/base/a"),
        ("/a", {}, "/a"),
        ("~/a", {"HOME": "/home/me"}, "/home/me/a"),
        ("~/a", {}, "/base/~/a"),
        ("~other/a", {"HOME": "/home/me"}, "/base/~other/a"),
    ],
)
def test_what_a_path_means(path, env, meant):
    assert absolute(path, Path("/base"), env) == Path(meant)


def test_what_can_be_no_path(tmp_path):
    with pytest.raises(ValueError, match="NUL"):
        look("a\0b", tmp_path, {})
    with pytest.raises(ValueError, match=f'"{"x" * 64}" cannot be looked at: File name too long'):
        look("x" * 5000, tmp_path, {})


def test_what_is_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    kinds = {name: look(name, tmp_path, {}) for name in ("folder", "file", "nothing", "file/x")}
    assert {name: (one.is_file, one.is_dir) for name, one in kinds.items()} == {
        "folder": (False, True),
        "file": (True, False),
        "nothing": (False, False),
        "file/x": (False, False),
    }


@pytest.mark.parametrize("text", ["org/name", "org-1/na.me_2"])
def test_an_id_on_the_hub(tmp_path, text):
    assert hub_id(text, tmp_path / text, what="directory") == text


def test_a_part_of_a_repository_is_named_only_where_engines_take_one(tmp_path):
    text = "org/name:Q4_K_M"
    assert hub_id(text, tmp_path / text, what="path", tagged=True) == text
    with pytest.raises(ValueError, match="neither a directory beside this file nor a hub id"):
        hub_id(text, tmp_path / text, what="directory")


@pytest.mark.parametrize("text", ["./org", "../org", "/org/name", "~/org", "here/nmae", "a/b.gguf"])
def test_a_path_to_nothing_is_no_id(tmp_path, text):
    (tmp_path / "here" / "name").mkdir(parents=True)
    with pytest.raises(ValueError, match="there is no directory"):
        hub_id(text, tmp_path / text, what="directory", endings=(".gguf",))


def test_what_is_called_nearly_so_is_suggested(tmp_path):
    (tmp_path / "name").mkdir()
    assert near(tmp_path / "nmae") == '; did you mean "name"?'
    assert near(tmp_path / "else") == ""
    assert near(tmp_path / "nowhere" / "name") == ""


def test_gguf_files_by_name(tmp_path):
    for name in ("b.gguf", "a.gguf", "c.safetensors"):
        (tmp_path / name).touch()
    assert [path.name for path in ggufs_in(tmp_path)] == ["a.gguf", "b.gguf"]

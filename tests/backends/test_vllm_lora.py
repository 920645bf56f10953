from __future__ import annotations

import json

import pytest

from backends.base import Adapter
from backends.vllm_lora import arguments, place_count


def of_rank(folder, rank, **more):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, **more}))
    return Adapter(folder.name, str(folder))


def test_there_is_a_place_for_the_base_and_for_adapters_that_come_later():
    two = {Adapter("a", "/a"), Adapter("b", "/b")}
    assert arguments(two, ()) == ("--enable-lora", "--max-loras", "6")
    assert place_count(two, ()) == 6


def test_without_adapters_nothing_is_added():
    assert arguments((), ()) == ()


@pytest.mark.parametrize(
    "given",
    [("--max-loras", "2"), ("--max-loras=2",), ("--max_loras", "2"), ("-x", "--max_loras=2")],
)
def test_what_the_user_says_of_places_counts(given):
    assert "--max-loras" not in arguments({Adapter("a", "/a")}, given)
    assert place_count({Adapter("a", "/a")}, given) == 2


@pytest.mark.parametrize(("rank", "wanted"), [(17, "32"), (64, "64"), (65, "128"), (999, "999")])
def test_the_rank_is_that_of_the_largest_and_one_that_vllm_knows(tmp_path, rank, wanted):
    both = {of_rank(tmp_path / "a", 4), of_rank(tmp_path / "b", rank)}
    argv = arguments(both, ())
    assert argv[-2:] == ("--max-lora-rank", wanted)
    assert "--max-lora-rank" not in arguments(both, ("--max-lora-rank=8",))


def test_a_rank_of_single_layers_counts(tmp_path):
    adapter = of_rank(tmp_path / "a", 4, rank_pattern={"q_proj": 32})
    assert arguments({adapter}, ())[-1] == "32"


@pytest.mark.parametrize("content", ["", "[]", '{"r": 0}', '{"r": "four"}', "\udcff"])
def test_a_rank_that_cannot_be_told_is_left_to_vllm(tmp_path, content):
    (tmp_path / "adapter_config.json").write_bytes(content.encode(errors="surrogateescape"))
    assert "--max-lora-rank" not in arguments({Adapter("a", str(tmp_path))}, ())

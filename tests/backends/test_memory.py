import pytest

from backends.memory import (
    Footprint,
    cgroup_limits,
    machine_memory,
    process_memory,
    refusal,
    refusal_beside,
    sequences,
    written,
)

GIB = 1 << 30


def footprint(**changed):
    fields = {
        "name": "/models/one",
        "weights": 4 * GIB,
        "kv_cache": 2 * GIB,
        "overhead": GIB,
        "prompt_cache": 0,
        "context": 8192,
        "concurrency": 16,
        "bytes_per_token": 147456,
    }
    return Footprint(**{**fields, **changed})


def test_what_fits_is_not_refused():
    assert refusal({}, GIB) is None
    assert refusal({"one": footprint()}, 7 * GIB) is None


def test_models_are_counted_together_and_the_numbers_are_told():
    both = {"small": footprint(), "large": footprint(weights=5 * GIB, prompt_cache=GIB)}
    assert refusal({"small": both["small"]}, 15 * GIB) is None
    said = refusal(both, 15 * GIB)
    assert said is not None
    assert "needs 16.0 GiB of memory, and there are 15.0 GiB" in said
    assert "small: 4.0 GiB weights + 2.0 GiB KV cache (16 sequences of 8192 tokens, " in said
    assert "144.0 KiB a token) + 1.0 GiB margin" in said
    assert "Lower `context` or `max_batch` of large" in said
    assert "1.0 GiB are too much" in said


def test_what_is_held_already_is_not_there_for_others():
    one = {"one": footprint()}
    assert refusal_beside(GIB, one, 8 * GIB) is None
    said = refusal_beside(2 * GIB, one, 8 * GIB)
    assert said is not None
    assert "there are 6.0 GiB" in said
    assert said.endswith("This process holds 2.0 GiB already")
    more_than_all = refusal_beside(9 * GIB, one, 8 * GIB)
    assert more_than_all is not None
    assert "there are 0 B" in more_than_all


def test_this_process_holds_something():
    assert 1 << 20 < process_memory() < machine_memory()


def test_where_the_cache_was_asked_for_that_is_what_to_change():
    said = refusal({"one": footprint(kv_cache=400 * GIB, kv_given=True)}, 16 * GIB)
    assert said is not None
    assert "Lower `kv_cache` of one: 389.0 GiB are too much" in said


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"concurrency": 1}, "1 sequence of 8192 tokens"),
        ({"whole": 16}, "16 sequences of 8192 tokens"),
        ({"whole": 8}, "8 of 16 sequences of 8192 tokens"),
    ],
)
def test_for_how_many_sequences_there_is_room(changed, told):
    assert sequences(footprint(**changed)) == told


def test_where_the_weights_alone_are_too_much_no_option_is_advised():
    said = refusal({"huge": footprint(weights=40 * GIB, estimated=True)}, 16 * GIB)
    assert said is not None
    assert "smaller or more strongly quantized model for huge" in said
    assert "about 144.0 KiB a token" in said


def test_what_is_still_loaded_counts_and_is_told_apart():
    new, old = footprint(weights=10 * GIB), footprint(weights=12 * GIB)
    assert refusal({"tale": new}, 40 * GIB, [("tale", old)]) is None
    said = refusal({"tale": new}, 16 * GIB, [("tale", old)])
    assert said is not None
    assert "tale: 10.0 GiB weights" in said
    assert "tale as it was, still loaded: 12.0 GiB weights" in said
    assert "take it out of the file and put the new one in once it has gone" in said


def test_what_would_not_fit_even_alone_is_advised_as_ever():
    said = refusal({"huge": footprint(weights=40 * GIB)}, 16 * GIB, [("huge", footprint())])
    assert said is not None
    assert "smaller or more strongly quantized model for huge" in said


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * GIB, "3.0 GiB"), (1 << 41, "2.0 TiB")],
)
def test_amounts_are_written_for_people(nbytes, text):
    assert written(nbytes) == text


def test_the_limits_of_a_cgroup_and_those_above_it(tmp_path):
    of_self, root = tmp_path / "cgroup", tmp_path / "fs"
    inner = root / "a" / "b"
    inner.mkdir(parents=True)
    of_self.write_text("0::/a/b\n")
    (inner / "memory.max").write_text("max\n")
    (root / "a" / "memory.max").write_text("1000\n")
    (root / "memory.max").write_text("2000\n")
    assert cgroup_limits(of_self, root) == [1000, 2000]


def test_the_limits_of_version_1(tmp_path):
    of_self, root = tmp_path / "cgroup", tmp_path / "fs"
    (root / "memory").mkdir(parents=True)
    of_self.write_text("5:cpu:/x\n4:hugetlb,memory:/docker/abc\n")
    (root / "memory" / "memory.limit_in_bytes").write_text("3000\n")
    assert cgroup_limits(of_self, root) == [3000]


def test_a_machine_without_cgroups(tmp_path):
    assert cgroup_limits(tmp_path / "none", tmp_path) == []


def test_this_machine_has_memory():
    assert machine_memory() > 1 << 28

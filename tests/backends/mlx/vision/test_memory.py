"""What looking at pictures is planned with."""

from backends.mlx.vision.family import FAMILIES
from backends.mlx.vision.memory import picture_memory

GRID = {"vision_config": {"patch_size": 10, "embed_dim": 16, "hidden_size": 99, "num_heads": 2}}
TILED = {"vision_config": {"patch_size": 8, "hidden_size": 16, "image_size": 32}}
MIB = 1 << 20


def memory(kind="qwen2_vl", config=GRID, processor=None, **given):
    options = {"memory": 160 * MIB, "most_pixels": 10_000, "scores": False, **given}
    return picture_memory(FAMILIES[kind], config, processor or {}, **options)


def test_it_grows_with_the_largest_picture_and_no_further_than_they_are_shrunk_to():
    small = memory(processor={"max_pixels": 1000}).encoder
    assert memory(processor={"size": {"longest_edge": 2000}}).encoder == 2 * small
    assert memory(processor={"max_pixels": 10**9}).encoder == 10 * small
    assert memory().encoder == 10 * small, "the processor's own bound is above ours"


def test_scores_count_where_they_lie_in_memory():
    patches = 100
    plain, scored = memory().encoder, memory(scores=True).encoder
    assert scored - plain == 2 * 2 * patches**2 * 4


def test_a_picture_that_is_cut_counts_with_all_its_pieces():
    one = memory("idefics3", TILED).encoder
    cut = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    assert memory("idefics3", TILED, cut).encoder == 5 * one
    assert memory("idefics3", TILED, {**cut, "do_image_splitting": False}).encoder == one


def test_pictures_that_wait_get_a_part_of_the_machine_and_a_gibibyte_at_most():
    assert memory().room == 10 * MIB
    assert memory(memory=1 << 50).room == 1 << 30
    found = memory()
    assert found.total == found.encoder + found.seen + found.room


def test_a_configuration_that_says_nothing():
    assert memory("llava", {"vision_config": None}).encoder > 0

"""Where tokens stand whose images have rows and columns."""

import numpy as np

from backends.mlx.vision.positions import Grid, grid_positions


def test_a_prompt_of_text_just_counts():
    positions, ahead = grid_positions(4, [])
    assert positions.tolist() == [[0, 1, 2, 3]] * 3
    assert ahead == 0


def test_an_image_holds_the_time_and_what_follows_goes_on_behind_its_longer_side():
    positions, ahead = grid_positions(9, [Grid(2, 1, 2, 3)])
    times, rows, columns = positions.tolist()
    assert times == [0, 1, 2, 2, 2, 2, 2, 2, 5]
    assert rows == [0, 1, 2, 2, 2, 3, 3, 3, 5]
    assert columns == [0, 1, 2, 3, 4, 2, 3, 4, 5]
    assert ahead == 6 - 9, "the next token stands at 6"


def test_several_images_with_and_without_text_between():
    positions, ahead = grid_positions(10, [Grid(0, 1, 2, 2), Grid(4, 1, 1, 2), Grid(7, 2, 1, 1)])
    assert positions[0].tolist() == [0, 0, 0, 0, 2, 2, 4, 5, 6, 7]
    assert positions.shape == (3, 10)
    assert ahead == 8 - 10
    assert positions.dtype == np.int32

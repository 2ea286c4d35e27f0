"""The contract of generation.grids: many images on one, with labels."""

import numpy as np
import pytest
from PIL import Image

from captionless.config.sampling import SamplingConfig
from captionless.errors import CaptionlessError
from captionless.generation.grids import LINE_HEIGHT, MARGIN, MAX_LINES, TEXT_HEIGHT, sample_grid
from captionless.generation.image import GeneratedImage

pytestmark = pytest.mark.filterwarnings("ignore:this system has no font")

CELL = 32
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


def squares(*colours: tuple[int, int, int], side: int = 8) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), colour) for colour in colours]


def cell(grid: Image.Image, row: int, column: int, line: int = TEXT_HEIGHT) -> np.ndarray:
    left, top = MARGIN + column * (CELL + MARGIN), MARGIN + row * (line + CELL + MARGIN) + line
    return np.asarray(grid)[top : top + CELL, left : left + CELL]


def label(grid: Image.Image, row: int) -> np.ndarray:
    top = MARGIN + row * (TEXT_HEIGHT + CELL + MARGIN)
    return np.asarray(grid)[top : top + TEXT_HEIGHT]


def test_the_grid_is_just_large_enough_for_its_rows_and_columns() -> None:
    grid = sample_grid([squares(*COLOURS[:3]), squares(COLOURS[3])], ["a", "b"], CELL)
    assert grid.mode == "RGB"
    assert grid.size == (MARGIN + 3 * (CELL + MARGIN), MARGIN + 2 * (TEXT_HEIGHT + CELL + MARGIN))


def test_every_image_fills_its_cell_and_nothing_else_is_drawn_beside_it() -> None:
    rows = [squares(*COLOURS[:3]), squares(*COLOURS[3:])]
    grid = sample_grid(rows, ["", ""], CELL)
    covered = np.zeros(np.asarray(grid).shape[:2], bool)
    for i, colours in enumerate((COLOURS[:3], COLOURS[3:])):
        for k, colour in enumerate(colours):
            assert (cell(grid, i, k, 0) == colour).all()
            left, top = MARGIN + k * (CELL + MARGIN), MARGIN + i * (CELL + MARGIN)
            covered[top : top + CELL, left : left + CELL] = True
    assert (np.asarray(grid)[~covered] == 255).all()


def test_each_row_lies_under_its_label() -> None:
    grid = sample_grid([squares(COLOURS[0]), squares(COLOURS[1]), squares(COLOURS[2])], ["red", "", "blue"], CELL)
    assert [bool((label(grid, i) < 128).any()) for i in range(3)] == [True, False, True]
    for i in range(3):
        assert (cell(grid, i, 0) == COLOURS[i]).all()


def test_a_label_too_long_for_its_grid_is_shortened_to_fit() -> None:
    row = squares(*COLOURS[:3])
    grid = sample_grid([row], ["a very long prompt " * 20], CELL)
    assert (label(grid, 0) < 128).any()
    assert (label(grid, 0)[:, -MARGIN + 1 :] == 255).all()


def test_a_label_of_several_lines_is_drawn_on_one() -> None:
    two, one = (sample_grid([squares(*COLOURS)], [text], CELL) for text in ("a red\n\trose", "a red rose"))
    assert np.array_equal(np.asarray(two), np.asarray(one))


@pytest.mark.parametrize("text", ["Gänseblümchen", "雏菊", "🌻", "\u202e"])
def test_labels_in_any_script_are_accepted(text: str) -> None:
    sample_grid([squares(*COLOURS)], [text], CELL)


def test_grey_images_are_drawn_grey() -> None:
    grid = sample_grid([[Image.new("L", (8, 8), 77)]], [""], CELL)
    assert (cell(grid, 0, 0, 0) == 77).all()


def test_images_of_the_cells_size_are_drawn_unchanged() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (CELL, CELL, 3), dtype=np.uint8))
    assert np.array_equal(cell(sample_grid([[image]], [""], CELL), 0, 0, 0), np.asarray(image))


@pytest.mark.parametrize("side", [8, 24, 40, 200])
def test_images_of_any_size_fit_their_cell(side: int) -> None:
    grid = sample_grid([squares(*COLOURS[:2], side=side)], [""], CELL)
    assert (cell(grid, 0, 1, 0) == COLOURS[1]).all()


def test_every_row_needs_its_label() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_grid([squares(COLOURS[0])], [], CELL)


def test_a_grid_of_nothing_is_refused() -> None:
    for nothing in ([], [[]]):
        with pytest.raises(CaptionlessError, match="at least 1 image"):
            sample_grid(nothing)


def generated(*prompts: str) -> list[GeneratedImage]:
    return [GeneratedImage(squares(COLOURS[i])[0], prompt, i, SamplingConfig()) for i, prompt in enumerate(prompts)]


def test_generated_images_are_labelled_with_their_prompts() -> None:
    singles = sample_grid(generated("a", "b", "c"), cell=CELL)
    assert np.array_equal(singles, sample_grid(squares(*COLOURS[:3]), ["a", "b", "c"], CELL))
    rows = [squares(*COLOURS[:2]), squares(COLOURS[2]), squares(COLOURS[3])]
    groups = sample_grid(generated("a", "a", "a", "b"), cell=CELL, columns=2)
    assert np.array_equal(groups, sample_grid(rows, ["a", "", "b"], CELL))


def test_images_without_a_prompt_or_labels_have_none() -> None:
    plain, empty = (sample_grid(squares(*COLOURS), labels, CELL, columns=3) for labels in (None, [""] * 5))
    assert plain.size == empty.size
    assert np.array_equal(np.asarray(plain), np.asarray(empty))


def test_columns_stand_under_their_heads() -> None:
    plain = sample_grid([squares(*COLOURS[:3]), squares(*COLOURS[:2])], ["a", "b"], CELL)
    grid = sample_grid([squares(*COLOURS[:3]), squares(*COLOURS[:2])], ["a", "b"], CELL, ["w", "", "w = 2"])
    assert grid.size == (plain.width, plain.height + TEXT_HEIGHT)
    assert np.array_equal(np.asarray(grid)[TEXT_HEIGHT + MARGIN :], np.asarray(plain)[MARGIN:])
    head = np.asarray(grid)[: MARGIN + TEXT_HEIGHT]
    lefts = [MARGIN + k * (CELL + MARGIN) for k in range(3)]
    assert [bool((head[:, left : left + CELL] < 128).any()) for left in lefts] == [True, False, True]


def test_a_long_head_stays_over_its_column() -> None:
    grid = np.asarray(sample_grid([squares(*COLOURS[:2])], [""], CELL, ["a head of many words", ""]))
    assert (grid[: MARGIN + TEXT_HEIGHT, 2 * MARGIN + CELL - 1 :] == 255).all()


def test_every_column_needs_its_head_where_there_are_heads() -> None:
    with pytest.raises(ValueError, match="zip"):
        sample_grid([squares(*COLOURS[:2])], [""], CELL, ["one"])


# --- images with a label each ---


def test_a_grid_is_just_large_enough_for_its_images_and_their_words() -> None:
    grid = sample_grid(squares(*COLOURS), ["a"] * 5, CELL, columns=3)
    assert grid.size == (MARGIN + 3 * (CELL + MARGIN), MARGIN + 2 * (CELL + LINE_HEIGHT + MARGIN))


def test_each_image_of_a_grid_stands_over_its_own_label() -> None:
    grid = np.asarray(sample_grid(squares(*COLOURS[:3]), ["a", "", "c"], CELL, columns=2))
    for i in range(3):
        left, top = MARGIN + i % 2 * (CELL + MARGIN), MARGIN + i // 2 * (CELL + LINE_HEIGHT + MARGIN)
        assert (grid[top : top + CELL, left : left + CELL] == COLOURS[i]).all()
        words = grid[top + CELL : top + CELL + LINE_HEIGHT, left : left + CELL]
        assert bool((words < 128).any()) == (i != 1)


@pytest.mark.parametrize(
    "text", ["a yellow rose with a long stem " * 9, "w" * 400, "雏菊" * 200], ids=lambda text: text[:3]
)
def test_a_long_label_stays_under_its_image(text: str) -> None:
    cell = 64
    grid = np.asarray(sample_grid(squares(*COLOURS[:2]), [text, ""], cell))
    assert grid.shape[0] == MARGIN + cell + MAX_LINES * LINE_HEIGHT + MARGIN
    assert (grid[MARGIN + cell :, MARGIN + cell + MARGIN // 2 :] == 255).all()


def test_a_label_is_broken_between_words() -> None:
    one, two = (sample_grid(squares(COLOURS[0]), [text], 64) for text in ("a red rose in rain", "a red rose  in rain"))
    assert one.height == MARGIN + 64 + 2 * LINE_HEIGHT + MARGIN
    assert np.array_equal(np.asarray(one), np.asarray(two))

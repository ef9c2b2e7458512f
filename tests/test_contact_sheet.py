"""What stands on the contact sheet."""

import numpy as np

from deeplab_mnv2.inspection.contact_sheet import Tile, contact_sheet

RED, GREEN = (200, 10, 10), (10, 200, 10)


def solid(colour: tuple[int, int, int], height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_tiles_stand_side_by_side_with_void_in_white():
    label = np.zeros((320, 320), np.uint8)
    label[:, :160] = 255
    tiles = [Tile(solid(RED, 320, 320), label, "first"), Tile(solid(GREEN, 320, 320), None, "")]
    sheet = np.asarray(contact_sheet(tiles))
    row = sheet[100].astype(int)
    where = {c: np.flatnonzero((row == c).all(axis=1)) for c in (RED, GREEN)}
    assert len(where[RED]) == 160
    assert len(where[GREEN]) == 320
    assert where[RED].max() < where[GREEN].min()
    assert (sheet[332:, :320] < 100).any()  # the caption
    assert not (sheet[332:, 332:] < 100).any()


def test_what_cannot_be_read_has_its_place():
    half = np.ones((20, 30), np.uint8)  # of another size than its image
    tiles = [Tile(None, None, "x"), Tile(None, half, "y"), Tile(solid(RED), half, "z")] * 3
    assert contact_sheet(tiles).height == 3 * (320 + 60 + 12) + 12
    assert contact_sheet([]).width > 0

"""The page that doctor proposes gives the config that it was made from."""

import cv2
import numpy as np
import pytest

from deeplab_mnv2.cli import experiment
from deeplab_mnv2.config import to_dict


@pytest.mark.parametrize("bands", [0, 5])
def test_the_page_is_the_folders_config_written_out(bands, tmp_path, command_line):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    for index in range(10):
        photo = np.random.default_rng(index).integers(0, 256, (40, 60, bands or 3), np.uint8)
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20] = 255
        if bands:
            np.save(data / "images" / f"{index}.npy", photo.astype(np.float32))
        else:
            cv2.imwrite(str(data / "images" / f"{index}.jpg"), photo)
        cv2.imwrite(str(data / "masks" / f"{index}.png"), mask)
    code, said = command_line("doctor", f"--config=folder:{data}", "--propose=mine.py")
    assert code == 0, said
    assert "see mine.py" in said
    assert "values=(0, 255)," in (tmp_path / "mine.py").read_text()
    _, proposed = experiment.load(str(tmp_path / "mine.py"))
    _, expected = experiment.load(f"folder:{data}")
    assert to_dict(proposed) == to_dict(expected)
    proposed.check()
    # A page that somebody has corrected is not written over.
    code, said = command_line("doctor", f"--config=folder:{data}", "--propose=mine.py")
    assert (code, said.splitlines()[-1]) == (
        2,
        "error: mine.py exists; give --propose another name.",
    )

"""The page that doctor proposes gives the config that it was made from."""

import cv2
import numpy as np

from deeplab_mnv2.cli import experiment
from deeplab_mnv2.config import to_dict


def test_the_page_is_the_folders_config_written_out(tmp_path, command_line):
    for index in range(10):
        for folder, pixels in (("images", np.full((40, 60, 3), index, np.uint8)), ("masks", None)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            if pixels is None:
                pixels = np.zeros((40, 60), np.uint8)
                pixels[10:20] = 255
            cv2.imwrite(str(tmp_path / "data" / folder / f"{index}.png"), pixels)
    data = tmp_path / "data"
    code, said = command_line("doctor", f"--config=folder:{data}", "--propose=mine.py")
    assert code == 0, said
    assert "see mine.py" in said
    text = (tmp_path / "mine.py").read_text()
    assert "values=(0, 255)," in text
    _, proposed = experiment.load(str(tmp_path / "mine.py"))
    _, expected = experiment.load(f"folder:{data}")
    assert to_dict(proposed) == to_dict(expected)
    proposed.check()

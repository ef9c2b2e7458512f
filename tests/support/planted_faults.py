"""Faults planted in a sound data set, one at a time, and what doctor should say of each."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support import damage


def image(root: Path, name: str = "train_1") -> Path:
    return root / f"JPEGImages/{name}.jpg"


def label(root: Path, name: str = "train_1") -> Path:
    return root / f"SegmentationClass/{name}.png"


def relist(root: Path, split: str, *names: str) -> None:
    path = root / f"ImageSets/Segmentation/{split}.txt"
    path.write_text("\n".join([*path.read_text().split(), *names]))


# Each plants a fault and returns its kind and words of its message.


def fault_listed_twice(root):
    relist(root, "train", "train_1")
    return "listed twice", "train_1 is twice in train"


def fault_unreadable(root):
    image(root).write_text("not an image")
    return "unreadable", "train_1.jpg"


def fault_truncated(root):
    image(root).write_bytes(image(root).read_bytes()[:-900])
    return "damaged", "train_1.jpg"


def fault_flipped_bit_in_a_label(root):
    data = label(root).read_bytes()
    label(root).write_bytes(damage.flip(data, 8 * data.index(b"IDAT") + 200))
    return "damaged", "train_1.png"


def fault_decompression_bomb(root):
    image(root).write_bytes(damage.png(30_000, 30_000))
    return "too large", "train_1.jpg"


def fault_cmyk(root):
    Image.open(image(root)).convert("CMYK").save(image(root))
    return "CMYK", "train_1.jpg"


def fault_sixteen_bits(root):
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    Image.fromarray(grey).save(root / "JPEGImages/train_1.png")
    image(root).unlink()
    return "16-bit", "train_1.png"


def fault_sixteen_bits_in_colour(root):
    pixels = np.zeros((48, 1 + 64 * 6), np.uint8).tobytes()
    image(root).write_bytes(damage.png(64, 48, depth=16, colour=2, pixels=pixels))
    return "16-bit", "train_1.jpg"


def fault_animated(root):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frames[0].save(root / "JPEGImages/train_1.webp", save_all=True, append_images=frames[1:])
    image(root).unlink()
    return "several frames", "train_1.webp"


def fault_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(image(root)).save(image(root), exif=exif)
    return "EXIF rotation", "train_1.jpg"


def fault_float_samples(root):
    Image.fromarray(np.zeros((48, 64), np.float32)).save(root / "JPEGImages/train_1.tif")
    image(root).unlink()
    return "sample type", "floating-point numbers"


def fault_label_size(root):
    damage.write_label(label(root), damage.label()[:, :-1])
    return "label size", "63 x 48"


def fault_label_not_turned_with_its_image(root):
    damage.write_label(label(root), damage.label().T.copy())
    return "label size", "turned"


def fault_label_id(root):
    ids = damage.label()
    ids[10, :7] = 5
    damage.write_label(label(root), ids)
    return "label id", "5 (7 pixels)"


def fault_label_of_sixteen_bits(root):
    # The class in the thousands, and which object it is, as Cityscapes numbers them.
    ids = damage.label().astype(np.uint16)
    Image.fromarray(np.where(ids == 1, 1_007, ids)).save(label(root))
    return "label id", "1007 ("


def fault_label_of_four_bits(root):
    pixels = np.full((48, 1 + 64 // 2), 0x11, np.uint8)
    pixels[:, 0] = 0  # filter
    label(root).write_bytes(damage.png(64, 48, depth=4, pixels=pixels.tobytes()))
    return "label mode", "4 bits"


def fault_lossy_label(root):
    Image.open(label(root)).convert("L").save(label(root), "JPEG")
    return "label mode", "JPEG"


def fault_padding(root):
    padded = np.zeros((80, 64, 3), np.uint8)
    padded[:48] = np.asarray(Image.open(image(root)))
    Image.fromarray(padded).save(image(root), quality=95)
    ids = np.zeros((80, 64), np.uint8)
    ids[:48] = damage.label()
    damage.write_label(label(root), ids)
    return "padding as class", "train_1.png"


def fault_void_label(root):
    damage.write_label(label(root), np.full((48, 64), 255, np.uint8))
    return "void label", "train_1.png"


def fault_shared_image(root):
    shutil.copy(image(root), image(root, "val_other"))
    shutil.copy(label(root), label(root, "val_other"))
    relist(root, "val", "val_other")
    return "shared image", "val_other in val is the same picture as train_1 in train"


def fault_duplicate_image(root):
    # Other bytes, the same pixels.
    Image.open(image(root)).save(root / "JPEGImages/twin.png")
    shutil.copy(label(root), label(root, "twin"))
    relist(root, "train", "twin")
    return "duplicate image", "twin in train is the same picture as train_1"


def fault_entry_without_label(root):
    label(root, "val_2").unlink()
    return "split entry", "val_2.png"


def fault_entry_without_image(root):
    relist(root, "train", "ghost")
    return "split entry", "ghost"


def fault_no_list(root):
    (root / "ImageSets/Segmentation/val.txt").unlink()
    return "split entry", "val.txt"


def fault_file_without_entry(root):
    Image.new("RGB", (64, 48)).save(root / "JPEGImages/unlisted.jpg")
    return "unlisted files", "unlisted.jpg"


def fault_absent_class(root):
    for index in range(damage.SPLITS["val"]):
        ids = damage.label()
        ids[ids == 3] = 0
        damage.write_label(label(root, f"val_{index}"), ids)
    return "class absent", "3 (ship)"


def fault_masks_of_0_and_255(root):
    (root / "classes.txt").write_text("sea\nland\n")
    for path in (root / "SegmentationClass").iterdir():
        damage.write_label(path, np.where(damage.label() > 2, 255, 0).astype(np.uint8))
    return "black and white", "if 255 is land in them, set the data set's values=(0, 255)"


def fault_some_masks_of_0_and_255(root):
    (root / "classes.txt").write_text("sea\nland\n")
    for path in (root / "SegmentationClass").iterdir():
        land = 255 if path == label(root) else 1
        damage.write_label(path, np.where(damage.label() > 2, land, 0).astype(np.uint8))
    return "some black and white", "1 of 6 labels of train"


def fault_class_file(root):
    (root / "classes.txt").unlink()
    (root / "SegmentationClass").rename(root / "labels")
    return "split entry", "classes.txt does not exist"


def fault_grey_label(root):
    Image.fromarray(damage.label()).save(label(root))
    return "grey labels", "1 of 6 labels of train"


def fault_mostly_void(root):
    for index in range(damage.SPLITS["val"]):
        ids = damage.label()
        ids[:40] = 255
        damage.write_label(label(root, f"val_{index}"), ids)
    return "mostly void", "val is unlabelled (255) in 83 %"


FAULTS = [value for name, value in list(globals().items()) if name.startswith("fault_")]
# What else is then true: files of a list that is gone are unlisted, and so on.
CONSEQUENCES = {
    "fault_no_list": {"unlisted files"},
    "fault_masks_of_0_and_255": {"class absent"},
    "fault_entry_without_label": {"unlisted files"},
}

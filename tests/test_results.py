"""The tables of the READMEs say what the kept results say."""

import json
import re

import pytest

from experiments import results


@pytest.mark.parametrize("readme", results.TABLES, ids=lambda path: path.parent.name)
def test_a_readme_holds_the_table_that_the_results_make(readme):
    written = readme.read_text().split(results.BEGIN)[1].split(results.END)[0]
    assert written == results.TABLES[readme]()


@pytest.mark.parametrize("readme", results.TABLES, ids=lambda path: path.parent.name)
def test_links_of_a_table_lead_to_experiments(readme):
    links = re.findall(r"\]\((\S+)\)", results.TABLES[readme]())
    assert links
    assert [link for link in links if not (readme.parent / link).is_file()] == []


def test_every_score_follows_from_its_confusion_matrix():
    paths = list(results.HERE.glob("results/*/eval.json"))
    assert paths
    for path in paths:
        result = json.loads(path.read_text())
        ious = []
        if "top1" in result:
            counts = result["images_per_class"]
            right = sum(result["accuracy"][name] * number for name, number in counts.items())
            assert result["top1"] == pytest.approx(right / result["images"])
            continue
        if "ap50" in result:
            per_class = result["ap_per_class"]
            known = [value for value in per_class.values() if value is not None]
            # VOC's protocol has AP at IoU 0.5 alone.
            assert result.get("ap", result["ap50"]) == pytest.approx(
                sum(known) / len(known), abs=1e-9
            )
            continue
        for label, row in enumerate(result["confusion"]):
            union = sum(row) + sum(r[label] for r in result["confusion"]) - row[label]
            ious += [row[label] / union] if union else []
        assert result["miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-12)


def _keep(folder, name, miou, **facts):
    row = {
        "experiment": "voc_small",
        "start": "x.tflite",
        "steps": 10,
        "batch_size": 2,
        "device": "2 CPU cores",
        "minutes": 1,
        "parameters": 5,
        "multiply_adds": 7,
        "seed": 0,
        **facts,
    }
    protocol = {"images": 3, "split": "val", "output_stride": 16, "scales": [1.0], "flip": False}
    protocol["protocol_hash"] = facts.pop("protocol_hash", "same")
    ends = [miou - 0.1, miou + 0.1]
    scores = {"miou": miou, "ci95": ends, "boundary_miou": {"4": miou}, "protocol": protocol}
    place = folder / "results" / name
    place.mkdir(parents=True)
    (place / "row.json").write_text(json.dumps(row))
    (place / "eval.json").write_text(json.dumps(scores))


def test_seeds_of_one_protocol_are_averaged_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "HERE", tmp_path)
    for seed, miou in enumerate((0.50, 0.52, 0.54)):
        _keep(tmp_path, f"seed{seed}", miou, seed=seed, minutes=seed + 1)
    _keep(tmp_path, "otherwise", 0.9, seed=3, protocol_hash="other")
    _keep(tmp_path, "wide", 0.8, seed=4, settings=["model.width_multiplier=1.0"])
    _keep(tmp_path, "larger", 0.7, seed=5, batch_size=3)
    lines = results.table().splitlines()[2:]
    assert len(lines) == 7
    (mean,) = [line for line in lines if "standard deviation" in line]
    assert "of 3 seeds | | | | | mIoU 52.00 ± 2.00 |" in mean
    (alone,) = [line for line in results.short_table().splitlines() if "90.00 (" in line]
    (together,) = [line for line in results.short_table().splitlines() if "3 seeds" in line]
    assert "10 x 2, 1 min on 2 CPU cores |" in alone
    assert "(80.00 to 100.00)" in alone
    assert "10 x 2, 1 to 3 min on 2 CPU cores; 3 seeds |" in together
    assert "52.00 ± 2.00 (40.00 to 64.00)" in together

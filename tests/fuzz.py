"""Damages files at random until something but a UserError escapes; what it finds becomes a test.

  python -m tests.fuzz --minutes 10 [--first_seed 0] [--only tiff]

Prints sample, seed and error of each escape: `test_faults.FOUND` is where they go.
"""

import argparse
import itertools
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from deeplab_mnv2.errors import UserError
from tests.support.corpus import SAMPLES, damaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first_seed", type=int, default=1_000)
    parser.add_argument("--only", default="", help="samples whose name contains this")
    given = parser.parse_args()
    names = [
        name
        for name, sample in SAMPLES.items()
        if given.only in name and sample.available() and (given.only or not sample.slow)
    ]
    end = time.monotonic() + 60 * given.minutes
    tried: Counter[str] = Counter()
    escaped: set[tuple[str, str]] = set()
    # A reader that hangs is an escape too.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as sound, tempfile.TemporaryDirectory() as folder:
        for seed in itertools.count(given.first_seed):
            for name in names:
                path = damaged(name, seed, Path(sound), Path(folder))
                signal.alarm(60)
                try:
                    SAMPLES[name].read(path)
                except UserError as error:
                    if "\n" in str(error) or len(str(error)) > 1_000:
                        print(f"{name!r}, seed {seed}: no sentence: {str(error)[:300]!r}")
                except BaseException as error:
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    key = name, f"{type(error).__name__} in {Path(place.filename).name}"
                    if key not in escaped:
                        escaped.add(key)
                        print(f"{name!r}, seed {seed}: {key[1]}: {str(error)[:200]}", flush=True)
                signal.alarm(0)
                tried[name] += 1
            if time.monotonic() > end:
                break
    print(f"{sum(tried.values()):,} files, {len(escaped)} kinds of escape, up to seed {seed}")


if __name__ == "__main__":
    main()

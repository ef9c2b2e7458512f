"""How the process keeps its memory: freed blocks stay, in large pages where the kernel gives them.

Each case runs in a process of its own, since the settings are the process's and stay.
"""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc's malloc"
)

_LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Such as "always [madvise] never".
_MODES = _LARGE_PAGES.read_text() if _LARGE_PAGES.exists() else "[never]"
_MODE = _MODES.split("[")[1].split("]")[0]

# Takes and frees 64 MiB as XLA does, in a thread, and prints the page faults of the second round.
_SCRIPT = """
import resource, threading
from deeplab_mnv2.cli.malloc import keep_freed_memory

{before}
keep_freed_memory()

def use():
    b"x" * 2**26

def faults():
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began

print(faults(), faults())
print(open("/proc/self/smaps").read())
print(open("/proc/self/status").read())
"""


def _run(before: str = "") -> tuple[int, int, str]:
    """Return the faults of the first and the second round, and what the kernel says."""
    script = _SCRIPT.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, rest = done.stdout.split("\n", 1)
    once, again = (int(word) for word in first.split())
    return once, again, rest


def test_freed_memory_is_used_again_without_page_faults():
    _, again, _ = _run()
    assert again < 200  # of 16,384 small pages


def test_a_process_that_is_left_alone_has_them():
    # Or the test above could not fail.
    _, again, _ = _run("keep_freed_memory = lambda: None")
    assert again > 1000 or _MODE == "always"  # then each fault is a large page


@pytest.mark.skipif(_MODE not in ("always", "madvise"), reason="the kernel gives no large pages")
def test_the_heap_lies_in_large_pages_and_takes_no_memory():
    first, _, kernel = _run()
    large = [int(size) for size in re.findall(r"AnonHugePages: +(\d+) kB", kernel)]
    assert max(large) >= 48 * 1024
    assert first < 3000
    resident = re.search(r"VmRSS:\s+(\d+) kB", kernel)
    assert resident is not None
    assert int(resident[1]) < 2**18


def test_addresses_that_are_counted_are_not_taken():
    _, again, kernel = _run("resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))")
    size = re.search(r"VmSize:\s+(\d+) kB", kernel)
    assert size is not None
    assert int(size[1]) < 2**21
    assert again < 200

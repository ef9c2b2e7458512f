"""What `import deeplab_mnv2` offers."""

from importlib.resources import files

import deeplab_mnv2


def test_public_names_are_documented_and_the_package_says_that_it_is_typed():
    for name in deeplab_mnv2.__all__:
        assert getattr(deeplab_mnv2, name).__doc__, name
    assert (files("deeplab_mnv2") / "py.typed").is_file()

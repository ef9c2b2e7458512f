"""Where compiled programs are kept, on machines with and without a home."""

import os
from pathlib import Path

import jax
import pytest

from deeplab_mnv2.cli.compilation_cache import keep_compiled_programs

_OPTION = "jax_compilation_cache_dir"


@pytest.fixture
def chosen(monkeypatch):
    """Return a function that gives the folder chosen under an environment, None for none."""
    before = jax.config.jax_compilation_cache_dir

    def choose(**environment: str) -> str | None:
        for name in ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        jax.config.update(_OPTION, None)
        keep_compiled_programs()
        return jax.config.jax_compilation_cache_dir

    yield choose
    jax.config.update(_OPTION, before)


@pytest.fixture
def no_passwd(monkeypatch):
    """A user id that the password file does not know."""

    def getpwuid(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", getpwuid)


def test_the_users_cache_folder_is_taken(chosen, tmp_path):
    home, cache = str(tmp_path), str(tmp_path / "other")
    assert chosen(HOME=home) == f"{home}/.cache/deeplab_mnv2"
    assert chosen(HOME=home, XDG_CACHE_HOME=cache) == f"{cache}/deeplab_mnv2"
    assert Path(cache, "deeplab_mnv2").is_dir()


def test_jaxs_own_setting_comes_first(chosen, tmp_path):
    # JAX has read it as it was imported.
    assert chosen(HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR="/elsewhere") is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_nothing_is_kept(chosen, no_passwd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert chosen() is None
    assert chosen(HOME="") is None
    assert list(tmp_path.iterdir()) == []
    assert chosen(XDG_CACHE_HOME=str(tmp_path)) == f"{tmp_path}/deeplab_mnv2"


@pytest.mark.parametrize("value", ["", "relative", "./cache"])
def test_a_relative_cache_folder_does_not_count(chosen, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    assert chosen(HOME=f"{tmp_path}/home", XDG_CACHE_HOME=value) == (
        f"{tmp_path}/home/.cache/deeplab_mnv2"
    )
    assert os.listdir(tmp_path) == ["home"]


def test_a_home_that_cannot_be_written_is_left_alone(chosen, tmp_path):
    (tmp_path / "file").write_text("")
    assert chosen(HOME=f"{tmp_path}/file") is None
    assert chosen(HOME="/proc") is None

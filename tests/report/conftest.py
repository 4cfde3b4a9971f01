"""Runs to report on, and a browser to look at the page with."""

import shutil
import sys
from pathlib import Path

import pytest

# The generator of run directories and the driver of the browser lie beside the tests.
sys.path.insert(0, str(Path(__file__).parent))

from devtools import Browser
from generated_run import generate_run


@pytest.fixture(scope="session")
def short_run(tmp_path_factory):
    """A finished run of eight steps; tests only read it."""
    return generate_run(tmp_path_factory.mktemp("runs") / "short", steps=8, problems=5)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium, or a skip with the reason."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with Browser(program, tmp_path_factory.mktemp("profile")) as driver:
        yield driver

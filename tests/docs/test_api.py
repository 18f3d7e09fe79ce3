"""The page of public names is what the docstrings say, and says all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kerascope as ks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize("script", ["make_api_docs.py", "make_method_docs.py"])
def test_the_page_is_what_the_code_says(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "scripts" / script, "--check"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", [name for name in ks.__all__ if not name.startswith("__")])
def test_every_public_name_stands_on_the_page(name: str) -> None:
    assert f"ks.{name}" in PAGE.read_text("utf-8")


def test_every_method_stands_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in ks.methods()["name"] if f"`{name}`" not in page] == []

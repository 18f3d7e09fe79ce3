"""The pages for people: every block of Python runs, on every backend, and every link leads somewhere."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import kerascope as ks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {"api.md"}  # from docstrings, whose examples are run as doctests

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def python_of(page: Path) -> str:
    """The Python blocks of a page as one program; lines keep their numbers."""
    text = page.read_text("utf-8")
    program = ["\n"] * (text.count("\n") + 1)
    for found in BLOCK.finditer(text):
        if found[1] == "python":
            first = text.count("\n", 0, found.start(2))
            for i, line in enumerate(found[2].splitlines(keepends=True)):
                program[first + i] = line
    return "".join(program).rstrip()


def runnable() -> list[Path]:
    return [page for page in PAGES if page.name not in MADE and python_of(page).strip()]


def slow_or_not(page: Path) -> Any:
    return pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name == "README.md" else [])


@pytest.mark.parametrize("page", [slow_or_not(page) for page in runnable()])
def test_every_block_of_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace per page, in a folder of its own, as a reader would go through it."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ks.KerascopeWarning)  # said to the reader, and no failure
        exec(compile(python_of(page), str(page), "exec"), {"__name__": "__main__"})


def test_pages_for_newcomers_hold_python() -> None:
    names = {page.name for page in runnable()}
    wanted = {f"from-{peer}.md" for peer in ("innvestigate", "keras-cam", "tf-keras-vis", "shap", "captum")}
    assert {"README.md", *wanted} <= names


@pytest.mark.backend_free
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in LINK.findall(re.sub(BLOCK, "", page.read_text("utf-8"))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on the web."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.backend_free
def test_tests_that_are_named_exist() -> None:
    """What is said to be proven names the test that does it: `test_linear.py::test_a1_...`, in tests/reference."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "identities.md").read_text("utf-8"))
    assert len(named) > 100
    for path, function in named:
        file = ROOT / "tests" / (path if "/" in path else f"reference/{path}")
        assert re.search(rf"^def {function}\(", file.read_text("utf-8"), re.MULTILINE), f"{path}::{function}"


@pytest.mark.backend_free
def test_the_readme_lists_every_page() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text("utf-8")))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked

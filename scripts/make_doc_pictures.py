"""Make the pictures of the tutorial by running its own blocks.

KERAS_BACKEND=jax python scripts/make_doc_pictures.py
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "my-data-are-not-images.md"


def main() -> None:
    """Run the page's Python in a folder of its own, and keep the pictures it shows."""
    text = PAGE.read_text("utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    shown = re.findall(r"\]\(pictures/([\w-]+\.png)\)", text)
    (DOCS / "pictures").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        exec(compile(program, str(PAGE), "exec"), {"__name__": "__main__"})
        for name in shown:
            shutil.copy(name, DOCS / "pictures" / name)
            print(f"docs/pictures/{name}")
        os.chdir(DOCS)


if __name__ == "__main__":
    main()

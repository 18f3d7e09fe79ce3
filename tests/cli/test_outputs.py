"""Places for results are checked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from kerascope.cli import outputs
from kerascope.cli.outputs import check_file, check_folder, check_store, plan
from kerascope.errors import BadInputError, OutputExistsError

pytestmark = pytest.mark.backend_free


def test_one_method_one_store(tmp_path: Path) -> None:
    found = plan(tmp_path / "o.zarr", tmp_path / "r.html", ["lrp"], force=False, inputs=[])
    assert found == outputs.Outputs((tmp_path / "o.zarr",), tmp_path / "r.html", None)
    assert plan(None, None, [], force=False, inputs=[]) == outputs.Outputs()
    assert not list(tmp_path.iterdir())  # trying leaves nothing


def test_several_methods_a_folder_of_stores(tmp_path: Path) -> None:
    found = plan(tmp_path / "o", None, ["lrp", "gradient"], force=False, inputs=[])
    assert found.stores == (tmp_path / "o" / "lrp.zarr", tmp_path / "o" / "gradient.zarr")
    assert found.folder == tmp_path / "o"
    (tmp_path / "o" / "gradient.zarr").mkdir(parents=True)
    with pytest.raises(OutputExistsError, match=r"gradient\.zarr exists already.*--force"):
        plan(tmp_path / "o", None, ["lrp", "gradient"], force=False, inputs=[])
    plan(tmp_path / "o", None, ["lrp", "gradient"], force=True, inputs=[])
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="file is a file; several methods need a folder"):
        plan(tmp_path / "file", None, ["lrp", "gradient"], force=True, inputs=[])


def test_one_path_for_both(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"--out and --report name the same path"):
        plan(tmp_path / "o", tmp_path / "." / "o", ["lrp"], force=False, inputs=[])


@pytest.mark.parametrize("used", ["d.zarr", "d.zarr::x"])
def test_inputs_are_never_overwritten(tmp_path: Path, used: str) -> None:
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "d.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"d\.zarr is one of the inputs"):
        plan(tmp_path / "d.zarr", None, ["lrp"], force=True, inputs=[tmp_path / used])


def test_what_is_there_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(OutputExistsError, match=r"exists already. Choose another name, or --force to replace it"):
        check_file(tmp_path / "r.html", force=False)
    check_file(tmp_path / "r.html", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        check_file(tmp_path / "link", force=False)
    with pytest.raises(OutputExistsError):
        check_store(tmp_path / "link", force=False)


def test_force_replaces_stores_only(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    check_store(tmp_path / "docs", force=True)  # empty
    (tmp_path / "docs" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("docs", "file"):
        with pytest.raises(BadInputError, match="is not a Zarr store, so it is not replaced, even with --force"):
            check_store(tmp_path / name, force=True)
    with pytest.raises(BadInputError, match=r"docs is a folder: name a file in it, such as .*docs/report\.html"):
        check_file(tmp_path / "docs", force=True)


def test_folders_of_results(tmp_path: Path) -> None:
    check_folder(tmp_path / "demo", force=False, made_of=("planted",))
    (tmp_path / "demo" / "planted").mkdir(parents=True)
    with pytest.raises(OutputExistsError):
        check_folder(tmp_path / "demo", force=False, made_of=("planted",))
    check_folder(tmp_path / "demo", force=True, made_of=("planted",))
    (tmp_path / "demo" / "mine").mkdir()
    with pytest.raises(BadInputError, match="not a folder of such results alone"):
        check_folder(tmp_path / "demo", force=True, made_of=("planted",))


def test_parents_must_be_there_and_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match=r"The folder .*none does not exist: make it first \(mkdir -p"):
        check_file(tmp_path / "none" / "r.html", force=False)
    with pytest.raises(BadInputError, match="does not exist"):
        plan(tmp_path / "none" / "o", None, ["a", "b"], force=False, inputs=[])

    def refuse(**kwargs: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refuse)
    with pytest.raises(BadInputError, match=r"Nothing can be written to .*: No space left on device"):
        check_file(tmp_path / "r.html", force=False)


def test_figures_go_to_a_folder_of_pictures_alone(tmp_path: Path) -> None:
    how = {"force": False, "inputs": []}
    assert plan(None, None, ["lrp"], figures=tmp_path / "maps", **how).figures == tmp_path / "maps"
    with pytest.raises(typer.BadParameter, match=r"--report and --figures name the same path"):
        plan(None, tmp_path / "x", ["lrp"], figures=tmp_path / "x", **how)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "old.png").touch()
    with pytest.raises(OutputExistsError, match=r"maps exists already"):
        plan(None, None, ["lrp"], figures=tmp_path / "maps", **how)
    plan(None, None, ["lrp"], figures=tmp_path / "maps", force=True, inputs=[])
    with pytest.raises(BadInputError, match=r"maps is one of the inputs"):
        plan(None, None, ["lrp"], figures=tmp_path / "maps", force=True, inputs=[tmp_path / "maps"])
    (tmp_path / "maps" / "thesis.txt").touch()
    with pytest.raises(BadInputError, match="not a folder of such results alone"):
        plan(None, None, ["lrp"], figures=tmp_path / "maps", force=True, inputs=[])

"""The shape of the house, read from the sources: layers, imports, sizes, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "kerascope"

# Each part and the parts directly below it; what those may import, it may import too.
# A new part gets its line here, and the diagram in CONTRIBUTING.md the same line.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "backend": {"errors"},
    "model": {"backend"},
    "target": {"model"},
    "baseline": {"model"},
    "groups": {"errors"},
    "patterns": {"inputs"},
    "methods": {"target", "baseline", "groups", "patterns"},
    "lrp": {"methods"},
    "metrics": {"methods", "explanation"},
    "registry": {"lrp", "metrics"},
    "inputs": {"model", "record"},
    "provenance": {"registry", "explanation", "inputs", "_version"},
    "relevances": {"errors"},
    "explain": {"provenance", "relevances"},
    "record": {"errors"},
    "store": {"errors"},
    "as_xarray": {"record", "store"},
    "explanation": {"as_xarray"},
    "matrices": {"explanation"},
    "view": {"matrices"},
    "report": {"view"},
    "datasets": {"errors"},
    "evidence": {"explain", "report"},
    "opening": {"evidence"},
    "innvestigate": {"explain"},
    "testing": {"explain"},
    "cli": {"report", "opening", "datasets"},
}
# Explanation's conveniences look upwards, inside the method that is called and nowhere else.
UPWARDS_WHEN_CALLED = {
    ("explanation", "matrices"): "Explanation.rows, .columns, .segments",
    ("explanation", "registry"): "open() rebuilds the method from its name and options",
    ("explanation", "report"): "Explanation.report",
    ("explanation", "view"): "Explanation.plot, _repr_html_",
}
FRAMEWORKS = {"jax", "jaxlib", "tensorflow", "torch"}
# Slow to import, so imported by the function that needs them: `import kerascope` takes no second.
LATE = {"PIL", "bokeh", "jinja2", "matplotlib", "pandas", "scipy", "xarray", "zarr"}
LINES_PER_FILE, LINES_PER_BODY = 500, 60


@dataclass(frozen=True)
class Import:
    """One imported name, absolute, and when: with its module, when a function runs, or for types only."""

    name: str
    line: int
    when: Literal["at once", "late", "never"]

    @property
    def eager(self) -> bool:
        return self.when == "at once"


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    name: str
    text: str
    tree: ast.Module
    is_package: bool

    @property
    def part(self) -> str:
        """The layer it belongs to; the package's own `__init__` has none."""
        return [*self.name.split("."), ""][1]


def parse(sources: Mapping[str, str]) -> dict[str, Module]:
    """Parse sources, given by their path below `src/`."""
    modules = {}
    for path, text in sources.items():
        words = path.removesuffix(".py").split("/")
        is_package = words[-1] == "__init__"
        name = ".".join(words[:-1] if is_package else words)
        modules[name] = Module(name, text, ast.parse(text), is_package)
    return modules


def read_package() -> dict[str, Module]:
    """Parse the package as it lies in the checkout."""
    base = ROOT / "src"
    return parse({p.relative_to(base).as_posix(): p.read_text("utf-8") for p in sorted(base.rglob("*.py"))})


def imports(module: Module) -> Iterator[Import]:
    """Every import of a module: statements wherever they stand, and `import_module` of a constant name."""
    yield from _imports(module, module.tree, "at once")


def _imports(module: Module, node: ast.AST, when: str) -> Iterator[Import]:
    match node:
        case ast.Import():
            yield from (Import(alias.name, node.lineno, when) for alias in node.names)
        case ast.ImportFrom():
            here = module.name.split(".") + (["__init__"] if module.is_package else [])
            base = [*here[: -node.level], node.module] if node.level else [node.module]
            stem = ".".join(filter(None, base))
            yield from (Import(f"{stem}.{alias.name}", node.lineno, when) for alias in node.names)
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _called(node) in (
            "import_module",
            "__import__",
        ):
            yield Import(name, node.lineno, when)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if when == "at once":
            when = "late"
        case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from _imports(module, child, "never")
            node = ast.Module(node.orelse, [])
    for child in ast.iter_child_nodes(node):
        yield from _imports(module, child, when)


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def resolve(modules: Mapping[str, Module], name: str) -> str | None:
    """Return the module of the package that holds an imported name, or None for somebody else's."""
    if name.split(".")[0] != PACKAGE:
        return None
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def reachable(part: str) -> set[str]:
    """Return the parts that a part may import, itself among them."""
    found, waiting = {part}, [part]
    while waiting:
        new = BELOW.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def folder_faults(modules: Mapping[str, Module]) -> list[str]:
    """Folders of code without an `__init__`: tools take them for something else."""
    folders = {name.rpartition(".")[0] for name in modules if "." in name}
    return [f"{name} has no __init__.py" for name in sorted(folders - modules.keys())]


def layer_faults(modules: Mapping[str, Module]) -> list[str]:
    """Imports that do not go downwards, and parts that have no place yet."""
    faults = [f"{m.name}: part {m.part!r} is not in BELOW" for m in modules.values() if m.part not in {"", *BELOW}]
    for module in modules.values():
        for item in imports(module):
            target = resolve(modules, item.name)
            if target is None or not module.part:
                continue
            if target == PACKAGE:
                if module.part not in ("cli", "testing") and not item.name.endswith(".__version__"):
                    faults.append(f"{module.name}:{item.line} imports {item.name} from the package's own front")
                continue
            part = modules[target].part
            excused = (module.part, part) in UPWARDS_WHEN_CALLED and not item.eager
            if part not in reachable(module.part) and not excused:
                faults.append(f"{module.name}:{item.line} imports {target}: not below {module.part!r}")
    return list(dict.fromkeys(faults))


def place_faults(modules: Mapping[str, Module]) -> list[str]:
    """Imports that belong to one place only: frameworks, Matplotlib, private Keras, the command line."""
    early = {resolve(modules, i.name) for module in modules.values() for i in imports(module) if i.eager}
    faults = []
    for module in modules.values():
        for item in imports(module):
            top = item.name.split(".")[0]
            where = f"{module.name}:{item.line} imports {item.name}"
            if top in FRAMEWORKS and module.part != "backend":
                faults.append(f"{where}: frameworks belong to backend/")
            if top == "matplotlib" and module.name != f"{PACKAGE}.view.figure" and item.when != "never":
                faults.append(f"{where}: Matplotlib belongs to view/figure.py")
            if top in LATE and item.eager and module.name in early:
                faults.append(f"{where} at once: import that, or this module, where it is needed")
            if (resolve(modules, item.name) or "").startswith(f"{PACKAGE}.cli") and module.part != "cli":
                faults.append(f"{where}: nobody imports the command line")
        faults += private_keras(module)
    return list(dict.fromkeys(faults))


def private_keras(module: Module) -> list[str]:
    """Uses of `keras.src`: only in model/trace.py, and there not before they are needed."""
    names = [(i.line, i.eager) for i in imports(module) if f"{i.name}.".startswith("keras.src.")]
    names += [
        (node.lineno, False)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src"
    ]
    home = module.name == f"{PACKAGE}.model.trace"
    return [
        f"{module.name}:{line} uses keras.src" + (" at once: look it up when first used" if home else "")
        for line, eager in names
        if eager or not home
    ]


def cycles(modules: Mapping[str, Module]) -> list[str]:
    """Circles of imports that Python would follow while importing."""
    graph = {
        module.name: {
            t for i in imports(module) if i.eager and (t := resolve(modules, i.name)) not in (None, module.name)
        }
        for module in modules.values()
    }
    # Whoever imports none of the rest, or is imported by none of it, lies on no circle.
    while outside := [
        name for name in graph if not graph[name] & graph.keys() or name not in set().union(*graph.values())
    ]:
        for name in outside:
            del graph[name]
    return [f"{name} imports {', '.join(sorted(targets & graph.keys()))}" for name, targets in graph.items()]


def size_faults(modules: Mapping[str, Module]) -> list[str]:
    """Files and function bodies over the bar; a docstring is no part of a body, a nested function is."""
    faults = []
    for module in modules.values():
        lines = module.text.count("\n")
        if lines > LINES_PER_FILE:
            faults.append(f"{module.name} has {lines} lines, {LINES_PER_FILE} at most")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) is not None else 0)
                if body > LINES_PER_BODY:
                    faults.append(f"{module.name}:{node.lineno} {node.name} has {body} lines, {LINES_PER_BODY} at most")
    return faults


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def assert_faults(modules: Mapping[str, Module]) -> list[str]:
    """Bare asserts: they vanish under -O, so a user's mistake would pass unseen."""
    return [
        f"{module.name}:{node.lineno} asserts: raise one of kerascope.errors"
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]


# Written in pieces, so that this file does not hold what it looks for.
HOMES = "|".join(["work", "root", "farm", "home", "Users"])
REGISTRIES = "|".join(["pypi", "pythonhosted", "npmjs", r"download\.pytorch"])
FORBIDDEN = {
    "a path of somebody's machine": rf"(?<![\w.~-])/(?:{HOMES})/\w",
    "the address of a package registry": rf"\b(?:{REGISTRIES})\.(?:org|com)\b"
    + r"|--(?:extra-)?index-" + r"url\b|/simple" + r"/|/packages/[0-9a-f]{2}/[0-9a-f]{2}/",
}  # fmt: skip


def content_faults(name: str, text: str) -> list[str]:
    """Lines that tie a file to one machine or registry."""
    return [
        f"{name}:{number} holds {what}: {found.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in FORBIDDEN.items()
        if (found := re.search(pattern, line))
    ]


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what is tracked is unknown")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def package() -> dict[str, Module]:
    return read_package()


CHECKS = [folder_faults, layer_faults, place_faults, cycles, size_faults, assert_faults]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_package(check, package):
    assert len(package) > 10
    faults = check(package)
    assert not faults, "\n".join(faults)


def test_the_layers_have_no_circle():
    for part, below in BELOW.items():
        assert below <= BELOW.keys(), f"{part} names a part without a line of its own"
        assert part not in set().union(*(reachable(other) for other in below)), part


def test_scripts_keep_the_bars():
    scripts = [*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")]
    assert scripts
    faults = size_faults(parse({path.name: path.read_text("utf-8") for path in scripts}))
    assert not faults, "\n".join(faults)


def test_files_name_no_machine_and_no_registry():
    faults, read = [], 0
    for path in tracked_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:  # models, arrays, pictures
            continue
        read += 1
        faults += content_faults(path.relative_to(ROOT).as_posix(), text)
    assert read > 10
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "import kerascope",
        "import kerascope.errors",
        "import contextlib, io, kerascope.cli.main as m, sys; sys.argv = ['kerascope', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): m.main()",
    ],
    ids=["import", "errors", "help"],
)
def test_starting_imports_nothing_slow(code):
    slow = sorted({"keras", *LATE, *FRAMEWORKS})
    probe = f"{code}\nimport sys\nprint(*(name for name in {slow} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"

# Every check seen red: a violation planted in a package of two or three files.
PLANTED = {
    "upwards": (
        layer_faults,
        {"model/view.py": "from kerascope.methods.base import Method", "methods/base.py": ""},
    ),
    "upwards, relative": (
        layer_faults,
        {"model/view.py": "from ..methods import base", "methods/base.py": ""},
    ),
    "upwards, for types": (
        layer_faults,
        {
            "lrp/rules.py": f"{FOR_TYPES}    import kerascope.registry",
            "registry.py": "",
        },
    ),
    "upwards, eager": (
        layer_faults,
        {"explanation.py": "import kerascope.view.figure", "view/figure.py": ""},
    ),
    "sideways": (layer_faults, {"view/figure.py": "import kerascope.model.graph", "model/graph.py": ""}),
    "no place": (layer_faults, {"novelty.py": ""}),
    "the front": (layer_faults, {"methods/base.py": "import kerascope"}),
    "framework": (place_faults, {"model/trace.py": "def f():\n    import jax.numpy as jnp"}),
    "framework by name": (place_faults, {"explain.py": "import importlib\nimportlib.import_module('torch')"}),
    "matplotlib, not for types": (
        place_faults,
        {"report/html.py": f"{FOR_TYPES}    import typing\nelse:\n    import matplotlib"},
    ),
    "matplotlib": (place_faults, {"report/html.py": "def f():\n    from matplotlib import pyplot"}),
    "pandas at once": (
        place_faults,
        {
            "matrices/profiles.py": "import pandas as pd",
            "report/data.py": "import kerascope.matrices.profiles",
        },
    ),
    "private keras": (place_faults, {"model/view.py": "def f():\n    from keras.src.ops import operation"}),
    "private keras, from keras": (place_faults, {"model/view.py": "def f():\n    from keras import src"}),
    "private keras, attribute": (place_faults, {"model/view.py": "import keras\nnode = keras.src.ops.node"}),
    "private keras at once": (place_faults, {"model/trace.py": "from keras.src.ops import operation"}),
    "the command line": (place_faults, {"report/html.py": "from kerascope.cli import io", "cli/io.py": ""}),
    "circle": (
        cycles,
        {
            "model/a.py": "from kerascope.model.b import x",
            "model/b.py": "from kerascope.model import c",
            "model/c.py": "try:\n    from . import a\nexcept ImportError:\n    pass",
        },
    ),
    "long file": (size_faults, {"errors.py": "x = 1\n" * 501}),
    "long body": (size_faults, {"errors.py": "class A:\n    def f(self):\n" + "        x = 1\n" * 60}),
    "assert": (assert_faults, {"errors.py": "def f(x):\n    assert x"}),
}
ALLOWED = {
    "downwards": {"lrp/rules.py": "from kerascope.model.layers import Primitive", "model/layers.py": ""},
    "upwards when called": {
        "explanation.py": "def plot():\n    from kerascope.view.figure import plot",
        "view/figure.py": "def plot():\n    import matplotlib",
    },
    "backend": {"backend/jax.py": "import jax"},
    "bokeh in a module imported late": {
        "report/plots.py": "import bokeh",
        "report/html.py": "def f():\n    from kerascope.report import plots",
    },
    "trace": {"model/trace.py": "def f():\n    from keras.src.ops import operation"},
    "private keras in words": {"model/view.py": "'''Never keras.src.'''"},
    "long docstring": {"errors.py": "def f():\n    '''a\n" + "b\n" * 80 + "    '''\n"},
    "full file and body": {"errors.py": "def f():\n" + "    x = 1\n" * 59 + "x = 1\n" * 440},
    "matplotlib for types": {"explanation.py": f"{FOR_TYPES}    from matplotlib.figure import Figure"},
    "circle for types": {
        "model/a.py": "from kerascope.model.b import x",
        "model/b.py": f"{FOR_TYPES}    from kerascope.model.a import y",
    },
}


def small_package(files: Mapping[str, str], *, inits: bool = True) -> dict[str, Module]:
    folders = {f"{name.rpartition('/')[0]}/__init__.py" for name in files if "/" in name} if inits else set()
    everything = {"__init__.py": "", **dict.fromkeys(folders, ""), **files}
    return parse({f"{PACKAGE}/{name}": text for name, text in everything.items()})


@pytest.mark.parametrize("name", PLANTED)
def test_checks_see_what_is_planted(name):
    check, files = PLANTED[name]
    assert check(small_package(files, inits=check is not folder_faults))


@pytest.mark.parametrize("name", ALLOWED)
def test_checks_let_the_rest_pass(name):
    faults = [fault for check in CHECKS for fault in check(small_package(ALLOWED[name]))]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "faulty"),
    [
        ("open('/" + "work/main/x')", True),
        ("path: /" + "home/ann/models", True),
        ("pip install --extra-" + "index-url x", True),
        ("from files.python" + "hosted.org", True),
        ("see docs/" + "work/x and ~/" + "work/y", False),
        ("pip install kerascope[jax]", False),
        ("shape (N, H, W)/" + "root", False),
    ],
)
def test_contents_check(text, faulty):
    assert bool(content_faults("file", text)) == faulty

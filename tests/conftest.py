"""What every test starts from: the environment, seeds, float64, and no state left behind."""

from __future__ import annotations

import atexit
import importlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# All of this must stand before the first import of Keras or of a backend.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # else sums are rounded as the processor at hand likes it
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores: one thread each
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0")
# JAX compiles every operation for every shape; what one process or run has compiled serves the others.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "KERASCOPE_TEST_KERAS_HOME" not in os.environ:  # the user's own keras.json must not decide a test
    os.environ["KERAS_HOME"] = os.environ["KERASCOPE_TEST_KERAS_HOME"] = tempfile.mkdtemp(prefix="keras-home-")
    atexit.register(shutil.rmtree, os.environ["KERAS_HOME"], ignore_errors=True)

import hypothesis
import numpy as np
import pytest

# `float64` holds over all examples of a test, as it should; `rng` goes on where the last example left it.
SUPPRESSED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
hypothesis.settings.register_profile(
    "fast",
    max_examples=25,
    deadline=None,  # the first example compiles, the others do not
    derandomize=True,  # a pull request does not fail by luck; the nightly run looks further
    suppress_health_check=SUPPRESSED,
)
hypothesis.settings.register_profile(
    "nightly",
    max_examples=500,
    deadline=None,
    print_blob=True,
    suppress_health_check=SUPPRESSED,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

CHROMIUM_MISSING = "CHROMIUM IS MISSING"

# Keras' state before anybody has touched it, for tests that import Keras themselves.
UNTOUCHED = {"floatx": "float32", "policy": "float32", "format": "channels_last", "x64": False}


def narrowing() -> dict[str, str]:
    """Return Keras' table of dtypes that the result of an operation is narrowed to.

    On JAX and PyTorch it turns float64 into float32, whatever floatx says: `ops.matmul` of two float64
    matrices on PyTorch is right to seven digits. No public setting changes that.
    """
    dtypes = importlib.import_module("keras.src.backend.common.dtypes")
    return getattr(dtypes, "BIT64_TO_BIT32_DTYPE", {})


def numeric_state() -> dict[str, Any]:
    """Return the global settings of Keras and JAX that change numbers."""
    keras: Any = sys.modules.get("keras")
    if not hasattr(keras, "config"):  # not imported, or not wholly
        return dict(UNTOUCHED)
    jax: Any = sys.modules.get("jax")
    return {
        "floatx": keras.config.floatx(),
        "policy": keras.config.dtype_policy().name,
        "format": keras.config.image_data_format(),
        "x64": bool(jax.config.jax_enable_x64) if hasattr(jax, "config") else False,
    }


def set_numeric_state(state: dict[str, Any]) -> None:
    """Put the global settings of Keras and JAX as they are in the state."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", state["x64"])
    keras.config.set_floatx(state["floatx"])
    keras.config.set_dtype_policy(state["policy"])
    keras.config.set_image_data_format(state["format"])


def seed_everything() -> None:
    """Make what Keras draws for weights the same, whatever ran before."""
    # keras.utils.set_random_seed would import TensorFlow under every backend.
    random.seed(0)
    np.random.seed(0)
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "manual_seed"):
        torch.manual_seed(0)
    tensorflow: Any = sys.modules.get("tensorflow")
    if os.environ["KERAS_BACKEND"] == "tensorflow" and hasattr(tensorflow, "random"):
        tensorflow.random.set_seed(0)


@pytest.fixture(autouse=True)
def _same_start_nothing_left() -> Iterator[None]:
    """Seed the global generators, and fail a test that leaves other settings than it found."""
    before, backend = numeric_state(), os.environ["KERAS_BACKEND"]
    seed_everything()
    yield
    after = numeric_state()
    left = {name: value for name, value in after.items() if value != before[name]}
    if left:
        set_numeric_state(before)
    if os.environ.get("KERAS_BACKEND") != backend:
        left["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = backend
    if left:
        pytest.fail(f"This test left global settings behind: {left}; before it they were {before}.", pytrace=False)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything built and computed in the test is float64: ask for it before building a model."""
    import keras  # noqa: F401  # its state is read below

    before = numeric_state()
    monkeypatch.setitem(narrowing(), "float64", "float64")
    set_numeric_state({**before, "floatx": "float64", "policy": "float64", "x64": True})
    yield
    set_numeric_state(before)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts at the same place in every test."""
    return np.random.default_rng(20240229)


@pytest.fixture
def backend() -> str:
    """The Keras backend the suite runs under: "jax", "tensorflow" or "torch"."""
    return os.environ["KERAS_BACKEND"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Without one: skipped, said in red at the end of the run; in CI a failure."""
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name) if name else None
        if found:
            return found
    message = f"{CHROMIUM_MISSING}: install it (apt-get install chromium) or name it in CHROMIUM"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in red which tests did not run because there is no Chromium."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if CHROMIUM_MISSING in str(r.longrepr)]
    if skipped:
        terminalreporter.section(CHROMIUM_MISSING, sep="!", red=True, bold=True)
        terminalreporter.write_line(f"{len(skipped)} tests of the report did NOT run:", red=True)
        for report in skipped:
            terminalreporter.write_line(f"  {report.nodeid}", red=True)

"""Fixtures of all tests: small random models of each family, made by its own classes, and a server."""

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

from infinipot.model import Model
from support.faults import hearing_ctrl_c
from support.models import ANY, ONE_OF_EACH, build

if TYPE_CHECKING:
    from support.serving import Running

torch.set_num_threads(1)
# A busy machine is no failure, and whether a change is sound is no matter of luck: the examples of properties are the
# same in each run. INFINIPOT_ANEW=1 draws others, to look for what these do not find.
settings.register_profile("infinipot", deadline=None, derandomize=not os.environ.get("INFINIPOT_ANEW"))
settings.load_profile("infinipot")


@pytest.fixture
def libraries_as_before() -> Iterator[None]:
    """The command line quietens the libraries for its process, which here is that of all tests."""
    logger = logging.getLogger("transformers")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Has Ctrl-C heard throughout a test."""
    with hearing_ctrl_c():
        yield


@pytest.fixture(scope="session", params=list(ANY.values()), ids=list(ANY))
def any_model(request: pytest.FixtureRequest) -> Model:
    """A random model of every type that a family runs, and of every variant that has a builder."""
    return build(*request.param)


@pytest.fixture(scope="session", params=[kind for kind in ANY.values() if kind[1] == "video"], ids="-".join)
def any_seeing(request: pytest.FixtureRequest) -> Model:
    """Those of them that watch."""
    return build(*request.param)


@pytest.fixture(scope="session", params=ONE_OF_EACH, ids="-".join)
def model(request: pytest.FixtureRequest) -> Model:
    """One random model of every family."""
    return build(*request.param)


@pytest.fixture(scope="session", params=[kind for kind in ONE_OF_EACH if kind[1] == "video"], ids="-".join)
def seeing(request: pytest.FixtureRequest) -> Model:
    """One of every family that watches."""
    return build(*request.param)


@pytest.fixture(scope="session")
def qwen() -> Model:
    """A random Qwen2.5-VL."""
    return build("qwen2_5_vl")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Running"]:
    """A server with the embedded model, keys and snapshots, for all tests that leave it as it was."""
    from support.serving import keys_file, running

    folder = tmp_path_factory.mktemp("served")
    (folder / "media").mkdir()
    given = {"api_keys": keys_file(folder), "snapshots": folder / "snapshots", "media_root": folder / "media"}
    limits = {"session_idle_seconds": 20, "frames_per_second": 1000, "decode_seconds": 20}
    with running(**given, snapshot_seconds=3600, limits=limits) as server:
        yield server

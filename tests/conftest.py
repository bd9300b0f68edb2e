"""Has those processes that run tests load `support.fixtures`, and with it torch and transformers."""

import gc
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_configure(config: pytest.Config) -> None:
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out:  # xdist's controller runs no test, and its workers start when it has started itself
        gc.disable()  # what is imported stays to the end: looking for garbage among it was two fifths of the start
        config.pluginmanager.import_plugin("support.fixtures")


def pytest_collection_finish() -> None:
    gc.freeze()  # nor is it looked through again while tests run: half a million objects
    gc.enable()

"""Has those processes that run tests load `support.fixtures`, and with it torch and transformers."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_configure(config: pytest.Config) -> None:
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if not hands_out:  # xdist's controller runs no test, and its workers start when it has started itself
        config.pluginmanager.import_plugin("support.fixtures")

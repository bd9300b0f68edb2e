"""Tests of the plug-in in lmms-eval itself, for the environment that has it: make test-lmms-eval."""

from importlib.util import find_spec

THEIRS = ["test_frames.py", "test_lmms_eval.py", "test_model.py", "test_protocol.py"]
collect_ignore = [] if find_spec("lmms_eval.api") else THEIRS

"""`infinipot serve`: streams as named bounded memories behind HTTP and WebSockets, one process, one model.

A route (`router.py`) reads a typed body (`protocol.py`) and hands it to what it does (`serving.py`). What is asked of
the model goes to one thread (`worker.py`); what clients send as media is decoded in other processes (`media/`). The
extra `[serve]` brings what this package imports; nothing else in infinipot imports it.
"""

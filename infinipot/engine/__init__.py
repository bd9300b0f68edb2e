"""The engine: state, work and runner, three things that are never one object.

    state.py      what a stream was given and holds: plain data
    setup.py      what its settings come to with a model: worked out once (budget.py: how a cap is shared out)
    watching.py   the work that taking in a frame is         \\  generators that yield requests
    asking.py     the work that answering a question is      /   (layout.py: what the model sees; limits.py: what fits;
                                                                  probing.py: what it is asked for a policy's sake;
                                                                  prefilled.py: what need not be run over twice)
    task.py       work that is under way
    runner.py     runs the network on what tasks ask for: the only place that does

A frame's way: `take_in` waits until a block is full, yields `Encode` for its patches and `Forward` for their tokens,
and commits them to the memory, which compresses itself if the next block would find no room. A question's way: `answer`
yields `Forward` for the question and for each token of the answer, on a transaction that is then forgotten or
committed. `step(tasks)` is the main loop's body: it encodes, runs one packed forward and carries each task on.
"""

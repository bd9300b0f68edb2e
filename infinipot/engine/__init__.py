"""The engine: state, work and runner, three things that are never one object.

A stream, from its settings on:

    budget.py     how its cap is shared out
    setup.py      what its settings come to with a model, worked out once
    state.py      what it was given and holds: plain data
    pending.py    the part of that which is not in the memory yet
    opening.py    what is checked before the first frame, and the empty state

A call on it, as work that waits for the model:

    alone.py      has one call at a time work on a stream
    fair_lock.py  the lock that threads get in the order in which they ask for it
    task.py       a call that is under way: a generator that yields requests
    requests.py   what a task asks of the model, and what the model can take together
    runner.py     runs the network on what tasks ask for: the only place that does

Taking in a frame:

    watching.py   the work as a whole: a frame waits until its block is full
    gating.py     which cells of a patch the model is given
    patches.py    what the encoder takes, made of what was given
    layout.py     in which order texts, captions and patches go into the model and the memory
    compressing.py  when a memory is compressed, and down to how many tokens
    probing.py    what the model runs over after a block for the policy's sake

Answering a question:

    question.py   what is asked, with which options
    asking.py     the work as a whole
    limits.py     what must fit before any of it is done
    prefilled.py  what one question had the model run over, for the next to begin after
    looking.py    a second look at the last frames
    decoding.py   which token is chosen, and its text
    evidence.py   the answer, and the moments that it rests on

A frame's way: `watch` waits until a block is full, yields `Encode` for its patches and `Forward` for their tokens,
and commits them to the memory, which compresses itself if the next block would find no room. A question's way: `answer`
yields `Forward` for the question and for each token of the answer, on a transaction that is then forgotten or
committed. `step(tasks)` is the main loop's body: it encodes, runs one packed forward and carries each task on.
"""

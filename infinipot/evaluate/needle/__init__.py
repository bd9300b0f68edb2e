"""The needle benchmark: what each policy remembers of a stream, after how long, at how many tokens.

The embedded model watches clips of its synthetic world, and every answer it gives is written down with what was right.

    case.py        what determines one watched stream
    plan.py        the sections, the cases of each, and the settings that its ablations compare
    memories.py    runs cases: one clip, many memories side by side
    processes.py   runs groups of cases in several processes
    cost.py        what memory and time it takes, a process for each policy
    needle.py      a whole benchmark: what is left to run, and the report
    rows.py        answers put together into the rows of each section
    layouts.py     rows as tables, made of cells.py; pictures.py: as pictures

It uses the public names of the package and the world, and never looks inside a stream.
"""

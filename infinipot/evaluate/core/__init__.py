"""The parts that all measurements share: the journal, the bootstrap, tables, and the description of the machine.

Knows no benchmark, model or question.
"""

"""What every measurement shares: one journal, one bootstrap, one table, one way of saying what computed.

Knows no benchmark, model or question.
"""

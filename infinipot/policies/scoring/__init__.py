"""What policies compute from tokens: scores, and choices by scores. Knows no policies.

tar.py         TaR: how much a token's key is like those of its cell at other times
van.py         VaN: the length of a token's value, as it is or averaged over neighbours
mean.py        how far a key or a value is from the mean of its row
neighbours.py  nearest neighbours, and tokens that are far from each other
attention.py   the attention that queries paid to a token
recency.py     which tokens are recent, and which stretch of the stream a token is from
ranking.py     the highest scores of a row, or of groups of tokens in it, the same on every device
rounding.py    sums and powers that come out the same for equal tokens, wherever they lie
grid.py        rows and columns of cells, and means over the cells around a token
layers.py      rows grouped by layer
"""

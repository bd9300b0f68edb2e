"""Interlaced pictures without their combs. Knows pixels alone.

Their odd rows were taken a fiftieth or a sixtieth of a second from their even rows, so that what moves is torn.
"""

import numpy as np

_APART = 16  # levels by which a row has to differ from both neighbours; less is noise


def without_combs(picture: np.ndarray) -> np.ndarray:
    """Returns a picture `[height, width, 3]` uint8 of one instant, that of its even rows.

    Where an odd row differs from the even rows around it to the same side, and from these more than from the odd rows
    next to it, it is replaced by the mean of the even ones. What stands still stays sharp.
    """
    even, odd = picture[::2].astype(np.int16), picture[1::2].astype(np.int16)
    count = len(odd)
    above, below = even[:count], np.concatenate([even[1:], even[-1:]])[:count]  # the last row may have none below it
    over, under = odd - above, odd - below
    combed = (np.sign(over) == np.sign(under)) & (np.minimum(np.abs(over), np.abs(under)) > _APART)
    if count > 1:
        before, behind = np.concatenate([odd[1:2], odd[:-1]]), np.concatenate([odd[1:], odd[-2:-1]])
        combed &= np.abs(2 * odd - before - behind) < np.abs(over + under)
    out = picture.copy()
    out[1::2] = np.where(combed.any(-1, keepdims=True), (above + below) >> 1, odd)
    return out

"""The setting of the gate ahead of the model: `gate=` of a stream. Plain numbers; engine/gating.py does the work."""

from dataclasses import dataclass

from infinipot.errors import SettingError

OTSU, PATCHES = "otsu", "patches"
OFF = "off"  # None, where a setting is a word: on the command line, and of a server's stream
_NOISE, _CLEAR = 0.02, 0.06  # between what a sensor's noise makes, and what anyone would call a change


@dataclass(frozen=True, slots=True)
class Gate:
    """The change of a cell, as a share of black to white, from which it is given to the model again.

    Attributes:
        least, most: the threshold lies between them; Otsu's choice, where they are not the same.
        whole: whether a patch of which any cell has changed is given whole.
    """

    least: float
    most: float
    whole: bool = False

    @classmethod
    def of(cls, given: float | str | None) -> "Gate | None":
        """The gate of a setting: "patches", "otsu", a share from 0 to 1, or None for no gate.

        Raises:
            SettingError: it is none of these.
        """
        if given is None:
            return None
        if given in (OTSU, PATCHES):
            return cls(_NOISE, _CLEAR, whole=given == PATCHES)
        try:
            threshold = float(given)
        except (TypeError, ValueError):
            threshold = -1.0
        if isinstance(given, bool) or not 0 <= threshold <= 1:
            raise SettingError(
                f'gate={given!r}: give "{PATCHES}", "{OTSU}", a share from 0 to 1 such as 0.03, or no gate, which is '
                f'None in Python and "{OFF}" elsewhere'
            )
        return cls(threshold, threshold)

"""HDR pictures (PQ, HLG) as a standard display shows them. Knows pixels alone.

The transfer functions are those of ITU-R BT.2100-2. Brightness is compressed by the curve of ITU-R BT.2390-10 section
5.4.1, on the largest of the three components, so that hues stay. A standard display's white is 203 cd/m² (BT.2408-7).
"""

from functools import cache

import numpy as np

PQ, HLG = 16, 18
"""FFmpeg's AVColorTransferCharacteristic."""

_BT2020 = 9  # AVColorPrimaries
_WHITE = 203.0  # cd/m² of a standard display's white
_PEAK = 1000.0  # cd/m² that pictures are graded to, and the nominal peak of HLG
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020-2 table 4
_TO_BT709 = np.array(  # BT.2087-0 inverted: linear components of BT.2020 as those of BT.709
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_M1, _M2 = 2610 / 16384, 2523 / 32  # BT.2100-2 table 4
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_CODES = 1 << 16
_ROWS = 64  # that are converted at once


def is_hdr(transfer: int) -> bool:
    """Whether pictures of a transfer characteristic have to be converted."""
    return transfer in (PQ, HLG)


def to_standard(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Returns an HDR picture as a standard one.

    Args:
        picture: `[height, width, 3]` uint16, RGB, full range.
        transfer: `PQ` or `HLG`.
        primaries: of its colours, as FFmpeg numbers them; all but those of BT.2020 are taken for BT.709's.

    Returns:
        `[height, width, 3]` uint8, RGB, for a display of gamma 2.4 (ITU-R BT.1886).
    """
    out = np.empty(picture.shape, np.uint8)
    for top in range(0, len(picture), _ROWS):
        light = _light(picture[top : top + _ROWS], transfer)
        if primaries == _BT2020:
            light = light @ _TO_BT709.T
        out[top : top + _ROWS] = _display()[(light.clip(0, 1) * (_CODES - 1) + 0.5).astype(np.uint16)]
    return out


def _light(codes: np.ndarray, transfer: int) -> np.ndarray:
    """Light of each component `[rows, width, 3]`, 1 being a standard display's white, compressed to no more."""
    if transfer == PQ:
        return _pq()[codes] * _gain()[codes.max(-1, keepdims=True)]
    scene = _hlg()[codes]
    luma = (scene @ _LUMA)[..., None]
    light = scene * np.maximum(luma, 1e-6) ** 0.2 * (_PEAK / _WHITE)  # the OOTF at a nominal peak of 1,000 cd/m²
    brightest = (_from_light(light.max(-1, keepdims=True)) * (_CODES - 1)).astype(np.uint16)
    return light * _gain()[brightest]


@cache
def _pq() -> np.ndarray:
    """Light by PQ code."""
    return _to_light(np.linspace(0, 1, _CODES)).astype(np.float32)


@cache
def _hlg() -> np.ndarray:
    """Scene light by HLG code, the inverse of the OETF (BT.2100-2 table 5)."""
    code, a = np.linspace(0, 1, _CODES), 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)


@cache
def _display() -> np.ndarray:
    """The signal for a display of gamma 2.4, by light."""
    return np.rint(255 * np.linspace(0, 1, _CODES) ** (1 / 2.4)).astype(np.uint8)


@cache
def _gain() -> np.ndarray:
    """The compression of light, by the PQ code of a pixel's brightest component (BT.2390-10 section 5.4.1)."""
    code = np.linspace(0, 1, _CODES)
    top = float(_from_light(np.array(_PEAK / _WHITE)))
    most = float(_from_light(np.array(1.0))) / top
    knee = 1.5 * most - 0.5
    share = np.minimum(code / top, 1)
    t = (share - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    compressed = _to_light(np.where(share < knee, share, spline) * top)
    return (compressed / np.maximum(_to_light(code), 1e-9)).clip(0, 1).astype(np.float32)


def _to_light(code: np.ndarray) -> np.ndarray:
    """Light, 1 being a standard display's white, of PQ codes from 0 to 1."""
    power = code ** (1 / _M2)
    return (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1) * (10_000 / _WHITE)


def _from_light(light: np.ndarray) -> np.ndarray:
    """PQ codes from 0 to 1 of light, 1 being a standard display's white."""
    power = (light * (_WHITE / 10_000)) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2

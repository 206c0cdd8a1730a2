"""NTFS's upcase table, frozen: which 16-bit units are equal when names are compared.

Every NTFS volume carries its own copy in `$UpCase`, written when it was formatted; this is the one
that mkntfs 2022.10.3 writes, Windows 7's and later. `str.upper` is no substitute: it differs in 244
units, and in others with every release of Unicode.
Not in scope: comparing names (names.py).
"""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from array import array

UNITS = 65536
VERSION = 1
"""Names what was folded with this table: part of the key of everything derived from it."""

# zlib of 65,536 little-endian differences (upper - unit) modulo 2**16.
_DIFFERENCES = (
    "c-rmUy^0e-902esgww_+5Ux_Wh#ndgpTP&P7kmI)8<8u03c(l9Qfw4oz$PHt94Ke2l{Vhrxg-~}o9xC-c0(@yet%{&"
    "lljQ(?8m`{Y)WU{VKk4lHJa{svHUoX5YcT)sa#&%qucpRm);lVSDf*wQU1ZC^kSSlsMxpZUgZ@izH_&5ERUnOt>2SZ"
    "4c7m-;#hQXeCyhk*R-6U?YG;z)Jy3`+{&eX^z-&kPPZpL`orAKNqIl6=lsvTQRyWAd+*w?wpW_Nw_%$r@pn7Qy@{(i"
    "UQe~YyhZnm|4;cm9bLHx<EytTpW^c{{^brmug%+dm!mxDucfZfotf({Vl)3f&Bn_G(cV35-Z`_5R9E{W);pIr*Kl1v"
    "M0??G2><{90000000000o8jEE(d*GgYjGk%TIDw`XM3N{r(%@V)s^cP^<QTEG<<(LH5>n4j{D<ynB!@VM>(G4XnX!u"
    "^(kFga1B=1SFcOCerKuiVN-o=;rDpoqdunZ;sCHIj-q*3H2?qr)~(H_v(0~A+v$I92ZN7;s&DJ+o_e^=-%T#|{7ZY`"
    "YzF`U00000000000000000000000000000000000000000000000000000000000000000000000J;&eTB;kPi_fRo"
    "8n$taS3N)G&$h0;BMkrm00000000000000000000000000000000000000000000000000K+$0|53AOeKlwX#<^"
)


def table() -> array[int]:
    """The upper-case unit of each of the 65,536 units, newly unpacked."""
    differences = array("H", zlib.decompress(base64.b85decode(_DIFFERENCES)))
    if sys.byteorder == "big":
        differences.byteswap()
    return array("H", (unit + step & 0xFFFF for unit, step in enumerate(differences)))


def changes() -> dict[int, int]:
    """Unit -> upper-case unit, only where they differ: a map for `str.translate`."""
    return {unit: upper for unit, upper in enumerate(table()) if unit != upper}


def build_upcase(units: array[int]) -> bytes:
    """The content of a volume's `$UpCase` file."""
    return struct.pack(f"<{UNITS}H", *units)

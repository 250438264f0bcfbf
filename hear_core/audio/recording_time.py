"""Time at which a recording was made, as recorders write it into file names."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

# 20260501_050000, SITE_20260501_050000, SM4A01_0+1_20260501_050000, 20260501T050000Z
_STAMP = re.compile(r"(?<!\d)(\d{8})[_T-]?(\d{6})(?!\d)")


def recorded_at(path: Path | str) -> datetime | None:
    """Return the time at which a recording begins, from its file name.

    Names of AudioMoth, Wildlife Acoustics and other recorders have date and time as
    ``20260501_050000``, somewhere in the name.

    Args:
        path: The recording.

    Returns:
        The time, without a time zone, as the recorder's clock showed it; None if the name does not
        hold a valid time.
    """
    for date, time in _STAMP.findall(Path(path).name):
        try:
            return datetime.strptime(date + time, "%Y%m%d%H%M%S")
        except ValueError:
            continue
    return None

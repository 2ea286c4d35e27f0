"""What Windows lacks, and so which tests are skipped there."""

import os

import pytest


def needs_posix(what: str) -> pytest.MarkDecorator:
    """Skip a test on Windows, for want of ``what``."""
    return pytest.mark.skipif(os.name != "posix", reason=f"Windows has no {what}")


SIGNALS = needs_posix("signals from one process to another")
DEVICES = needs_posix("devices in folders")
KILLS = needs_posix("way to see whether a process still runs")
PERMISSIONS = needs_posix("permissions of this kind")

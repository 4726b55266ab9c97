"""Endless ECG as events: level crossings of a raw signal, and the MIT-BIH records that they are tried on.

The law is the one in the published code of the spiking-recurrent-network papers (arXiv 2005.11633, 2103.12593): the
signal is smoothed (A. Savitzky, M. Golay, Anal. Chem. 1964: cubic over 5 samples), and a difference of two neighbouring
samples of at least 0.03 mV is an event, up or down. On the 6 records at 250 Hz that gives an up event in 8.3 % and a
down event in 8.0 % of the ticks (first two minutes of each), where the ``ecg-qtdb`` set has 8.5 % and 7.0 %. It isn't
exactly how that set was made: there an event is followed by one of its kind in the next tick in 49 % of the cases,
here in 71 %.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from apical.sw.data import Bytes, DataError, read_file

Samples = npt.NDArray[np.float64]
Ticks = npt.NDArray[np.int64]
SMOOTHING = np.array([-3, 12, 17, 12, -3]) / 35  # value at the middle of the cubic that fits 5 samples best
THRESHOLD_MV = 0.03
LOOK_AHEAD = 3  # ticks: 2 of the smoothing, 1 of the difference
RATE_HZ = 250  # of the ``ecg-qtdb`` set, and so of the stream

MITBIH_FILE = "mitbih12/mitbih_dev.npz"
MITBIH_SHA256 = "422f1aa9e5a5675566bbf734675350ed04809bffd9d195026cec2ca28af4e7d1"


def level_crossings(signal_mv: Samples, threshold_mv: float = THRESHOLD_MV) -> Bytes:
    r"""Up and down events of one lead, [ticks, 2].

    .. math:: up_t = [y_{t+1} - y_t \ge \theta], \quad down_t = [y_t - y_{t+1} \ge \theta]

    with y the smoothed signal; nothing in the last tick. Tick t needs the signal up to t + 3 (12 ms at 250 Hz), so a
    device sends it 3 ticks late.

    :param signal_mv: [ticks], millivolts, at the rate of the ticks; its ends are smoothed as if it went on unchanged.
    :raises DataError: not a row of at least 2 finite samples, or a threshold that isn't positive.
    """
    if signal_mv.ndim != 1 or len(signal_mv) < 2 or not np.isfinite(signal_mv).all():
        raise DataError(f"signal: expected [samples] of at least 2 finite numbers, got shape {list(signal_mv.shape)}")
    if not threshold_mv > 0:
        raise DataError(f"threshold: expected a positive number of millivolts, got {threshold_mv}")
    smooth = np.convolve(np.pad(signal_mv, 2, mode="edge"), SMOOTHING, "valid")
    step = np.diff(smooth, append=smooth[-1:])
    return np.stack([step >= threshold_mv, step <= -threshold_mv], axis=1).astype(np.uint8)


class HeartRecord(NamedTuple):
    """A record as an endless sequence.

    :param events: [ticks, channels], 250 ticks a second.
    :param r_peaks: ticks of the heartbeats' R peaks, as the record's annotators marked them, rising.
    :param signal_mv: [ticks], the lead that the events were made of.
    """

    events: Bytes
    r_peaks: Ticks
    signal_mv: Samples


def mitbih(record: int, *, leads: int = 2) -> HeartRecord:
    """One of 6 half-hour records of the MIT-BIH Arrhythmia Database (G. Moody, R. Mark, 2001; ODC-By 1.0).

    The signal is resampled from 360 Hz to 250 Hz (a polyphase filter, 25/36) and encoded by `level_crossings`.
    ``ecg-qtdb`` has two leads (channels: up, down of the first, up, down of the second); the records here have one, so
    both pairs carry the same events. A network trained on two leads runs on that; how well it tells the heartbeat's
    parts can't be scored, since only R peaks are marked.

    :param record: 100, 105, 106, 114, 119 or 200.
    :param leads: 2, or 1 for the two channels of the one lead.
    :raises DataError: no such record or number of leads; the file is missing or damaged.
    """
    from scipy.signal import resample_poly  # here: it takes a while to import

    if leads not in (1, 2):
        raise DataError(f"leads: expected 1 or 2, got {leads!r}")
    content = read_file(
        "The ECG records (MIT-BIH)",
        MITBIH_FILE,
        MITBIH_SHA256,
        f"{MITBIH_FILE} (6 records: signal, rate, gain, R peaks as arrays)",
    )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        known = arrays["records"].tolist()
        if record not in known:
            raise DataError(f"record: expected one of {known}, got {record!r}")
        signal = arrays[f"ecg_{record}"] / float(arrays["gain_adu_per_mV"])
        rate, peaks = int(arrays["fs"]), arrays[f"rpeaks_{record}"].astype(np.int64)
    shared = int(np.gcd(RATE_HZ, rate))
    # "line": the signal's ends are joined by a line that the filter leaves alone, so that it doesn't ring there
    resampled = resample_poly(signal, RATE_HZ // shared, rate // shared, padtype="line")
    resampled = np.asarray(resampled, np.float64)
    events = np.tile(level_crossings(resampled), (1, leads))
    return HeartRecord(events, (2 * peaks * RATE_HZ + rate) // (2 * rate), resampled)

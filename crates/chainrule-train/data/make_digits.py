"""Writes digits-images.idx.gz and digits-labels.idx.gz from scikit-learn's copy of the UCI digits.

Run with Python and scikit-learn (made with 1.9.1): python make_digits.py
The gzip header carries no name and no time, so the same data give the same bytes for one zlib.
"""

import gzip
import pathlib
import struct

import numpy as np
from sklearn.datasets import load_digits

UBYTE = 0x08


def idx(array):
    """An IDX file: 0, 0, type, number of dimensions, each dimension as big-endian u32, then the elements."""
    header = struct.pack(">BBBB", 0, 0, UBYTE, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def main():
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8) and digits.target.shape == (1797,)
    assert digits.images.min() == 0 and digits.images.max() == 16
    assert (digits.images == digits.images.astype(np.uint8)).all()
    here = pathlib.Path(__file__).parent
    for name, array in [("images", digits.images), ("labels", digits.target)]:
        (here / f"digits-{name}.idx.gz").write_bytes(gzip.compress(idx(array), compresslevel=9, mtime=0))


main()

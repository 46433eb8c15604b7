#!/usr/bin/env python3
"""make-skewed.py OUT.npy [TOKENS TOP_K EXPERTS EXPONENT SEED]: a routing trace with a zipf skew.

Made up, not recorded from a model: expert at popularity rank i is drawn with weight i^-EXPONENT, a
token lists an expert once, and which expert is popular is shuffled by the seed. Needs no numpy.
The shipped file is `make-skewed.py skewed-64-experts.npy`.
"""

import random
import struct
import sys


def rows(tokens, top_k, experts, exponent, seed):
    chance = random.Random(seed)
    popular = list(range(experts))
    chance.shuffle(popular)
    weights = [(i + 1) ** -exponent for i in range(experts)]
    for _ in range(tokens):
        left = list(zip(popular, weights))
        row = []
        for _ in range(top_k):
            ticket = chance.random() * sum(w for _, w in left)
            at = 0
            while at + 1 < len(left) and ticket >= left[at][1]:
                ticket -= left[at][1]
                at += 1
            row.append(left.pop(at)[0])
        yield row


def main():
    numbers = [256, 8, 64, 1.2, 1]
    for i, text in enumerate(sys.argv[2:7]):
        numbers[i] = float(text) if i == 3 else int(text)
    tokens, top_k, experts, exponent, seed = numbers
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }" % (tokens, top_k)
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with open(sys.argv[1], "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii"))
        for row in rows(tokens, top_k, experts, exponent, seed):
            out.write(struct.pack("<%di" % top_k, *row))


if __name__ == "__main__":
    main()

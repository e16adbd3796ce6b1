"""What is drawn by lot, and damage that any bytes can take. The same seed and number always give the same bytes."""

from __future__ import annotations

import random
import struct

# Where limits, signs and widths of counters lie.
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 16, 32, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 1 << 20, (1 << 24) - 1)
NUMBERS += ((1 << 31) - 1, 1 << 31, (1 << 32) - 8, (1 << 32) - 1, 1 << 32, (1 << 62) - 1, (1 << 63) - 1, (1 << 64) - 1)
HEAD = 200  # bytes in which most formats have what describes the rest
MOST = 4 << 20  # bytes: what is repeated or put in does not grow a file beyond


def dice(kind, seed, number):
    """A generator for one case alone, so that it can be drawn again by itself."""
    return random.Random(f"{kind}/{seed}/{number}")


def place(dice, data):
    """A position in the data, every other time in its head."""
    return dice.randrange(min(HEAD, len(data)) if dice.random() < 0.5 else len(data)) if data else 0


def number_for(dice, width, near=0):
    """A number of so many bytes: one at which things break, or one near to what was there."""
    if dice.random() < 0.3:
        return (near + dice.choice((-8, -2, -1, 1, 2, 8))) % (1 << 8 * width)
    return dice.choice(NUMBERS) % (1 << 8 * width)


def put_number(dice, data, at, width, order):
    """`data` with another number of `width` bytes at `at`; unchanged where there is no room for it."""
    form = order + {1: "B", 2: "H", 4: "L", 8: "Q"}[width]
    if at < 0 or at + width > len(data):
        return data
    (near,) = struct.unpack_from(form, data, at)
    return data[:at] + struct.pack(form, number_for(dice, width, near)) + data[at + width :]


def flip_bits(dice, data):
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        if out:
            out[place(dice, out)] ^= 1 << dice.randrange(8)
    return bytes(out)


def set_bytes(dice, data):
    out = bytearray(data)
    for _ in range(dice.choice((1, 2, 4))):
        if out:
            out[place(dice, out)] = dice.choice((0, 1, 2, 127, 128, 255, dice.randrange(256)))
    return bytes(out)


def cut(dice, data):
    return data[: dice.choice((place(dice, data), max(0, len(data) - dice.randrange(1, 40))))]


def remove(dice, data):
    at = place(dice, data)
    return data[:at] + data[at + dice.choice((1, 2, 4, 8, 64, 1000)) :]


def repeat(dice, data):
    at = place(dice, data)
    part = data[at : at + dice.choice((1, 4, 16, 256))]
    times = min(dice.choice((1, 2, 50)), MOST // max(1, len(part)))
    return data[:at] + part * times + data[at:]


def insert(dice, data):
    at = place(dice, data)
    return data[:at] + dice.randbytes(dice.choice((1, 2, 4, 30))) + data[at:]


def swap(dice, data):
    """Two stretches change places."""
    first, second = sorted((place(dice, data), place(dice, data)))
    length = min(dice.choice((1, 4, 16)), second - first)
    ends = data[first : first + length], data[second : second + length]
    return data[:first] + ends[1] + data[first + length : second] + ends[0] + data[second + length :]


def numbers(dice, data):
    return put_number(dice, data, place(dice, data), dice.choice((1, 2, 4, 4, 8)), dice.choice("<>"))


WAYS = (flip_bits, flip_bits, set_bytes, numbers, numbers, cut, remove, repeat, insert, swap)


def damaged(dice, data):
    """One kind of damage."""
    return dice.choice(WAYS)(dice, data)


def rearranged(dice, parts):
    """Parts of a file left out, repeated, swapped or shuffled."""
    parts = list(parts)
    if not parts:
        return parts
    one, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    match dice.choice(("drop", "repeat", "move", "swap", "shuffle", "many")):
        case "drop":
            del parts[one]
        case "repeat":
            parts.insert(other, parts[one])
        case "move":
            parts.insert(other, parts.pop(one))
        case "swap":
            parts[one], parts[other] = parts[other], parts[one]
        case "shuffle":
            dice.shuffle(parts)
        case "many":
            parts[one:one] = [parts[one]] * 300
    return parts

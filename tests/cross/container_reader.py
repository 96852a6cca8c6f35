"""A reader of containers in plain Python with NumPy, written from docs/container.md: `unpack(container, base)` gives [(location, bytes)], the model first."""
import os
from array import array

import numpy as np
from blake3 import blake3

FLOATS = {1: (8, 23), 14: (8, 23), 11: (11, 52), 15: (11, 52), 10: (5, 10), 16: (8, 7), 17: (4, 3), 18: (4, 3), 19: (5, 2), 20: (5, 2)}
INTEGERS = {4: 16, 5: 16, 6: 32, 12: 32, 7: 64, 13: 64, 21: 4, 22: 4}
LOGISTIC = [22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724,
            60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514]
HALF, M32, M64 = 1 << 31, (1 << 32) - 1, (1 << 64) - 1
RATE = [131072 // (2 * n + 3) for n in range(1024)]
SQUASH = [(LOGISTIC[x >> 7] * (128 - (x & 127)) + LOGISTIC[(x >> 7) + 1] * (x & 127) + 64) >> 7 for x in [1, *range(1, 4096)]]
STRETCH = [next((x for x in range(-2047, 2048) if SQUASH[x + 2048] >> 4 >= p), 2047) for p in range(4096)]


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, length):
        assert self.at + length <= len(self.data)
        self.at += length
        return self.data[self.at - length:self.at]

    def varint(self):
        byte = self.take(1)[0]
        return byte if byte < 128 else byte - 128 | self.varint() << 7

    def text(self):
        return self.take(self.varint()).decode()


def learn(slots, at, bit, limit):
    n, p = slots[at] & 1023, (slots[at] ^ HALF) >> 10
    p += ((4194303 if bit else 0) - p) * RATE[n] >> 16
    slots[at] = (p << 10 ^ HALF) | (n + (n < limit))


class Coder:
    def __init__(self, data):  # `known` bits are learned from, not read
        self.data, self.at, self.low, self.high, self.code, self.known = data, 4, 0, M32, int.from_bytes((data + bytes(4))[:4], "big"), []

    def bit(self, p):
        if self.known:
            return self.known.pop()
        middle = self.low + ((self.high - self.low) * p >> 16)
        bit = int(self.code <= middle)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while (self.low ^ self.high) >> 24 == 0:
            self.code = (self.code << 8 | (self.data[self.at] if self.at < len(self.data) else 0)) & M32
            self.low, self.high, self.at = self.low << 8 & M32, (self.high << 8 | 255) & M32, self.at + 1
        return bit

    def direct(self, slots, at, limit):
        bit = self.bit(min(max((slots[at] ^ HALF) >> 16, 32), 65504))
        learn(slots, at, bit, limit)
        return bit

    def tree(self, bits, decide):
        node = 1
        for _ in range(bits):
            node = node << 1 | decide(node)
        return node ^ 1 << bits

    def mixed(self, weights, rate, slots, places, limit, extra):
        logits = [STRETCH[(slots[at] ^ HALF) >> 20] for at in places] + extra
        p = SQUASH[min(max(sum(w * x for w, x in zip(weights, logits)) >> 16, -2047), 2047) + 2048]
        bit = self.bit(p)
        error = ((bit << 16) - p) * rate >> 4
        weights[:] = [min(max(w + (x * error + 32768 >> 16), -(1 << 20)), 1 << 20) for w, x in zip(weights, logits)]
        for at in places:
            learn(slots, at, bit, limit)
        return bit


def hashed(context, salt):
    mixed = (context ^ salt << 56) * 0x9E3779B97F4A7C15 & M64
    return (mixed >> 32 ^ mixed >> 15) & M32


class Text:
    def __init__(self, length):
        self.bits = min(max(length.bit_length() + 2, 10), 19)
        self.slots, self.table, self.matches = array("I", bytes(64 << self.bits)), [0] * (1 << min(self.bits, 18)), array("I", bytes(1024))
        self.seen, self.weights = bytearray(), {}
        self.window = self.letters = self.place = self.length = self.misses = 0

    def read(self, coder, count):
        for _ in range(count):
            self.byte(coder)
        return self

    def byte(self, coder):
        expected, last, so_far = self.seen[self.place] if self.place else -1, self.window & 255, 1
        contexts = [self.window & ((1 << 8 * n) - 1) for n in (0, 1, 2, 3, 4, 6)] + [self.letters << 8 | last]
        contexts.append((1 << 40 | expected << 16 if self.place else 0) | min(self.length, 15) << 24 | last)
        for half in range(2):
            groups = [(hashed(c, k << 5 | (so_far if half else 0)) >> (32 - self.bits)) * 16 for k, c in enumerate(contexts)]
            node = 1
            for at in range(7 - 4 * half, 3 - 4 * half, -1):
                guessed = self.place and (expected | 256) >> (at + 1) == so_far
                match = (min(self.misses.bit_count(), 3) * 16 + min(self.length.bit_length(), 15)) * 2 + (expected >> at & 1)
                logit = STRETCH[(self.matches[match] ^ HALF) >> 20] if guessed else 0
                trust = (1 + (self.length > 0) + (self.length > 15)) if guessed else 0
                weights = self.weights.setdefault(trust * 256 + so_far, [1 << 14] * 11)
                bit = coder.mixed(weights, 12, self.slots, [g + node for g in groups], 127, [logit, logit if self.length > 15 else 0, 256])
                if guessed:
                    learn(self.matches, match, bit, 1023)
                so_far, node = so_far << 1 | bit, node << 1 | bit
        self.push(so_far & 255)

    def push(self, byte):
        self.window = (self.window << 8 | byte) & M64
        if not 48 <= byte <= 57:
            self.letters = (self.letters * 0x2F0B4C47 + byte + 1) << 1 & M32
        if self.place:
            hit = self.seen[self.place] == byte
            self.misses, self.length, self.place = (self.misses << 1 | (not hit)) & 255, self.length + 1 if hit else 0, self.place + 1
        self.seen.append(byte)
        end = len(self.seen)
        if end >= 5:
            entry = hashed(self.window & ((1 << 40) - 1), 255) >> 14 & (len(self.table) - 1)
            if self.misses.bit_count() > 7:
                self.place = self.length = self.misses = 0
            if self.length < 16:
                start, same = self.table[entry], 0
                while same < min(32, start) and self.seen[start - 1 - same] == self.seen[end - 1 - same]:
                    same += 1
                if same > self.length and same >= 5:
                    self.place, self.length, self.misses = start, same, 0
            self.table[entry] = end


def plane(reader, count):
    way = reader.take(1)[0]
    if way < 2:
        return np.full(count, reader.take(1)[0], np.uint8) if way else np.frombuffer(reader.take(count), np.uint8)
    reader, frequencies, out = Reader(reader.take(reader.varint())), [], bytearray()
    while len(frequencies) < 256:
        frequencies.append(reader.varint())
        frequencies += [] if frequencies[-1] else [0] * reader.varint()
    symbol = np.repeat(np.arange(256), frequencies)
    inside = (np.arange(4096) - np.concatenate([[0], np.cumsum(frequencies)])[symbol]).tolist()
    symbol, frequency = symbol.tolist(), np.array(frequencies)[symbol].tolist()
    states = [int.from_bytes(reader.take(4), "little") for _ in range(8)]
    words = iter(np.frombuffer(reader.data, "<u2", offset=reader.at).tolist())
    for at in range(count):
        low = states[at & 7] & 4095
        out.append(symbol[low])
        state = frequency[low] * (states[at & 7] >> 12) + inside[low]
        states[at & 7] = state << 16 | next(words) if state < 65536 else state
    return np.frombuffer(bytes(out), np.uint8)


class Kind:
    def __init__(self, data_type):
        self.float = FLOATS.get(data_type)
        self.bits = 1 + sum(self.float) if self.float else INTEGERS.get(data_type, 8)
        self.exponents, self.fraction = self.float or (0, 0)
        self.mask, self.top = (1 << self.bits) - 1, 1 << (self.bits - 1)

    def bytes_of(self, elements):
        values = np.array(elements, np.uint64)
        return (values[::2] | values[1::2] << np.uint64(4) if self.bits == 4 else values).astype(f"<u{max(self.bits // 8, 1)}").tobytes()

    def elements(self, data):
        values = np.frombuffer(data, f"<u{max(self.bits // 8, 1)}")
        return (np.stack([values & 15, values >> 4], 1).ravel() if self.bits == 4 else values).tolist()

    def planes(self, reader, count):
        values = sum(plane(reader, count).astype(np.uint64) << np.uint64(8 * at) for at in range((self.bits + 7) // 8))
        turned = values >> np.uint64(1) | values << np.uint64(self.bits - 1) & np.uint64(self.mask)
        return (turned if self.float else values).tolist()

    def split(self, element, origin, dropped):  # (class, what is below, bits below, level) around the centre or the largest exponent, or None for zero
        if self.float and element:
            value = origin - (element >> self.fraction & ((1 << self.exponents) - 1))
            return value, (element & ((1 << self.fraction) - 1)) >> dropped, self.fraction - dropped, 15 - min(value, 14)
        value = 0 if self.float else abs(((element - origin + self.top) & self.mask) - self.top)
        return (value.bit_length() - 1, value ^ 1 << (value.bit_length() - 1), value.bit_length() - 1, min(value.bit_length(), 15)) if value else None


class Model:
    def __init__(self, depth, reader):
        self.coder, self.raw, self.at = Coder(reader.take(reader.varint())), reader.take(len(reader.data) - reader.at), 0
        self.slots, self.weights, self.depth = array("I", bytes(4 * 3 * 16384)), {}, depth
        self.signs, self.low, self.escaped = array("I", bytes(108)), array("I", bytes(512)), array("I", bytes(8192))

    def mixed(self, node, contexts, last):
        places = [at * 16384 + (c & 1023) * 16 + node for at, c in enumerate(contexts)]
        return self.coder.mixed(self.weights.setdefault(node * 4 + last, [24000] * 4), 6, self.slots, places, 400, [256])

    def parts(self, contexts, last, sign, dropped, kind):  # class, sign, what is below, level
        value = self.coder.tree(self.depth, lambda node: self.mixed(node, contexts, last))
        if value == (1 << self.depth) - 1:
            value += self.coder.tree(11, lambda node: self.coder.direct(self.escaped, node, 255))
        negative = self.coder.direct(self.signs, sign, 255)
        bits, level = (kind.fraction - dropped, 15 - min(value, 14)) if kind.float else (value, min(value + 1, 15))
        high = self.coder.tree(min(bits, 3), lambda node: self.coder.direct(self.low, level * 8 + node, 1023))
        rest, start = max(bits - 3, 0), self.at
        self.at += rest
        raw = int.from_bytes(self.raw[start >> 3:(self.at + 7) >> 3], "little") >> (start & 7) & ((1 << rest) - 1)
        return value, negative, high << rest | raw, level


def adaptive(reader, kind, count, dims, first):
    origin, dropped = reader.varint(), reader.varint() if kind.float else 0
    flags = reader.take(1)[0]
    model, out = Model(flags & 15, reader), []
    row, kernel = (int(np.prod([max(d, 1) for d in dims[n:]], dtype=object)) for n in (1, 2))
    row, kernel = row if row <= 1 << 16 else min(kernel, 1 << 16), min(kernel, 1 << 16)
    levels, signs, columns, slow, quick = [0] * (1 << 16), [0] * (1 << 16), [0] * row, 0, 0
    for seen in range(count):
        before, above, inner, column = (seen - 1) & 65535, (seen - row) & 65535, (seen - kernel) & 65535, (first + seen) % row
        contexts = [(slow >> 6) * 16 + levels[before], (columns[column] >> 6) * 16 + (quick >> 8), levels[above] * 16 + levels[inner]]
        last, level, negative = (levels[before] > 0) * 2 + (levels[above] > 0), 0, -1
        if flags >> 4 and model.mixed(0, contexts, last):
            out.append(0 if kind.float else origin)
        else:
            value, negative, below, level = model.parts(contexts, last, signs[before] * 9 + signs[inner] * 3 + signs[above], dropped, kind)
            number = (origin - value << kind.fraction | below << dropped) if kind.float else (1 << value | below)
            out.append(negative << (kind.bits - 1) | number if kind.float else (origin + (-number if negative else number)) & kind.mask)
        levels[seen & 65535], signs[seen & 65535], target = level, 1 + negative, level << 8
        slow, quick = slow + (target >> 5) - (slow >> 5), quick + (target >> 2) - (quick >> 2)
        columns[column] += (target >> 2) - (columns[column] >> 2)
    return out


def difference(reader, kind, base):
    model, whole, out, dropped, last, average, previous = Model(4, reader), Kind(2), [], array("I", bytes(2048)), 0, 0, 0
    whole.bits, whole.mask, whole.top = kind.bits, kind.mask, kind.top
    values, counts = np.unique(np.array(base[:1 << 16], np.uint64), return_counts=True)
    every = int(np.bitwise_or.reduce(np.array(base, np.uint64))) | 1 << kind.fraction
    known = (int(values[np.argmax(counts)]), 0)
    if kind.float:
        known = max((x >> kind.fraction & ((1 << kind.exponents) - 1) for x in base if x), default=0), (every & -every).bit_length() - 1
    rank = (lambda x: ~x & kind.mask if x & kind.top else x | kind.top) if kind.float else (lambda x: x)
    back = (lambda r: r ^ kind.top if r & kind.top else ~r & kind.mask) if kind.float else (lambda r: r)
    for old in base:
        value, below, bits, level = kind.split(old, *known) or (-1, 0, 0, 0)
        size = (min(value, 30) + 1) * 4 + (below >> (bits - 2) & 3 if bits > 1 else 0)
        if old and model.coder.direct(dropped, size * 3 + last & 511, 400):
            out.append(0)
            last = 1
            continue
        contexts, delta, own = [level * 16 + previous, average >> 6, level * 64 + (average >> 8)], 0, 0
        last = 0 if model.mixed(0, contexts, last) else 2
        if last:
            value, negative, below, _ = model.parts(contexts, 0, level, 0, whole)
            delta, own = (1 << value | below) * (-1 if negative else 1), min(value + 1, 63)
        previous, average = min(own, 15), average + (own << 8 >> 3) - (average >> 3)
        out.append(back(rank(old) + delta & kind.mask))
    return out


def elements(reader, kind, count, dims, first):
    way = reader.take(1)[0]
    if way == 1:
        return [reader.varint()] * count
    if way == 3:
        gaps, kept, out = reader.varint(), reader.varint(), []
        gaps, kept = plane(reader, gaps).tolist(), iter(kind.planes(reader, kept))
        for gap in gaps:
            out += [0] * gap + ([next(kept)] if gap < 255 else [])
        return out + [0] * (count - len(out))
    if way == 4:
        values = [reader.varint() for _ in range(reader.varint())]
        return [values[code] for code in elements(reader, Kind(2), count, dims, first)]
    return kind.planes(reader, count) if way == 2 else adaptive(reader, kind, count, dims, first)


def block(data, data_type, length, dims, first, base):
    kind = Kind(data_type)
    if data[0] in (0, 6):
        return bytes(Text(length).read(Coder(data[1:]), length).seen) if data[0] else data[1:]
    known = data[0] == 7
    return kind.bytes_of(difference(Reader(data, 1), kind, kind.elements(base)) if known else elements(Reader(data), kind, length * 8 // kind.bits, dims, first))


def unpack(container, base=None):
    assert container[:9] == b"\x89SCT\r\n\x1a\n\x01" and blake3(container[:-32]).digest() == container[-32:], "no whole container of version 1"
    reader, others, learned = Reader(container, 10), [], b""
    if container[9]:
        digest, _, names = reader.take(32), reader.text(), [reader.text() for _ in range(reader.varint())]
        others = [open(os.path.join(os.path.dirname(base), name), "rb").read() for name in [os.path.basename(base), *names]]
        assert blake3(b"".join(others)).digest() == digest, "the base is another one"
        graph = Reader(others[0])
        for _ in range(reader.varint()):
            learned += graph.take(reader.varint())
            graph.take(reader.varint())
        learned = (learned + graph.data[graph.at:])[:1 << 20]
    start, coded, said, between, digests = np.frombuffer(container[-80:-40], "<u8").tolist()
    coder, text = Coder(container[start:start + coded]), Text(said + between)
    index, digests = Reader(bytes(text.read(coder, said).seen)), Reader(container[start + coded:start + coded + digests])
    assert blake3(index.data + digests.data).digest()[:8] == container[-40:-32], "the index is another one"
    for byte in learned:
        coder.known = [byte >> at & 1 for at in range(8)]
        text.byte(coder)
    gaps = Reader(bytes(text.read(coder, between).seen[said + len(learned):]))
    files = [(index.text(), index.varint(), digests.take(32), bytearray()) for _ in range(index.varint())]
    at, last = reader.at, 0
    for _ in range(index.varint()):
        name, file = index.text(), index.varint()
        for _, length, _, done in files[last:file]:
            done += gaps.take(length - len(done))
        last, content, _ = file, b"", files[file][3].extend(gaps.take(index.varint()))
        length, data_type, dims = index.varint(), index.varint(), [index.varint() for _ in range(index.varint())]
        source = index.varint()
        offset, step = index.varint() if source else 0, (1 << 17) * Kind(data_type).bits
        while len(content) < length:
            size, now = index.varint(), min(step, length - len(content))
            other = others[source - 1][offset + len(content):][:now] if source else None
            content += block(container[at:at + size], data_type, now, dims, len(content) // step << 20, other)
            at += size
        assert blake3(content).digest()[:8] == digests.take(8), f"tensor {name} is damaged"
        files[file][3].extend(content)
    for _, length, digest, done in files[last:]:
        done += gaps.take(length - len(done))
    assert all(blake3(bytes(done)).digest() == digest for _, _, digest, done in files), "a file is another one"
    return [(location, bytes(done)) for location, _, _, done in files]

#!/usr/bin/env python3
"""Turns a Whisper model of CTranslate2 into one of whisper.cpp.

usage: ggml-whisper.py FOLDER OUT

FOLDER holds model.bin (half precision) and vocabulary.txt. The format of OUT is the
one that whisper.cpp reads: sizes, mel filters, vocabulary, tensors.
"""

import math
import struct
import sys

MAGIC = 0x67676D6C
SAMPLE_RATE, WINDOW = 16000, 400
HALF, FLOAT = 1, 0
CT2_HALF = 4


def read_tensors(path):
    """The tensors of a model: name -> (shape, bytes)."""
    with open(path, "rb") as f:

        def take(form):
            return struct.unpack("<" + form, f.read(struct.calcsize("<" + form)))

        def text():
            return f.read(take("H")[0]).rstrip(b"\0").decode()

        version = take("I")[0]
        if version < 5:
            sys.exit("ggml-whisper: model.bin is of an older version: %d" % version)
        if text() != "WhisperSpec":
            sys.exit("ggml-whisper: model.bin is no Whisper model")
        take("I")
        tensors = {}
        for _ in range(take("I")[0]):
            name = text()
            shape = [take("I")[0] for _ in range(take("B")[0])]
            kind, size = take("BI")
            data = f.read(size)
            if kind == CT2_HALF and len(shape) > 0:
                tensors[name] = (shape, data)
        return tensors


def mel_filters(bands):
    """Triangles of equal area, evenly spaced on the scale of Slaney."""

    def mel(hz):
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    def hertz(m):
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    bins = WINDOW // 2 + 1
    top = mel(SAMPLE_RATE / 2)
    edges = [hertz(i * top / (bands + 1)) for i in range(bands + 2)]
    rows = []
    for low, middle, high in zip(edges, edges[1:], edges[2:]):
        for b in range(bins):
            hz = b * SAMPLE_RATE / WINDOW
            up, down = (hz - low) / (middle - low), (high - hz) / (high - middle)
            rows.append(max(0.0, min(up, down)) * 2 / (high - low))
    return bins, rows


def vocabulary(path):
    """The bytes of each token; each byte is written as one printable character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = {chr(b): b for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in plain):
        byte_of[chr(256 + n)] = b
    tokens = []
    with open(path, encoding="utf-8", newline="\n") as f:
        for line in f:
            token = line.rstrip("\n")
            if token.startswith("<|"):
                break  # whisper.cpp makes the special ones itself
            tokens.append(bytes(byte_of[c] for c in token))
    return tokens


def main(folder, out):
    tensors = read_tensors(folder + "/model.bin")
    shape = lambda name: tensors[name][0]
    layers = lambda side: len([n for n in tensors if n.startswith(side + "/layer_") and n.endswith("/ffn/linear_0/bias")])
    words, width = shape("decoder/embeddings/weight")
    bands = shape("encoder/conv1/weight")[1]
    heads = width // 64
    tokens = vocabulary(folder + "/vocabulary.txt")

    made = []

    def put(name, tensor, part=None):
        """part cuts the first side of a tensor: (first, last) in thirds or halves."""
        dims, data = tensors[tensor]
        if part is not None:
            index, count = part
            size = len(data) // count
            data, dims = data[index * size : (index + 1) * size], [dims[0] // count, *dims[1:]]
        made.append((name, dims, data))

    def norm(name, tensor):
        put(name + ".weight", tensor + "/gamma")
        put(name + ".bias", tensor + "/beta")

    def linear(name, tensor, part=None, bias=True):
        put(name + ".weight", tensor + "/weight", part)
        if bias:
            put(name + ".bias", tensor + "/bias", part)

    for n in (1, 2):
        linear("encoder.conv%d" % n, "encoder/conv%d" % n)
    for side in ("encoder", "decoder"):
        put(side + ".positional_embedding", side + "/position_encodings/encodings")
        norm("encoder.ln_post" if side == "encoder" else "decoder.ln", side + "/layer_norm")
        for i in range(layers(side)):
            to, of = "%s.blocks.%d" % (side, i), "%s/layer_%d" % (side, i)
            norm(to + ".attn_ln", of + "/self_attention/layer_norm")
            for n, name in enumerate(("query", "key", "value")):
                linear(to + ".attn." + name, of + "/self_attention/linear_0", (n, 3), name != "key")
            linear(to + ".attn.out", of + "/self_attention/linear_1")
            if side == "decoder":
                norm(to + ".cross_attn_ln", of + "/attention/layer_norm")
                linear(to + ".cross_attn.query", of + "/attention/linear_0")
                linear(to + ".cross_attn.key", of + "/attention/linear_1", (0, 2), False)
                linear(to + ".cross_attn.value", of + "/attention/linear_1", (1, 2))
                linear(to + ".cross_attn.out", of + "/attention/linear_2")
            norm(to + ".mlp_ln", of + "/ffn/layer_norm")
            linear(to + ".mlp.0", of + "/ffn/linear_0")
            linear(to + ".mlp.2", of + "/ffn/linear_1")
    put("decoder.token_embedding.weight", "decoder/embeddings/weight")

    with open(out, "wb") as f:
        audio, text = shape("encoder/position_encodings/encodings")[0], shape("decoder/position_encodings/encodings")[0]
        f.write(struct.pack("<12i", MAGIC, words, audio, width, heads, layers("encoder"), text, width, heads, layers("decoder"), bands, HALF))
        bins, filters = mel_filters(bands)
        f.write(struct.pack("<2i%df" % len(filters), bands, bins, *filters))
        f.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            f.write(struct.pack("<i", len(token)) + token)
        for name, dims, data in made:
            kind = HALF
            if len(dims) < 2 or name.endswith("positional_embedding"):
                kind = FLOAT
                data = struct.pack("<%df" % (len(data) // 2), *struct.unpack("<%de" % (len(data) // 2), data))
            if name.startswith("encoder.conv") and name.endswith(".bias"):
                dims = [dims[0], 1]
            f.write(struct.pack("<3i%di" % len(dims), len(dims), len(name), kind, *reversed(dims)) + name.encode() + data)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])

"""Makes Fixtures/tokenizers/files: tokenizers that are no BPE tokenizer.json (SentencePiece models, tiktoken files, a Unigram
tokenizer.json), each a folder as a checkpoint has it, and file-cases.json with reference ids.

Run: python3 Fixtures/make/tokenizers_2026.py (a minute). Needs: sentencepiece 0.2, tiktoken 0.14, tokenizers 0.23, and
tokenizer_cases.py beside it, whose text it trains on. With a number and a folder it makes so many random texts for each of the
tokenizers that are there instead and writes FOLDER/NAME.json: what the tests compare, at length.
file-cases.json: {"texts": [..], "tokenizers": {NAME: {"ids": [[..], ..], "decoded": {PLACE: text that is not the text itself}}}}.
"""

import base64
import json
import os
import random
import sys

import sentencepiece
import tiktoken
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "../tokenizers/files")

KIMI = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = QWEN.replace(r"\p{N}| ", r"\p{N}{1,3}| ")
PATTERNS = {"kimi": KIMI, "qwen1": QWEN, "cl100k-ranks": CL100K}

TEXTS = [
    "", " ", "  ", "\t", "\n", "\r\n", "a", "The river had risen in the night.", "  two  spaces   three  ", "\ttabs\tand\n\nlines\r\n",
    "don't DON'T we've I'LL camelCase HTTPServer x_1", "1 12 123 1234 12345678901234567890 3.14 ½ ²³ ٣٤", "naïve café Ångström ﬁne ﬂow",
    "e\u0301 cafe\u0301 \u212b \u1e9b\u0323", "ＦＵＬＬ width １２３　ideographic space", "河水在夜里涨了。漢字とかな、カタカナ ｶﾀｶﾅ", "밤사이 강물이 불어나 \u1112\u1161\u11ab",
    "Река поднялась Ночью", "Ελληνικά Σίσυφος", "ارتفع النهر עברית हिन्दी ไทย தமிழ்", "👩‍👩‍👧‍👦 🏳️‍🌈 ✈️ 👍🏽 🇩🇪", "zero\u200bwidth\u200d\ufeff\u00ad", "nbsp\u00a0thin\u2009en\u2002",
    "\x00\x01\x07\x1b[0m\x7f\x85", "line\u2028sep\u2029", "𝕳𝖊𝖑𝖑𝖔 𠮷 𐍈", "\U0010ffff \ue000 \ufffd", "▁ ▁▁a▁b", "<s> </s> <unk> <0x41> <|endoftext|>",
    "[BOS]hello<|im_end|><|reserved_token_900|>x", "x<ud>y <ud><ud> <udx>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "https://example.org/a/b?c=d&e=f#g", "def f(x):\n    return x ** 2  # note\n", "ab" * 200, "河" * 100, "Ⅷ ㍿ ㎏ ﷺ ½ … ™ ℃", "ǅ İ ı ß ẞ ŉ", "ABC漢字abc한글1漢2",
    "a\u0300\u0301\u0302\u0303 \u0300start", "‘single’ “double” — dash – ‐", "!!!???...,,,;;;", "a b\tc\nd\re\x0bf\x0cg", "\n\n\n  \n x", "end with spaces   ",
]


def training():
    sys.path.insert(0, HERE)
    import tokenizer_cases
    return [line.strip("\n") for line in tokenizer_cases.CORPUS if line.strip()]


def ranks_of(pattern, size, lines):
    """Trains byte pairs as tiktoken's own educational code would: the most frequent pair first, the first seen on a tie."""
    import regex
    words = {}
    for line in lines:
        for word in regex.findall(pattern, line, regex.V1):
            key = tuple(bytes([b]) for b in word.encode())
            words[key] = words.get(key, 0) + 1
    ranks = {bytes([b]): b for b in range(256)}
    while len(ranks) < size:
        pairs = {}
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks.setdefault(best[0] + best[1], len(ranks))
        merged = {}
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                if i + 1 < len(word) and (word[i], word[i + 1]) == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] = merged.get(tuple(out), 0) + count
        words = merged
    return ranks


def write(name, file, content):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    mode = "wb" if isinstance(content, bytes) else "w"
    with open(os.path.join(folder, file), mode) as out:
        out.write(content)


def train_sentencepiece(name, lines, file="tokenizer.model", **options):
    import io
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, num_threads=1,
        **{"character_coverage": 0.995, **options})
    write(name, file, model.getvalue())


def make():
    lines = training()
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}
    train_sentencepiece("spm-bpe", lines, model_type="bpe", vocab_size=700, split_digits=True, allow_whitespace_only_pieces=True, **plain)
    write("spm-bpe", "tokenizer_config.json", json.dumps(
        {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "bos_token": "<s>"}) + "\n")
    train_sentencepiece("spm-bpe-ud", lines, model_type="bpe", vocab_size=600, user_defined_symbols=["<ud>", "ing"], normalization_rule_tsv=rules(),
                        add_dummy_prefix=False, hard_vocab_limit=False)
    train_sentencepiece("spm-unigram", lines, model_type="unigram", vocab_size=900, byte_fallback=True, hard_vocab_limit=False,
                        normalization_rule_name="identity", remove_extra_whitespaces=False)
    # The whole of the standard rules: the one file that is large.
    train_sentencepiece("spm-nmt", lines, file="spiece.model", model_type="unigram", vocab_size=500, hard_vocab_limit=False,
                        user_defined_symbols=["<ud>"], normalization_rule_tsv=rules())
    for name, pattern in PATTERNS.items():
        ranks = ranks_of(pattern, 900, lines)
        file = {"kimi": "tiktoken.model", "qwen1": "qwen.tiktoken", "cl100k-ranks": "cl100k_base.tiktoken"}[name]
        write(name, file, "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items()))
    added = {"900": "[BOS]", "901": "[EOS]", "902": "<|im_end|>"}
    write("kimi", "tokenizer_config.json", json.dumps({
        "tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "eos_token": "[EOS]",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "added_tokens_decoder": {k: {"content": v, "special": True} for k, v in added.items()}}) + "\n")
    unigram("unigram", lines, 500, byte_fallback=False, first=False)
    unigram("unigram-bytes", lines, 700, byte_fallback=True, first=True)


def rules():
    """A part of the NMT rules as a file: spaces, full-width forms, ligatures, marks that compose."""
    import tempfile
    import unicodedata
    out = tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False)
    def row(a, b):
        out.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
    for c in "\t\n\r\x0b\x0c\u00a0\u2009\u2002\u3000\u200b\ufeff":
        row(c, " ")
    for c in "\x01\x02\x07\x1b\x7f\u00ad":
        row(c, "")
    for c in list(range(0xFF01, 0xFF5F)) + list(range(0xFB00, 0xFB07)) + [0xBD, 0x2122, 0x212B, 0x2167, 0x2026, 0x338F]:
        row(chr(c), unicodedata.normalize("NFKC", chr(c)))
    for base in "aeiouAEIOUnc":
        for mark in "\u0300\u0301\u0302\u0303\u0308\u0327":
            composed = unicodedata.normalize("NFKC", base + mark)
            if len(composed) == 1:
                row(base + mark, composed)
    row("ab", "x")
    row("abc", "y  z")
    out.close()
    return out.name


def unigram(name, lines, size, byte_fallback, first):
    model = Tokenizer(models.Unigram())
    model.normalizer = normalizers.NFKC()
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if first else "always", split=not first)
    alphabet = [] if not byte_fallback else [f"<0x{b:02X}>" for b in range(256)]
    model.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=size, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"] + alphabet, show_progress=False,
        initial_alphabet=["\u2581"]))
    config = json.loads(model.to_str())
    config["model"]["byte_fallback"] = byte_fallback
    config["added_tokens"] = config["added_tokens"][:3]
    blob = spm(os.path.join(OUT, "spm-nmt")).serialized_model_proto()
    charsmap = normalizer_spec(blob)
    steps = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}]
    if not first:
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
    config["normalizer"] = {"type": "Sequence", "normalizers": steps}
    config["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    if first:
        config["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    write(name, "tokenizer.json", json.dumps(config, ensure_ascii=False, separators=(",", ":")) + "\n")


def normalizer_spec(blob):
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(blob)
    return proto.normalizer_spec.precompiled_charsmap


def spm(folder):
    file = next(f for f in os.listdir(folder) if f.endswith(".model"))
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, file))


def reference(name):
    """Text to ids, and ids to bytes."""
    folder = os.path.join(OUT, name)
    if name.startswith("spm"):
        model = spm(folder)
        special = [model.id_to_piece(i) for i in range(len(model)) if model.is_control(i) or model.is_unknown(i)]
        # Texts with such pieces are cut there by transformers, not by SentencePiece.
        encode = lambda text: None if any(s in text for s in special) else model.encode(text)
        unknown = model.unk_id()
        return encode, lambda ids: None if unknown in ids else model.decode(ids)
    if name.startswith("unigram"):
        model = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        return (lambda text: model.encode(text, add_special_tokens=False).ids,
                lambda ids: model.decode(ids, skip_special_tokens=False))
    file = next(f for f in os.listdir(folder) if f.endswith((".tiktoken", ".model")))
    with open(os.path.join(folder, file)) as lines:
        ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines)}
    special = {}
    if name == "kimi":
        with open(os.path.join(folder, "tokenizer_config.json")) as config:
            known = {int(k): v["content"] for k, v in json.load(config)["added_tokens_decoder"].items()}
        special = {known.get(i, f"<|reserved_token_{i}|>"): i for i in range(len(ranks), len(ranks) + 256)}
    if name == "qwen1":
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
        special = {t: len(ranks) + i for i, t in enumerate(names)}
    model = tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens=special)
    def encode(text):
        if name == "qwen1":
            import unicodedata
            text = unicodedata.normalize("NFC", text)
        return model.encode(text, allowed_special="all")
    return encode, model.decode


def names():
    return sorted(n for n in os.listdir(OUT) if os.path.isdir(os.path.join(OUT, n)))


def cases():
    result = {"texts": TEXTS, "tokenizers": {}}
    for name in names():
        encode, decode = reference(name)
        ids = [encode(text) for text in TEXTS]
        decoded = {}
        for place, (text, row) in enumerate(zip(TEXTS, ids)):
            back = None if row is None else decode(row)
            if back is not None and back != text:
                decoded[str(place)] = back
            elif row is not None and back is None:
                decoded[str(place)] = None
        result["tokenizers"][name] = {"ids": ids, "decoded": decoded}
    with open(os.path.join(OUT, "../file-cases.json"), "w") as out:
        json.dump(result, out, ensure_ascii=True, separators=(",", ":"))
        out.write("\n")


def random_texts(count, seed):
    draw = random.Random(seed)
    lines = training()
    words = [w for line in lines for w in line.split(" ") if w]
    ranges = [(0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
              (0x1100, 0x11FF), (0x2000, 0x206F), (0x2100, 0x214F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
              (0xFB00, 0xFB06), (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF), (0x1D400, 0x1D7FF), (0, 0x1F), (0x20000, 0x2A6DF)]
    parts = [" ", "  ", "\n", "\t", "\r\n", "'s", "'LL", "123", "7", "\u2581", "<ud>", "ing", "abc", "e\u0301", "\u200d", "\ufe0f"]
    out = []
    for _ in range(count):
        text = ""
        for _ in range(draw.choice([1, 2, 3, 5, 8, 20, 60])):
            kind = draw.random()
            if kind < 0.45:
                text += draw.choice(words) + draw.choice(["", " ", " "])
            elif kind < 0.65:
                text += draw.choice(parts)
            else:
                low, high = draw.choice(ranges)
                text += "".join(chr(draw.randint(low, high)) for _ in range(draw.choice([1, 1, 2, 4])))
        out.append(text)
    return out


def at_length(count, folder):
    texts = random_texts(count, 2026)
    for name in names():
        encode, decode = reference(name)
        rows = []
        for text in texts:
            ids = encode(text)
            if ids is not None:
                row = {"text": text, "ids": ids}
                back = decode(ids)
                if back is not None:
                    row["decoded"] = back
                rows.append(row)
        with open(os.path.join(folder, name + ".json"), "w") as out:
            json.dump(rows, out)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        at_length(int(sys.argv[1]), sys.argv[2])
    else:
        make()
        cases()

"""Makes Fixtures/tokenizers: small tokenizer.json files with the components of published models, and cases.json with the
ids that the `tokenizers` library gives for many texts.

Run: python3 Fixtures/make/tokenizer_cases.py (half a minute). Needs: tokenizers 0.23. The training text is written here.
Run gguf_tokenizers.py spm behind it, which adds the ids of spm.json.
The library's training breaks some ties by chance: clip and word-prefix come out differently each time, with their ids.
cases.json: {"cases": [{"name", "text" | "hex" | "unit" and "count"}], "tokenizers": {NAME: [{"ids" | "count" and "fnv",
"decoded"?}]}}; `hex` are bytes that are not UTF-8 and count as decoded with errors="replace"; `fnv` is FNV-1a (64 bits) over
the ids as little-endian 32-bit words; `decoded` stands where decoding does not give the text back.
"""

import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tokenizers")

PROSE = """
The river had risen in the night, and by morning the lower meadow was a sheet of grey water in which the willows stood
like people waiting for a boat. Nobody in the village was surprised. It's what rivers do, said the miller, who'd seen it
thirty-one times; they've always done it, and they'll do it again when we're gone. I'd rather have the water than the
drought, he said, and he went back to his work. There were 1234567 reasons to leave, or perhaps only 42, and none of
them was good enough. In 1851 the mill had burned; in 1852 it stood again. "Don't hurry," the old woman told the
children, "it isn't deep." They couldn't wait. She wouldn't have let them go if she hadn't known the path: 3 steps left,
10 steps right, 100 steps straight on, and 2000 until the church.
"""
CODE = """
def absmax(values, axis=None):
    \"\"\"The largest magnitude.\"\"\"
    if not values:
        raise ValueError("no values")
    best = 0.0
    for index, value in enumerate(values):
        if abs(value) > best:
            best = abs(value)  # keep it
    return best

for (int i = 0; i < n; ++i) {
\tout[i] = x[i] * scale + 0x1F;\t// fused
\tif (out[i] != out[i]) { return -1; }
}
SELECT name, COUNT(*) FROM weights WHERE bytes >= 1024 GROUP BY name ORDER BY 2 DESC;
https://example.org/a/b?c=d&e=f#g  <div class="x">text</div>
"""
OTHER = """
河水在夜里涨了，清晨时低处的草地成了一片灰色的水面，柳树站在水里，像等船的人。村里没有人感到惊讶。
川は夜のうちに増水し、朝には低い牧草地が灰色の水面になっていた。カタカナとひらがな、そして漢字。
밤사이 강물이 불어나 아침에는 낮은 풀밭이 잿빛 물결이 되어 있었다.
Река поднялась ночью, и к утру нижний луг стал серой водой, в которой ивы стояли как люди.
ارتفع النهر في الليل، وعند الصباح صار المرج المنخفض صفحة من الماء الرمادي.
रात में नदी चढ़ गई थी, और सुबह तक निचला मैदान पानी की चादर बन गया था।
Der Fluß war über Nacht gestiegen, die Weiden standen im Wasser; ça va déjà mieux, naïve façade, Ångström, señor.
"""
CORPUS = [line for text in (PROSE * 2, CODE * 2, OTHER) for line in text.splitlines(keepends=True)]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+")
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+")
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+" + CONTRACTION,
    r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*" + CONTRACTION,
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
TEKKEN = "|".join([
    r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*",
    r"\p{N}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
KIMI = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+" + CONTRACTION,
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*" + CONTRACTION,
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def sequence(*parts):
    return pre_tokenizers.Sequence(list(parts))


def build(pre=None, normalizer=None, decoder=None, added=(), vocab=640, alphabet=True, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoder or decoders.ByteLevel()
    special = [model["unk_token"]] if "unk_token" in model else []
    if model.get("byte_fallback"):
        special += [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        **{key: model[key] for key in ("continuing_subword_prefix", "end_of_word_suffix") if key in model})
    tokenizer.train_from_iterator(CORPUS, trainer)
    if model.get("byte_fallback"):
        # The byte tokens are part of the vocabulary, not tokens that the text may hold.
        data = json.loads(tokenizer.to_str())
        data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(data))
    for token in added:
        if token.special:
            tokenizer.add_special_tokens([token])
        else:
            tokenizer.add_tokens([token])
    return tokenizer


def special(text, **options):
    return AddedToken(text, special=True, normalized=False, **options)


def sentencepiece_decoder(strip=True):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))


def tokenizers():
    yield "gpt2", build(byte_level(True), added=[
        special("<|endoftext|>"), special("<mask>", lstrip=True), special("<pad>", rstrip=True),
        special("<both>", lstrip=True, rstrip=True), AddedToken("river", single_word=True),
        AddedToken("<extra>", normalized=True), AddedToken("<extra>more", normalized=True)])
    yield "gpt2-prefix", build(byte_level(True, prefix=True), added=[special("<s>"), special("<mask>", lstrip=True)])
    yield "deepseek", build(
        sequence(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level()),
        normalizer=normalizers.Sequence([]), vocab=700,
        added=[special("<｜begin▁of▁sentence｜>"), special("<｜end▁of▁sentence｜>"),
               AddedToken("<｜User｜>", normalized=False), AddedToken("<think>", normalized=False)])
    yield "qwen", build(
        sequence(split(QWEN), byte_level()), normalizer=normalizers.NFC(),
        added=[special("<|im_start|>"), special("<|im_end|>"), AddedToken("<tool_call>", normalized=False),
               AddedToken("café", normalized=True)])
    yield "llama3", build(
        sequence(split(LLAMA3), byte_level()), ignore_merges=True,
        added=[special("<|begin_of_text|>"), special("<|eot_id|>")])
    yield "gpt-oss", build(sequence(split(O200K), byte_level()), added=[special("<|start|>"), special("<|channel|>")])
    yield "tekken", build(sequence(split(TEKKEN), byte_level()), ignore_merges=True, vocab=500)
    yield "kimi", build(sequence(split(KIMI), byte_level()), vocab=500)
    yield "cl100k", build(sequence(split(CL100K), byte_level()), vocab=500)
    yield "starcoder", build(
        sequence(pre_tokenizers.Digits(individual_digits=True), byte_level(True)), added=[special("<fim_prefix>")])
    yield "llama2", build(
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=sentencepiece_decoder(), alphabet=False, vocab=900, byte_fallback=True, fuse_unk=True,
        unk_token="<unk>", added=[special("<s>"), AddedToken("</s>", normalized=True)])
    yield "mixtral", build(
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False), decoder=sentencepiece_decoder(),
        alphabet=False, vocab=800, byte_fallback=True, fuse_unk=True, unk_token="<unk>", added=[special("<s>")])
    yield "gemma", build(
        pre_tokenizers.Split(" ", "merged_with_previous"), normalizer=normalizers.Replace(" ", "▁"),
        decoder=sentencepiece_decoder(strip=False), alphabet=False, vocab=800, byte_fallback=True, fuse_unk=True,
        unk_token="<unk>", added=[special("<bos>")])
    yield "metaspace", build(
        sequence(pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="always")),
        decoder=decoders.Metaspace(prepend_scheme="always"), alphabet=False, vocab=400, unk_token="<unk>")
    yield "clip", build(
        sequence(split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "removed", True), byte_level()),
        normalizer=normalizers.Sequence([
            normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]),
        vocab=700, unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    yield "word-prefix", build(
        sequence(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()),
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()]), decoder=decoders.Fuse(),
        alphabet=False, vocab=400, unk_token="[UNK]", continuing_subword_prefix="##")
    yield "merged-next", build(
        sequence(split("[ \\t]", "merged_with_next"), split(r"[aeiou]{2,}?|\bt\w|^[A-Z](?=[a-z])|[.,]$", "contiguous"),
                 byte_level()),
        normalizer=normalizers.NFD(), vocab=400)
    yield "whitespace", build(
        sequence(pre_tokenizers.Whitespace(), split(r"(?>a{1,3}|ab)c|x*|(?:on|n)+?e\b|[^\W\d_]{3}", "merged_with_previous"),
                 byte_level()),
        normalizer=normalizers.NFKD(), vocab=400)


CASES = {
    "empty": "",
    "prose": PROSE.strip(),
    "code": CODE,
    "other scripts": OTHER,
    "digits": "1234567 12 123 1234 3.14159 1,000,000 0x1F2E ²³¼ Ⅷ ٣٤٥ १२३ 1a2b3c",
    "space before": "   three spaces before",
    "space behind": "three spaces behind   ",
    "only spaces": "      ",
    "one space": " ",
    "tabs": "\tone\t\ttwo \t three\t",
    "lines": "a\n\nb\n\n\n   c\r\nd\r\n\r\n  \n e\n",
    "lines behind": "text\n\n\n",
    "many lines": "\n" * 70 + "end",
    "many spaces": "x" + " " * 333 + "y",
    "line separators": "a\u2028b\u2029c\u0085d\u000be\u000cf",
    "wide spaces": "a\u00a0b\u3000c\u2003d\u200be\ufefff",
    "contractions": "I'm you're he's she'd we'll they've don't 'tis O'Neil 'Tis '",
    "contractions in capitals": "I'M YOU'RE HE'S SHE'D WE'LL THEY'VE DON'T It'S",
    "curly contractions": "I’m you’re don’t ‘quoted’ “double”",
    "long s": "it'ſ 'ſ 'S 's ſ K K",
    "camel case": "getHTTPResponseCode parseXMLFile iPhone McDonald's ABCdef aBC XMLHttpRequest2",
    "punctuation": "!!! ??? ... --- (a) [b] {c} <d> /e/ \\f\\ #g @h $i %j ^k &l *m _n ~o `p` |q| a,b;c:d",
    "operators": "a+=b; c-->d; e<<=f; g!==h; i&&j||k; /* l */ // m\n#!/bin/sh\n",
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☺ 1️⃣ 🧑🏿‍🚀x",
    "han": "河水在夜里涨了。漢字と仮名ヒラガナ、，！？𠀀𠮷龥龦㐀",
    "han with letters": "GPU显存不足，需要64GB内存。Python代码abc中文123",
    "kana": "ひらがなカタカナｶﾀｶﾅー゛゜ヽ・ゟヿ",
    "hangul": "밤사이 강물이 불어나 각 각",
    "arabic": "السَّلَامُ عَلَيْكُمْ ٢٠٢٤ ـــ",
    "hindi": "नमस्ते दुनिया क्षत्रिय रात में नदी",
    "thai": "สวัสดีชาวโลก น้ำ",
    "hebrew": "שָׁלוֹם עוֹלָם",
    "vietnamese": "Tiếng Việt rất đẹp",
    "composed": "café naïve Ångström Ǖ ế 각",
    "decomposed": "cafe\u0301 nai\u0308ve A\u030angstro\u0308m U\u0308\u0304 e\u0302\u0301 \u1100\u1161\u11a8",
    "mark order": "a\u0301\u0323 a\u0323\u0301 q\u0307\u0323 \u0344 \u0340 \u212b \u2126 \uf900 \u0958 \u0301x",
    "compatible": "ﬁ ﬂ ① ㎏ Ａｂｃ ½ ™ … ﷺ ㌔ ｱﾞ ſ ﬅ",
    "titlecase": "ǅ ǈ ǋ ᾈ ǆ ʰʱ ªº",
    "lower": "İSTANBUL ΣΑΣ ẞ STRASSE ÀÉÎ",
    "symbols": "€ £ ¥ © ® ° ± × ÷ ∑ ∫ ≈ → ⇒ ■ □ ♥",
    "control": "a\u0000b\u0001c\u001bd\u007fe",
    "private": "\ue000\uf8ff \U000f0000 \ufffe \uffff \U0010ffff",
    "unassigned": "\u0378 \u1aff \U0001fbff x\U000e0001y",
    "new letters": "\ua7dc \U00010d40\U00010d50 \U00016d40 \U0001e5d0 \u1c89",
    "zero width": "a\u200db\u200cc\u2060d\u00ade",
    "special inside": "<|endoftext|>Hello<|im_start|>user\nhi<|im_end|><s>x</s><|begin_of_text|>y<|eot_id|>",
    "special in a row": "<s><s> <s>  <|endoftext|><|endoftext|><bos><unk><unk>",
    "special cut": "<|endoftext| <|im_start <s <｜begin▁of▁sentence",
    "deepseek special": "<｜begin▁of▁sentence｜><｜User｜>Why?<think>\n\nBecause.</think><｜end▁of▁sentence｜>",
    "stripping": "a   <mask>   b   <pad>   c   <both>   d<mask><pad> <both> \n <mask>",
    "single word": "river rivers the-river river, Xriver (river) river",
    "longest": "<extra>more <extra>mor <extra> <tool_call>{\"a\": 1}</tool_call>",
    "normalized": "cafe\u0301 café <|start|>assistant<|channel|>final",
    "byte tokens": "<0x41> <0x0A> ▁ ▁▁x _",
    "url": "https://example.org/path/to?query=value&x=%20y#frag user.name+tag@mail.example.com",
    "json": '{"key": [1, 2.5, -3e10, true, null, "a\\nb"], "k2": {}}',
    "mixed": "Привет, мир! Hello世界 مرحبا42 नमस्ते🙏 naïve\tx\r\n1st 2nd",
    "underscores": "__init__ snake_case_name CONSTANT_NAME _private a__b",
    "patterns": "aac abc xxx one none onone, queue team. the\nTom Ann,",
}
BROKEN = {
    "lone continuation": b"a\x80b\xbf",
    "cut": b"caf\xc3",
    "cut twice": b"\xe4\xb8 x \xf0\x9f\x98 y \xf0\x9f",
    "overlong": b"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf",
    "surrogate": b"\xed\xa0\x80\xed\xb0\x80",
    "too large": b"\xf4\x90\x80\x80 \xf8\x88\x80\x80\x80 \xff\xfe",
    "latin-1": "naïve façade".encode("latin-1"),
    "in a special": b"<|endo\xfftext|> <s>\xc3<s>",
}
LONG = {
    "long word": ("abcdefghij", 1000),
    "longer word": ("thequickbrownfoxjumps", 5000),
    "one letter": ("a", 30000),
    "long han": ("河水在夜里涨了", 1500),
    "long emoji": ("👩‍🚀", 800),
    "long digits": ("9876543210", 1000),
    "long spaces": (" ", 20000),
    "long punctuation": ("=-", 5000),
}
# Beyond this many ids their hash stands for them.
FULL = 400


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main():
    os.makedirs(OUT, exist_ok=True)
    cases = [{"name": name, "text": text} for name, text in CASES.items()]
    cases += [{"name": name, "hex": data.hex()} for name, data in BROKEN.items()]
    cases += [{"name": name, "unit": unit, "count": count} for name, (unit, count) in LONG.items()]
    results = {}
    for name, tokenizer in tokenizers():
        data = json.loads(tokenizer.to_str())
        if name in ("llama3", "llama2"):
            # The older spelling.
            data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        with open(f"{OUT}/{name}.json", "w") as file:
            file.write(text + "\n")
        results[name] = ids_of(Tokenizer.from_file(f"{OUT}/{name}.json"), cases)
    write_cases(cases, results)
    sizes = sum(os.path.getsize(f"{OUT}/{name}") for name in os.listdir(OUT))
    print(len(results), "tokenizers", len(cases), "cases", sizes, "bytes")


def write_cases(cases, results):
    with open(f"{OUT}/cases.json", "w") as file:
        file.write('{"cases": [\n')
        file.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases))
        file.write('\n],\n"tokenizers": {\n')
        for index, (name, rows) in enumerate(results.items()):
            file.write(f'"{name}": [\n')
            file.write(",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows))
            file.write("\n]" + ("," if index < len(results) - 1 else "") + "\n")
        file.write("}}\n")


def ids_of(tokenizer, cases):
    rows = []
    for case in cases:
        if "text" in case:
            text = case["text"]
        elif "hex" in case:
            text = bytes.fromhex(case["hex"]).decode("utf-8", "replace")
        else:
            text = case["unit"] * case["count"]
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        row = {"ids": ids} if len(ids) <= FULL else {"count": len(ids), "fnv": fnv(b"".join(id.to_bytes(4, "little") for id in ids))}
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        if decoded != text:
            row["decoded"] = decoded if len(ids) <= FULL else f"fnv {fnv(decoded.encode())}"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()

"""Makes the fixtures for tokenizers in GGUF files.

    python3 Fixtures/make/gguf_tokenizers.py spm          Fixtures/tokenizers/spm.json, and its ids in cases.json
    python3 Fixtures/make/gguf_tokenizers.py tasks        Fixtures/tokenizers/gguf-tasks.json
    python3 Fixtures/make/gguf_tokenizers.py converted FILE.gguf DIRECTORY
                                                          Fixtures/tokenizers/gguf-converted.json

Needs: tokenizers 0.23 (spm); gguf-py of llama.cpp 0c1e57098 (tasks: released versions up to 0.19 say less of
post-processors), gguf (converted).

spm.json is a vocabulary as SentencePiece's training leaves it (the tokens of llama2.json, each with a score, single letters
last) in the form of the published tokenizer.json files: every way to make a token of two others is a merge. The ids are the
library's. gguf-tasks.json holds small tokenizers with the keys that gguf.SpecialVocab writes for them. gguf-converted.json
holds the tokenizer keys of a file that llama.cpp's converter wrote, and the files that it read.
"""

import itertools
import json
import os
import random
import sys
import tempfile

import tokenizer_cases as cases

OUT = cases.OUT
MARK = "\u2581"


def write(name, data):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return json.load(file)


def spm():
    from tokenizers import Tokenizer

    data = read(OUT, "llama2.json")
    old = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    specials = ["<unk>", "<s>", "</s>"]
    plain = [token for token in old if token not in specials and not token.startswith("<0x")]
    joined = [token for token in plain if len(token) > 1]
    # Runs of one letter: several ways to make one token, and overlaps between them.
    joined += ["aa", "aaa", "aaaa", "aaaaaaaa", MARK * 2, MARK * 3, MARK * 4, MARK * 8]
    joined = list(dict.fromkeys(joined))
    single = [token for token in plain if len(token) == 1]
    tokens = specials + [f"<0x{byte:02X}>" for byte in range(256)] + joined + single
    vocab = {token: id for id, token in enumerate(tokens)}
    first = len(specials) + 256
    known = {token: id for token, id in vocab.items() if id >= first}
    merges = []
    for token in joined:
        ways = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        ways = [way for way in ways if way[0] in known and way[1] in known]
        merges += sorted(ways, key=lambda way: (known[way[0]], known[way[1]]))
    data["model"]["vocab"] = vocab
    data["model"]["merges"] = merges
    data["added_tokens"] = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True} for id, token in enumerate(specials)]
    write("spm.json", data)
    tokenizer = Tokenizer.from_file(os.path.join(OUT, "spm.json"))
    file = read(OUT, "cases.json")
    file["tokenizers"]["spm"] = cases.ids_of(tokenizer, file["cases"])
    cases.write_cases(file["cases"], file["tokenizers"])


class Recorder:
    """Takes what SpecialVocab writes."""

    def __init__(self):
        self.keys = []

    def __getattr__(self, name):
        from gguf import GGUFWriter

        real = getattr(GGUFWriter, name)  # absent where the writer has no such key

        class Writer:
            def add_uint32(_, key, value):
                self.keys.append([key, value])
            add_bool = add_string = add_array = add_uint32

            def __getattr__(_, other):
                return getattr(GGUFWriter, other)

        return lambda *arguments: real(Writer(), *arguments)


def special(text):
    return {"SpecialToken": {"id": text, "type_id": 0}}


def sequence(name):
    return {"Sequence": {"id": name, "type_id": 0}}


def template(first, last, between=()):
    first, last = [special(t) for t in first], [special(t) for t in last]
    middle = [special(t) for t in between]
    return {
        "type": "TemplateProcessing", "single": first + [sequence("A")] + last,
        "pair": first + [sequence("A")] + middle + [sequence("B")] + last, "special_tokens": {}}


def tasks():
    from gguf import SpecialVocab

    rng = random.Random(4)
    names = ["<s>", "</s>", "<pad>", "<turn>", "<unk>"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    processors = [
        None, byte_level, template(["<s>"], []), template(["<s>"], ["</s>"]), template([], ["</s>"]),
        template(["<s>"], [], ["<s>"]), template([], [], ["</s>"]), template([], ["<turn>"]), template(["<turn>"], []),
        {"type": "Sequence", "processors": [byte_level, template(["<s>"], [])]},
        {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]},
    ]
    configs = [
        {}, {"bos_token_id": 0, "eos_token_id": 1}, {"eos_token_id": [1, 3], "pad_token_id": None},
        {"text_config": {"bos_token_id": 3, "eos_token_id": 2}},
    ]
    tokens = [
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        {"eos_token": "<turn>", "pad_token": {"content": "<pad>", "lstrip": False}, "add_bos_token": True, "add_eos_token": False},
        {"bos_token": None, "eos_token": "</s>", "pad_token": "absent", "add_bos_token": False},
        {"bos_token": "<s>", "eos_token": "<turn>", "chat_template": "{{ messages }}"},
        {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<pad>"},
        {"bos_token": "<s>", "eos_token": "</s>", "chat_template": [
            {"name": "default", "template": "one"}, {"name": "tool use", "template": "two"}]},
    ]
    out = []
    every = list(itertools.product(processors, configs, tokens))
    for processor, config, settings in rng.sample(every, 60):
        jinja = rng.choice([None, "from a file"])
        tokenizer = {
            "added_tokens": [{"id": id, "content": name, "special": True} for id, name in enumerate(names)],
            "post_processor": processor,
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "vocab": {**{n: i for i, n in enumerate(names)}, "a": 5, "b": 6, "ab": 7},
                      "merges": ["a b"]}}
        with tempfile.TemporaryDirectory() as folder:
            for name, data in [
                    ("tokenizer.json", tokenizer), ("tokenizer_config.json", settings), ("config.json", config)]:
                with open(os.path.join(folder, name), "w") as file:
                    json.dump(data, file)
            if jinja:
                with open(os.path.join(folder, "chat_template.jinja"), "w") as file:
                    file.write(jinja)
            recorder = Recorder()
            SpecialVocab(folder, load_merges=True).add_to_gguf(recorder, quiet=True)
        out.append({
            "post_processor": processor, "tokenizer_config": settings, "config": config, "chat_template": jinja,
            "keys": recorder.keys})
    tokenizer["post_processor"] = None
    write("gguf-tasks.json", {"tokenizer": tokenizer, "cases": out})


def converted(path, folder):
    from gguf import GGUFReader

    keys = []
    for name, field in GGUFReader(path).fields.items():
        if name.startswith("tokenizer."):
            keys.append([name, field.contents()])
    config = read(folder, "config.json")
    ids = {key: value for key, value in config.items() if key == "vocab_size" or key.endswith("_token_id")}
    write("gguf-converted.json", {
        "keys": keys, "tokenizer": read(folder, "tokenizer.json"),
        "tokenizer_config": read(folder, "tokenizer_config.json"), "config": ids})


if __name__ == "__main__":
    {"spm": spm, "tasks": tasks, "converted": converted}[sys.argv[1]](*sys.argv[2:])

"""A tokenizer of one token a byte, for made-up models that llama.cpp is to load: it loads none without."""


def tokenizer(count):
    """One token a byte in the byte-level alphabet of GPT-2, then as many unused ones as the vocabulary has."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    for place, byte in enumerate(b for b in range(256) if b not in letters):
        letters[byte] = chr(256 + place)
    vocabulary = {letters[byte]: byte for byte in range(min(count, 256))}
    vocabulary.update({f"<unused{place}>": place for place in range(256, count)})
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []},
    }

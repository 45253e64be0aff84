// What `tokenizer.ggml.pre` stands for: how the text is cut before byte-pair encoding. The name is all that a GGUF file says
// about it; the patterns are those of the tokenizer.json files of the models that bear the name, not llama.cpp's, which
// spells several of them with what its regular expressions can do (`[sS]` for `(?i:s)`, letters for upper case).

import SmeltStorage
import SmeltTokenizers

/// One way of cutting and the names it goes by.
struct GGUFPreTokenizer: Sendable {
  /// One cut. All are made one after the other, then bytes are spelled in the byte alphabet.
  enum Cut: Sendable {
    /// At the matches of a pattern, which stay.
    case split(String)
    /// Before and behind each digit.
    case digits
    /// With GPT-2's pattern, which is `ByteLevel`'s own.
    case gpt2
  }

  /// The names; the first is the one written.
  let names: [String]
  let cuts: [Cut]
  /// Whether a word that is a token as a whole is not split.
  var ignoresMerges = false
  /// Whether the text is brought into NFC first. llama.cpp never does; the ids of the original are the aim.
  var isComposed = false
  /// Whether llama.cpp puts the first token before a text when the file does not say.
  var addsFirst = false
  /// Whether the name may be written.
  var isWritten = true

  /// The entry of a name, or nil.
  static func named(_ name: String) -> GGUFPreTokenizer? { all.first { $0.names.contains(name) } }

  /// The pre-tokenizer as tokenizer.json writes it.
  var json: JSON {
    var steps: [JSON] = []
    var usesPattern = false
    for cut in cuts {
      switch cut {
      case .split(let regex):
        steps.append([
          "type": "Split", "pattern": ["Regex": JSON(regex)], "behavior": "Isolated", "invert": false,
        ])
      case .digits: steps.append(["type": "Digits", "individual_digits": true])
      case .gpt2: usesPattern = true
      }
    }
    let bytes: JSON = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": JSON(usesPattern),
    ]
    return steps.isEmpty ? bytes : ["type": "Sequence", "pretokenizers": JSON(steps + [bytes])]
  }

  // MARK: recognizing

  private struct Known: Sendable {
    let entry: GGUFPreTokenizer
    let steps: [PreTokenizerStep]
  }

  /// The entries that may be written, with their steps.
  private static let known: [Known] = all.filter(\.isWritten).compactMap { entry in
    (try? TokenizerComponents(file: "").preTokenizer(entry.json)).map { Known(entry: entry, steps: $0.steps) }
  }

  /// The entry whose cuts are `steps`: the one that agrees in `ignoresMerges` and then in NFC where several do; nil when
  /// none has these cuts.
  static func matching(_ steps: [PreTokenizerStep], ignoresMerges: Bool, isComposed: Bool)
    -> GGUFPreTokenizer?
  {
    let found = known.filter { $0.steps == steps }.map(\.entry)
    let agreeing = found.filter { $0.ignoresMerges == ignoresMerges }
    return agreeing.first { $0.isComposed == isComposed } ?? agreeing.first ?? found.first
  }

  // MARK: the list

  private static let tail = #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let slashTail = #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
  private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
  private static let notWord = #"[^\r\n\p{L}\p{N}]?"#
  private static let llama3 = contraction + "|" + notWord + #"\p{L}+|\p{N}{1,3}"# + tail
  private static let qwen2 = contraction + "|" + notWord + #"\p{L}+|\p{N}"# + tail
  private static let o200k =
    notWord + upper + "*" + lower + "+" + contraction + "?|" + notWord + upper + "+" + lower + "*"
    + contraction
    + #"?|\p{N}{1,3}"# + slashTail
  private static let tekken =
    notWord + upper + "*" + lower + "+|" + notWord + upper + "+" + lower + #"*|\p{N}"# + slashTail
  private static let kimi: String = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    return #"[\p{Han}]+|"# + notWord + upper + "*" + lower + "+" + contraction + "?|" + notWord + upper + "+"
      + lower + "*" + contraction + #"?|\p{N}{1,3}"# + tail
  }()
  private static let deepseek3: [Cut] = [
    .split(#"\p{N}{1,3}"#), .split(#"[一-龥\u3040-ゟ゠-ヿ]+"#),
    .split(
      ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"##
        + #"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#),
  ]
  /// The letters of scripts with two cases, by their ranges at the time the model was made.
  private static let casedLetters = [
    #"A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"#,
    #"\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5"#,
    #"\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA"#,
    #"\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45"#,
    #"\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE"#,
    #"\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102"#,
    #"\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139"#,
    #"\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3"#,
    #"\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06"#,
    #"\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}"#,
    #"\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}"#,
  ].joined()

  /// All names that are read. Where several entries cut alike, the first that fits is written.
  static let all: [GGUFPreTokenizer] = [
    GGUFPreTokenizer(
      names: [
        "gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion", "granite-docling",
        "jais", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code", "roberta-bpe",
      ], cuts: [.gpt2]),
    GGUFPreTokenizer(names: ["olmo", "mpt", "modern-bert"], cuts: [.gpt2], isComposed: true),
    GGUFPreTokenizer(
      names: ["llama-bpe", "llama3", "llama-v3", "lfm2", "jina-v5-nano"], cuts: [.split(llama3)],
      ignoresMerges: true, addsFirst: true),
    GGUFPreTokenizer(names: ["dbrx", "smaug-bpe", "chatglm-bpe"], cuts: [.split(llama3)]),
    GGUFPreTokenizer(names: ["glm4", "glm5"], cuts: [.split(llama3)], ignoresMerges: true, isWritten: false),
    GGUFPreTokenizer(
      names: ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"], cuts: [.split(qwen2)],
      isComposed: true),
    GGUFPreTokenizer(
      names: ["stablelm2", "hunyuan", "solar-open", "grok-2"], cuts: [.split(qwen2)], isWritten: false),
    GGUFPreTokenizer(
      names: ["qwen35"],
      cuts: [
        .split(
          contraction + "|" + notWord
            + #"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        )
      ], isComposed: true),
    GGUFPreTokenizer(names: ["deepseek-v3", "joyai-llm", "hunyuan-dense", "hy_v4"], cuts: deepseek3),
    // llama.cpp cuts numbers in runs here; no token holds two digits, so the ids are the same.
    GGUFPreTokenizer(
      names: ["deepseek-llm"],
      cuts: [
        .split(#"[\r\n]"#), .split(#"\s?["# + casedLetters + "]+"),
        .split(#"\s?[!-/:-~！-／：-～‘-‟　-。]+"#), .split(#"\s+$"#), .split(#"[一-龥ࠀ-一가-퟿]+"#), .digits,
      ]),
    GGUFPreTokenizer(
      names: ["deepseek-coder"],
      cuts: [
        .split(#"[\r\n]"#), .split(#"\s?\p{L}+"#), .split(#"\s?\p{P}+"#), .split(#"[一-龥ࠀ-一가-퟿]+"#), .digits,
      ]),
    GGUFPreTokenizer(names: ["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], cuts: [.split(o200k)]),
    GGUFPreTokenizer(
      names: ["tekken"], cuts: [.split(tekken)], ignoresMerges: true, addsFirst: true),
    GGUFPreTokenizer(names: ["kimi-k2"], cuts: [.split(kimi)]),
    GGUFPreTokenizer(
      names: ["starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
      cuts: [.digits, .gpt2]),
    GGUFPreTokenizer(names: ["command-r"], cuts: [.digits, .gpt2], isComposed: true),
    GGUFPreTokenizer(
      names: ["bailingmoe", "bailingmoe2", "llada-moe"],
      cuts: [
        .split(
          #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#
        )
      ]),
    GGUFPreTokenizer(
      names: ["exaone-moe"],
      cuts: [
        .split(
          contraction + "|" + notWord
            + #"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"#)
      ]),
    GGUFPreTokenizer(
      names: ["tiny_aya", "cohere2moe"], cuts: [.split(#"\d{1,3}(?=(?:\d{3})*\b)"#), .split(o200k)]),
    GGUFPreTokenizer(
      names: ["seed-coder"],
      cuts: [
        .split(
          contraction + "|" + notWord + #"\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"#)
      ]),
    // What llama.cpp does for a tokenizer that its converter did not know. It is no model's own; the ids are llama.cpp's.
    GGUFPreTokenizer(
      names: ["default"],
      cuts: [
        .split(#"[\p{P}\$\+<=>\^~\|]+"#),
        .split(#"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"#),
        .split(#"\p{N}+"#),
        .split("[0-9][0-9][0-9]"),
      ], isWritten: false),
  ]
}

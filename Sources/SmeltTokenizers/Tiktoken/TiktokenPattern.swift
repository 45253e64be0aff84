// How the models that come with a tiktoken file cut a text, and which tokens they add. The file says neither; what counts is the
// name of the code that the configuration asks for, or of the file. A name that is not here is refused: a pattern that nearly
// fits would give other ids.

import SmeltStorage

/// A known way of cutting.
package struct TiktokenPattern: Sendable {
  /// Its name in messages.
  package let name: String
  /// The regular expression whose matches are the words.
  package let regex: String
  /// Whether the text is composed (NFC) first.
  package var isComposed = false
  /// The tokens behind the ranks, by the number of ranks.
  let added: @Sendable (Int) -> [(id: Int, text: String)]

  private static let tail = #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let notWord = #"[^\r\n\p{L}\p{N}]?"#

  /// Kimi K2, Kimi Linear, Moonlight. Source: their tokenization_kimi.py; of its 258 names for tokens behind the ranks the last
  /// two have no row in the models and are left out unless the configuration names them.
  static let kimi: TiktokenPattern = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let words =
      #"[\p{Han}]+|"# + notWord + upper + "*" + lower + "+" + contraction + "?|" + notWord + upper + "+"
      + lower + "*" + contraction + "?"
    return TiktokenPattern(name: "Kimi", regex: words + #"|\p{N}{1,3}"# + tail) { count in
      (count..<(count + 256)).map { ($0, "<|reserved_token_\($0)|>") }
    }
  }()

  /// The first Qwen. Source: its tokenization_qwen.py.
  static let qwen = TiktokenPattern(
    name: "Qwen", regex: contraction + "|" + notWord + #"\p{L}+|\p{N}"# + tail, isComposed: true
  ) { count in
    let names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + (0..<205).map { "<|extra_\($0)|>" }
    return names.enumerated().map { (count + $0, $1) }
  }

  /// `cl100k_base`. Source: tiktoken's openai_public.py.
  static let cl100k = TiktokenPattern(
    name: "cl100k_base", regex: contraction + "|" + notWord + #"\p{L}+|\p{N}{1,3}"# + tail
  ) { count in
    guard count == 100_256 else { return [] }
    return [
      (100_257, "<|endoftext|>"), (100_258, "<|fim_prefix|>"), (100_259, "<|fim_middle|>"),
      (100_260, "<|fim_suffix|>"), (100_276, "<|endofprompt|>"),
    ]
  }

  /// `o200k_base`. Source: tiktoken's openai_public.py.
  static let o200k: TiktokenPattern = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    let words =
      notWord + upper + "*" + lower + "+" + contraction + "?|" + notWord + upper + "+" + lower + "*"
      + contraction
      + "?"
    let rest = #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    return TiktokenPattern(name: "o200k_base", regex: words + rest) { count in
      count == 199_998 ? [(199_999, "<|endoftext|>"), (200_018, "<|endofprompt|>")] : []
    }
  }()

  /// The pattern that the settings or the file's name ask for.
  /// - Throws: `RequestError` `unsupported` naming the class, or the file where no class is named.
  static func of(_ settings: TokenizerSettings, file: String) throws -> TiktokenPattern {
    let module = settings.codeName?.split(separator: ".").first.map(String.init)?.split(separator: "--").last
    switch module {
    case "tokenization_kimi", "tokenization_moonshot": return kimi
    case "tokenization_qwen": return qwen
    case nil: break
    case let other?: throw unknown(String(other), file)
    }
    switch settings.className {
    case "TikTokenTokenizer": return kimi
    case "QWenTokenizer": return qwen
    default: break
    }
    switch file {
    case "qwen.tiktoken": return qwen
    case "cl100k_base.tiktoken": return cl100k
    case "o200k_base.tiktoken": return o200k
    default: throw unknown(settings.className ?? file, file)
    }
  }

  private static func unknown(_ name: String, _ file: String) -> RequestError {
    RequestError(
      .unsupported, "how '\(printable(excerpt(name)))' cuts a text is not known, and \(file) does not say it",
      help:
        "Smelt knows Kimi's, Qwen's, cl100k_base's and o200k_base's; save the tokenizer as tokenizer.json instead"
    )
  }
}

// Tokenizers between tokenizer.json and the keys of a GGUF file, both ways. There is one tokenizer in this program, that of
// tokenizer.json; what a GGUF file says is brought into that form, so that a model from either source gives the same ids.

package import SmeltStorage
package import SmeltTokenizers

/// The `tokenizer.*` keys of a GGUF file. Formats/gguf.md, Tokenizer.
package enum GGUFTokenizer {
  /// The files of a tokenizer as a checkpoint holds them. What is nil is not there.
  package struct Files: Sendable {
    /// tokenizer.json, or the file in its place.
    package var tokenizer: Bytes
    /// tokenizer_config.json: names of special tokens, which of them go round a text, the chat template.
    package var tokenizerConfig: Bytes?
    /// chat_template.jinja; counts before a template in tokenizer_config.json.
    package var chatTemplate: Bytes?
    /// The files of additional_chat_templates by their names without `.jinja`.
    package var namedTemplates: [(name: String, template: Bytes)] = []
    /// chat_template.json, which processors once had; counts where there is no other template.
    package var processorTemplate: Bytes?

    /// The files as they were read.
    package init(tokenizer: Bytes, tokenizerConfig: Bytes? = nil, chatTemplate: Bytes? = nil) {
      self.tokenizer = tokenizer
      self.tokenizerConfig = tokenizerConfig
      self.chatTemplate = chatTemplate
    }

    /// The files of a tokenizer of any kind. A tiktoken file becomes the tokenizer.json that it stands for, with one merge a
    /// token, as llama.cpp's converter lists them; a SentencePiece model stays what it is.
    /// - Throws: refusals of the tokenizer's file.
    package init(_ source: TokenizerFiles, tokenizerConfig: Bytes? = nil, chatTemplate: Bytes? = nil) throws {
      self.init(
        tokenizer: source.bytes, tokenizerConfig: tokenizerConfig, chatTemplate: chatTemplate)
      switch source.kind {
      case .json: break
      case .tiktoken:
        let (json, missing) = try TiktokenFile(source.bytes, file: source.file).tokenizerJSON(
          source.settings())
        tokenizer = Bytes(json)
        if missing > 0 {
          notes.append(
            "\(missing) tokens of \(source.file) are no two tokens of lower rank joined; merges make them no more"
          )
        }
      case .sentencePiece:
        _ = try source.tokenizer()
        sentencePiece = SentencePiece(
          source: try SentencePieceFile(source.bytes, file: source.file), settings: try source.settings())
      }
    }

    /// A SentencePiece model in the place of a tokenizer.json, and what its settings add.
    struct SentencePiece: Sendable {
      let source: SentencePieceFile
      let settings: TokenizerSettings
    }

    /// Set where `tokenizer` is no JSON.
    private(set) var sentencePiece: SentencePiece?
    /// What was lost on the way to a tokenizer.json.
    private(set) var notes: [String] = []
  }

  /// What a GGUF file says of a tokenizer.
  package struct Entries: Sendable {
    /// Keys and values in the order of llama.cpp's converter.
    package var entries: [(key: String, value: MetadataValue)]
    /// What the keys cannot say, one sentence each; empty when reading them back gives the same ids for every text.
    package var notes: [String]
  }

  // MARK: names

  /// The tokenizer's file.
  package static let tokenizerFile = "tokenizer.json"
  /// The file that names its special tokens.
  package static let configFile = "tokenizer_config.json"
  /// The file of the chat template.
  package static let templateFile = "chat_template.jinja"
  /// The file that processors once had for it.
  package static let processorTemplateFile = "chat_template.json"
  private static let templateFolder = "additional_chat_templates/"

  /// The name of the template in a file of the folder for further templates; nil for other files.
  package static func templateName(ofFile name: String) -> String? {
    guard name.hasPrefix(templateFolder), name.hasSuffix(".jinja") else { return nil }
    let stem = name.dropFirst(templateFolder.count).dropLast(".jinja".count)
    return stem.isEmpty || stem.contains("/") ? nil : String(stem)
  }

  /// The file of a named template.
  static func file(ofTemplate name: String) -> String { templateFolder + name + ".jinja" }

  /// Above this id nothing is read; `Tokenizer` has the same limit.
  static let idLimit = 1 << 24

  /// `tokenizer.ggml.` and a name.
  static func key(_ name: String) -> String { "tokenizer.ggml." + name }

  /// A token with a task: its name in tokenizer_config.json is `NAME_token`, in config.json `NAME_token_id`.
  struct Task: Sendable {
    let name: String
    /// The key; the misspelling is the format's.
    let key: String

    init(_ name: String, _ keyName: String) {
      self.name = name
      key = GGUFTokenizer.key(keyName + "_token_id")
    }
  }

  /// The tasks in the order in which they are written.
  static let tasks = [
    Task("bos", "bos"), Task("eos", "eos"), Task("unk", "unknown"), Task("sep", "seperator"),
    Task("pad", "padding"), Task("cls", "cls"), Task("mask", "mask"), Task("eot", "eot"), Task("eom", "eom"),
    Task("fim_pre", "fim_pre"), Task("fim_suf", "fim_suf"), Task("fim_mid", "fim_mid"),
    Task("fim_pad", "fim_pad"), Task("fim_rep", "fim_rep"), Task("fim_sep", "fim_sep"),
  ]

  /// What a token is. Source: ggml's `llama_token_type`.
  enum TokenType: Int {
    case undefined = 0
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// What stands in a vocabulary for an id without a token.
  static func padding(_ id: Int) -> String { "[PAD\(id)]" }

  static let mark = "\u{2581}"

  /// Special tokens of Gemma 4 that llama.cpp shows in a text, since its parser of chats reads them. Source: its conversion.
  static let shown: Set<String> = [
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
    "<|\"|>",
  ]
}

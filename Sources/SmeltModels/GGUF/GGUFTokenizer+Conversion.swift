// Both ways between the keys of a GGUF file and the files of a tokenizer.

package import SmeltStorage

extension GGUFTokenizer {
  /// The tokenizer files that a GGUF file's keys stand for, by the names that a checkpoint gives them: tokenizer.json and
  /// tokenizer_config.json, and the chat templates: chat_template.jinja and additional_chat_templates/NAME.jinja. No tokenizer
  /// when the file holds none. `Tokenizer(json:file:)` gives the ids of the tokenizer that the model was made with, as far as
  /// the keys tell. A chat template is carried as text, never run.
  /// - Throws: `FormatError` `TOK_VALUE` naming the key, what was found and what expected; `RequestError` `unsupported`
  ///   for a tokenizer model or a `tokenizer.ggml.pre` that is not known.
  package static func files(from metadata: Metadata) throws -> [(name: String, bytes: Bytes)] {
    try GGUFTokenizerReader(metadata: metadata).files()
  }

  /// The keys for a checkpoint's tokenizer.
  /// - Parameters:
  ///   - files: the tokenizer's files.
  ///   - config: config.json, or an empty object: `vocab_size`, to which tokens are padded, and the ids that
  ///     tokenizer_config.json does not name.
  /// - Throws: what `Tokenizer(json:file:)` throws; `FormatError` `TOK_VALUE` for ids beyond `vocab_size`; `RequestError`
  ///   `unsupported` for a tokenizer that no `tokenizer.ggml.pre` stands for, since a name that nearly fits would give
  ///   other ids.
  package static func entries(for files: Files, config: JSON) throws -> Entries {
    if let model = files.sentencePiece {
      return try GGUFSentencePieceWriter(model: model, files: files, config: config).entries()
    }
    var entries = try GGUFTokenizerWriter(files: files, config: config).entries()
    entries.notes = files.notes + entries.notes
    return entries
  }
}

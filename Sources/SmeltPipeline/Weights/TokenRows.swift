// A tokenizer held against the rows of its model's embedding. A token beyond them does no harm until a text holds it.

import SmeltModels
import SmeltStorage
import SmeltTokenizers

extension Tokenizer {
  /// Refuses ids that have no row among the `rows` of the embedding.
  /// - Throws: `TOK_VALUE` naming the first token by id and text.
  func requireRows(_ ids: [Int], of rows: Int) throws(FormatError) {
    guard let stray = ids.first(where: { !(0..<rows).contains($0) }) else { return }
    throw FormatError(
      .tokenizerValue, file: file, subject: "vocab",
      "gives the text's token '\(token(stray) ?? "")' the id \(stray), and the model's embedding has \(rows) rows, 0 to \(rows - 1)",
      help: "leave the token out of the text, or give the tokenizer that belongs to the weights")
  }

  /// What `check` says of tokens beyond the `rows` of the embedding; nil when there are none.
  func rowWarning(_ rows: Int) -> String? {
    let beyond = tokens(from: rows)
    guard !beyond.isEmpty else { return nil }
    let named = beyond.prefix(8).map { "'\(printable(excerpt($0.text)))' (\($0.id))" }.joined(separator: ", ")
    let more = beyond.count > 8 ? " and \(beyond.count - 8) more" : ""
    return
      "[\(ErrorCode.tokenizerValue)] \(beyond.count == 1 ? "a token has" : "\(beyond.count) tokens have") no row "
      + "among the embedding's \(rows): \(named)\(more); a text that holds one is refused"
  }
}

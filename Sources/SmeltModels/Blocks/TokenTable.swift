// Tables with a row for each token id: embeddings, and experts by id. The one place where an id becomes a row, since an id comes
// from a file: a tokenizer can have more tokens than the table has rows.

import SmeltStorage
import SmeltTensors

/// A table indexed by token id.
struct TokenTable {
  private let table: Weight

  /// The table of a name.
  init(_ name: WeightName, _ weights: some Weights) throws { table = try weights.weight(name) }

  /// The rows of a batch's tokens as floats, [tokens, columns].
  /// - Parameter range: the columns; all by default.
  /// - Throws: `TOK_VALUE` for an id without a row.
  func rows(of batch: TokenBatch, columns range: Range<Int>? = nil) throws -> Matrix {
    try check(batch)
    let range = range ?? 0..<table.columns
    precondition(range.lowerBound >= 0 && range.upperBound <= table.columns, "columns \(range)")
    // Encodings decode from whole blocks of 1024 columns on.
    let first = range.lowerBound / 1024 * 1024
    let width = range.upperBound - first
    let rows = Matrix(rows: batch.count, columns: width) { out in
      for (token, id) in batch.ids.enumerated() {
        table.encoding.decode(
          table, rows: id..<id + 1, columns: first..<range.upperBound, into: out + token * width,
          stride: width)
      }
    }
    return width == range.count ? rows : rows.columns(width - range.count..<width)
  }

  /// The whole numbers in the rows of a batch's tokens.
  /// - Throws: `TOK_VALUE` for an id without a row; `CFG_VALUE` for a number outside 0 ..< `limit`.
  func integers(of batch: TokenBatch, below limit: Int) throws -> [[Int32]] {
    try check(batch)
    let all = try table.integers()
    return try batch.ids.map { id in
      try all[id * table.columns..<(id + 1) * table.columns].map { number in
        guard (0..<limit).contains(number) else {
          throw FormatError(
            .configValue, file: table.file, subject: table.name,
            "row \(id) holds \(number), expected 0 to \(limit - 1)")
        }
        return Int32(number)
      }
    }
  }

  private func check(_ batch: TokenBatch) throws(FormatError) {
    guard let stray = batch.ids.first(where: { !(0..<table.rows).contains($0) }) else { return }
    throw FormatError(
      .tokenizerValue, file: table.file, subject: table.name,
      "has \(table.rows) rows, and none for the token id \(stray)",
      help: "tokenizer and weights come from different models, or the token was added and never trained")
  }
}

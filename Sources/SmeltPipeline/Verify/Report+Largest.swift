// The tokens of largest divergence in their text.

import SmeltModels
import SmeltStorage
import SmeltTokenizers

extension Report {
  /// A token of large divergence, in its text.
  package struct LargestToken: Sendable {
    /// A next token that a side thought likely.
    package struct Guess: Sendable {
      /// Its id.
      package var id: Int
      /// Its text; nil without a tokenizer.
      package var text: String?
      /// How likely, 0 to 1.
      package var probability: Double

      var json: JSON { ["id": JSON(id), "text": JSON(text), "probability": JSON(probability)] }
    }

    /// The window, counted from 0.
    package var window: Int
    /// The token's place in it, from 0.
    package var position: Int
    /// D(source ‖ result) of what comes after it, in nats.
    package var divergence: Double
    /// The ids before it and its own, some words of them.
    package var ids: [Int]
    /// Their text; nil without a tokenizer.
    package var text: String?
    /// The token that does follow, with what each side gave to it; nil at the end of a window.
    package var next: (source: Guess, result: Guess)?
    /// The likeliest next tokens of the source.
    package var source: [Guess]
    /// Those of the result.
    package var result: [Guess]

    /// How many ids before the token are shown.
    static let context = 40

    /// For machines.
    var json: JSON {
      [
        "window": JSON(window), "position": JSON(position), "kl": JSON(divergence),
        "ids": JSON(ids.map { JSON($0) }),
        "text": JSON(text), "next_id": next.map { JSON($0.source.id) } ?? JSON(.null),
        "next_text": JSON(next?.source.text),
        "next_source_probability": next.map { JSON($0.source.probability) } ?? JSON(.null),
        "next_result_probability": next.map { JSON($0.result.probability) } ?? JSON(.null),
        "source": JSON(source.map(\.json)), "result": JSON(result.map(\.json)),
      ]
    }
  }
}

extension LargestTokens {
  /// The tokens in their windows.
  /// - Parameter decode: ids as text; nil without a tokenizer.
  func located(_ sequences: [[Int]], decode: (([Int]) -> String)?) -> [Report.LargestToken] {
    var starts: [Int] = []
    var total = 0
    for sequence in sequences {
      starts.append(total)
      total += sequence.count
    }
    func guess(_ id: Int, _ probability: Double) -> Report.LargestToken.Guess {
      .init(id: id, text: decode?([id]), probability: probability)
    }
    return entries.compactMap { entry in
      guard entry.token < total, let window = starts.lastIndex(where: { $0 <= entry.token }) else {
        return nil
      }
      let (sequence, position) = (sequences[window], entry.token - starts[window])
      let ids = Array(sequence[max(0, position - Report.LargestToken.context)...position])
      return Report.LargestToken(
        window: window, position: position, divergence: entry.divergence, ids: ids, text: decode?(ids),
        next: entry.next.map {
          (guess(sequence[position + 1], $0.source), guess(sequence[position + 1], $0.result))
        },
        source: entry.source.map { guess($0.id, $0.probability) },
        result: entry.result.map { guess($0.id, $0.probability) })
    }
  }
}

extension Model {
  /// Ids as text: by the model's tokenizer, or as bytes where the text's bytes are the ids; nil where neither can be had.
  func decoder(_ tokenization: Windows.Tokenization) -> (([Int]) -> String)? {
    guard tokenization == .ids else {
      return { String(decoding: $0.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self) }
    }
    // A model whose tokenizer cannot be read is compared all the same; that it cannot is among the differences.
    guard let tokenizer = try? tokenizer() else { return nil }
    return { String(decoding: tokenizer.decode($0), as: UTF8.self) }
  }
}

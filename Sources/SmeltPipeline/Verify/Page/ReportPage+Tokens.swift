// Tokens of large divergence, in their text.

import SmeltStorage

extension Report {
  /// The tokens that differ most, each with what both sides thought would come next.
  var pageTokens: String {
    guard !largest.isEmpty else { return "" }
    var out = HTML.paragraph(
      "The \(largest.count) places where the predictions of source and result are furthest apart, with the text before them. The underlined token is "
        + "the one that follows in the text. Below are the three tokens that each side finds most likely there, with their probabilities."
    )
    for token in largest { out += block(token) }
    return out
  }

  private func block(_ token: LargestToken) -> String {
    let ids = token.ids.map { "\($0)" }.joined(separator: " ")
    let isCut = token.position >= token.ids.count
    let before = token.text.map { isCut ? "…" + trimmed($0) : $0 } ?? "ids \(ids)"
    var out = "<div class=\"token\"><p class=\"text\">\(lines(before))"
    if let next = token.next {
      out +=
        "\(token.text == nil ? " " : "")<span class=\"next\">\(HTML.escape(next.source.text ?? "\(next.source.id)"))</span>"
    }
    out += "</p>\n<div class=\"guesses\">\n"
    for (name, guesses, own) in [
      ("source", token.source, token.next?.source), ("result", token.result, token.next?.result),
    ] {
      out += "<p>\(name): " + guesses.map(marked).joined(separator: ", ")
      if let own, !guesses.contains(where: { $0.id == own.id }) {
        out += "; the token that follows: \(share(own.probability))"
      }
      out += "</p>\n"
    }
    return out
      + "</div><p class=\"soft\">\(HTML.escape("KL \(scientific(token.divergence)) nats, \(place(of: token))"))</p></div>\n"
  }

  private func marked(_ guess: LargestToken.Guess) -> String {
    "<code>\(HTML.escape(guess.text ?? "\(guess.id)"))</code> \(HTML.escape(share(guess.probability)))"
  }

  /// A probability, one decimal of a per cent.
  private func share(_ probability: Double) -> String {
    probability < 0.0005 ? "below 0.1\u{A0}%" : percent(probability, 1)
  }

  private func place(of token: LargestToken) -> String {
    let text = texts.first { $0.windows.contains(token.window) }
    return "window \(token.window - (text?.windows.lowerBound ?? 0)), token \(token.position)"
      + (text.map { " of \($0.name)" } ?? "")
  }

  /// Line breaks stay, since the page shows them; all else is escaped.
  private func lines(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { HTML.escape(String($0)) }
      .joined(separator: "\n")
  }

  /// Without the space before it, and the rest of a character that the beginning cut in two.
  private func trimmed(_ text: String) -> Substring { text.drop { $0 == "\u{FFFD}" || $0 == " " } }
}

// Tokens of large divergence, in their text.

import SmeltStorage

extension Report {
  /// The tokens that differ most, each with what both sides thought would come next.
  var pageTokens: String {
    guard !largest.isEmpty else { return "" }
    var out = HTML.paragraph(
      "The \(largest.count) tokens after which source and result are furthest apart, with some of the text before them. Underlined is what the "
        + "text goes on with. Beside it stand the likeliest next tokens of each side with their probabilities."
    )
    for token in largest { out += block(token) }
    return out
  }

  private func block(_ token: LargestToken) -> String {
    let ids = token.ids.map { "\($0)" }.joined(separator: " ")
    let before =
      token.text.map { (token.position >= token.ids.count ? "… " : "") + trimmed($0) } ?? "ids \(ids)"
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
        out += "; \(percent(own.probability, 1)) for what follows"
      }
      out += "</p>\n"
    }
    return out
      + "</div><p class=\"soft\">KL \(scientific(token.divergence)) nats, window \(token.window), token \(token.position)</p></div>\n"
  }

  private func marked(_ guess: LargestToken.Guess) -> String {
    "<code>\(HTML.escape(guess.text ?? "\(guess.id)"))</code> \(HTML.escape(percent(guess.probability, 1)))"
  }

  /// Line breaks stay, since the page shows them; all else is escaped.
  private func lines(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { HTML.escape(String($0)) }
      .joined(separator: "\n")
  }

  /// Without the rest of a character that the beginning cut in two.
  private func trimmed(_ text: String) -> Substring { text.drop { $0 == "\u{FFFD}" } }
}

// The card on top of a report's page: the verdict, the figures that people quote, the criteria, and how the report was made.

import SmeltStorage

extension Report {
  /// The verdict, what it rests on, and the figures that people quote.
  var pageCard: String {
    var out = "<div class=\"card\"><h1>\(HTML.escape(pageName))</h1>\n"
    out += "<p class=\"verdict \(verdict.style)\">\(HTML.escape(verdict.title))</p>\n"
    let unmet = criteria.count { !$0.isMet }
    switch verdict {
    case .notJudged: out += HTML.paragraph("Nothing is demanded of the figures: \(reasonText).")
    case .pass: out += HTML.paragraph("Every criterion is met\(profileText).")
    case .fail:
      out += HTML.paragraph(
        "\(unmet) of \(criteria.count) criteria \(unmet == 1 ? "is" : "are") not met\(profileText).")
    }
    out += "<div class=\"keys\">\n" + keys.map(Report.key).joined() + "</div>\n"
    out += HTML.table(
      ["criterion", "found", "demanded", "met"],
      criteria.map { [$0.name, $0.foundText, $0.demandedText, $0.isMet ? "✓\u{A0}yes" : "✗\u{A0}no"] })
    return out + pageFacts + "</div>\n"
  }

  private var profileText: String { thresholds.profile.map { " (profile \($0.rawValue))" } ?? "" }

  private static func key(_ key: (value: String, name: String)) -> String {
    "<div class=\"key\"><b>\(HTML.escape(key.value))</b><span>\(HTML.escape(key.name))</span></div>\n"
  }

  /// The large figures.
  private var keys: [(value: String, name: String)] {
    let bytes = sides.map { $0.json["bytes"]?.integer ?? 0 }
    var keys: [(value: String, name: String)] = []
    if notRun == nil {
      keys.append(
        (scientific(kl.mean), "KL mean, nats a token" + intervalText(intervals?.kl, scientific) + floorText))
      keys.append((percent(top1, 2), "tokens with the same most likely next token (top-1)"))
      keys.append(
        (
          fixed(perplexity.result, 4),
          "perplexity; the source has \(fixed(perplexity.source, 4))" + ratioText
        ))
    } else {
      keys.append(
        (
          "\(grouped(exactWeights)) of \(grouped(weights.count))",
          "weights are the source's, number by number"
        ))
    }
    if bytes[1] > 0 {
      keys.append(
        (
          byteText(bytes[1]),
          "from \(byteText(bytes[0])): \(percent(Double(bytes[1]) / Double(max(1, bytes[0])), 1))"
        ))
    }
    if !weights.isEmpty {
      keys.append(
        (
          fixed(bitsPerWeight.result, 2),
          "bits a weight, scales included; the source has \(fixed(bitsPerWeight.source, 2))"
        ))
    }
    return keys
  }

  /// The interval of the perplexities' ratio.
  var ratioText: String {
    intervals.map { "; ratio, 95 %: \(fixed($0.ratio.low, 4)) to \(fixed($0.ratio.high, 4))" } ?? ""
  }

  /// The noise floor, as it stands beside a divergence.
  var floorText: String { kl.floor.isFinite ? "; floor \(scientific(kl.floor))" : "" }

  /// An interval, as it stands beside its figure.
  func intervalText(_ interval: Interval?, _ written: (Double) -> String) -> String {
    interval.map { "; 95 %: \(written($0.low)) to \(written($0.high))" } ?? ""
  }

  /// What a reader needs to make the report again.
  private var pageFacts: String {
    var facts: [(name: String, value: String)] = []
    let bits = [bitsPerWeight.source, bitsPerWeight.result]
    for (place, side) in sides.enumerated() {
      let container = side.json["container"]?.string ?? ""
      let words = [
        publicName(side.json["path"]?.string ?? ""), container, side.json["family"]?.string ?? "",
        byteText(side.json["bytes"]?.integer ?? 0),
      ]
      facts.append(
        (
          side.key,
          words.joined(separator: ", ") + (weights.isEmpty ? "" : ", \(fixed(bits[place], 2)) bits a weight")
        ))
      facts.append(("\(side.key), hashes", hashText(side.json, isSource: place == 0)))
    }
    if !weights.isEmpty { facts.append(("encodings of the result", encodingsText)) }
    if let recipe = making.recipeText { facts.append(("recipe", recipe)) }
    if texts.isEmpty {
      if !making.texts.isEmpty { facts.append(("text", making.texts.joined(separator: ", "))) }
      if let hash = making.textHash { facts.append(("text, SHA-256", hash)) }
    }
    for text in texts.prefix(PageBounds.weights) {
      facts.append(("text", "\(excerpt(text.name, limit: 160)), SHA-256 \(text.hash)"))
    }
    if texts.count > PageBounds.weights {
      facts.append(("further texts", grouped(texts.count - PageBounds.weights)))
    }
    if tokens > 0 {
      let kind = tokenization == .bytes ? " (the text's bytes as ids)" : ""
      facts.append(("tokens", "\(grouped(tokens))\(kind) in windows of \(context)"))
      if isSampled {
        facts.append(("sample for floor and forced routing", "\(grouped(kl.sampleTokens)) tokens"))
      }
    }
    if let intervals {
      facts.append(
        (
          "intervals",
          "95 %, bootstrap of \(Intervals.draws) draws over \(grouped(intervals.windows)) windows"
        ))
    }
    if draftWeights > 0 { facts.append(("weights of drafts (MTP)", grouped(draftWeights))) }
    for left in missing { facts.append(("left out of the result", left.text)) }
    facts.append(
      (
        "time and memory",
        "\(fixed(resources.seconds, 1)) s, \(byteText(resources.peakMemoryBytes)) peak resident"
      ))
    facts.append(("made", "\(making.date) by \(making.tool)"))
    return HTML.facts(facts)
  }

  private func hashText(_ side: JSON, isSource: Bool) -> String {
    var hashes: [String] = []
    if let hash = side["weights_sha256"]?.string { hashes.append("\(hash) (SHA-256 of the weights)") }
    if let hash = side["content_hash"]?.string { hashes.append("\(hash) (content of the ingot)") }
    if let hash = side["manifest_sha256"]?.string {
      hashes.append("\(hash) (SHA-256 of smelt-manifest.json, which lists all files)")
    }
    if isSource, let hash = making.sourceHash {
      hashes.append("\(hash) (of its tensors, as the result recorded them when it was made)")
    }
    return hashes.joined(separator: "; ")
  }

  /// The encodings of the result by their share of its bytes.
  private var encodingsText: String {
    var bytes: [String: Int] = [:]
    for weight in weights { bytes[weight.scheme, default: 0] += weight.resultBytes }
    let all = Double(max(1, bytes.values.reduce(0, +)))
    let ordered = bytes.sorted { $0.value == $1.value ? $0.key < $1.key : $0.value > $1.value }
    return ordered.map { "\($0.key) \(percent(Double($0.value) / all, 1))" }.joined(separator: ", ")
  }
}

extension Verdict {
  /// As a heading.
  fileprivate var title: String {
    switch self {
    case .pass: "Pass"
    case .fail: "Fail"
    case .notJudged: "Not judged"
    }
  }
}

/// A share from 0 to 1 as per cent.
func percent(_ share: Double, _ decimals: Int) -> String { fixed(100 * share, decimals) + "\u{A0}%" }

/// A model's name as it may be published: its folder's or file's alone, or its address where it has one, without what may be a
/// secret: the name and password before the host, and the query.
func publicName(_ path: String) -> String {
  guard let scheme = path.firstRange(of: "://") else { return fileName(path) }
  let rest = path[scheme.upperBound...].prefix { $0 != "?" && $0 != "#" }
  let host = rest.prefix { $0 != "/" }
  // `hf://org/name@revision` has its sign behind a slash.
  guard let sign = host.lastIndex(of: "@") else { return String(path[..<scheme.upperBound] + rest) }
  return String(path[..<scheme.upperBound] + rest[rest.index(after: sign)...])
}

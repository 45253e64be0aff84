// A report as the table of a model card.

import SmeltStorage

extension Report {
  /// The lines of a model card.
  var card: String {
    let agreement: [(String, String)] =
      [
        ("perplexity", "\(fixed(perplexity.source, 4)) → \(fixed(perplexity.result, 4))" + ratioText),
        (
          "KL divergence, mean",
          "\(scientific(kl.mean)) nats a token" + intervalText(intervals?.kl, scientific)
        ),
        (
          "KL, median / p99 / max", "\(scientific(kl.median)) / \(scientific(kl.p99)) / \(scientific(kl.max))"
        ),
        ("KL, source against itself\(sampleText)", scientific(kl.floor)),
      ]
      + texts.map { text in
        (
          ModelCard.cell("KL divergence, mean, \(text.name)"),
          "\(scientific(text.kl.mean)) nats a token" + intervalText(text.intervals?.kl, scientific)
            + "; top-1 \(fixed(text.top1, 4))"
        )
      }
      + (router.isEmpty
        ? [] : [("KL with the source's expert choices\(sampleText)", scientific(kl.forcedRoutingMean))])
      + [
        ("top-1 agreement", fixed(top1, 4)), ("top-5 agreement", fixed(top5, 4)),
      ]
    var rows = notRun.map { [("forward pass", "not run: \($0)")] } ?? agreement
    if let flips = router.min(by: { $0.setAgreement < $1.setAgreement }) {
      rows.append(("router agreement, worst layer", "\(fixed(flips.setAgreement, 4)) (layer \(flips.layer))"))
    }
    if let activations {
      rows.append(("KL with \(activations.rounding) activations", scientific(activations.kl.mean)))
    }
    rows.append(("size", sides.map { byteText($0.json["bytes"]?.integer ?? 0) }.joined(separator: " → ")))
    if !weights.isEmpty {
      rows.append(("bits a weight", "\(fixed(bitsPerWeight.source, 2)) → \(fixed(bitsPerWeight.result, 2))"))
    }
    if let recipe = making.recipeText { rows.append(("recipe", ModelCard.cell(recipe))) }
    if let hash = making.sourceHash { rows.append(("source, SHA-256 of its tensors", hash)) }
    for side in sides {
      if let hash = side.json["weights_sha256"]?.string {
        rows.append(("weights of the \(side.key), SHA-256", hash))
      }
    }
    if let hash = making.textHash {
      rows.append(
        ("text", ModelCard.cell(printable("\(making.texts.joined(separator: ", ")), SHA-256 \(hash)"))))
    }
    rows.append(("date", making.date))
    rows.append(("exact weights", "\(exactWeights) of \(weights.count)"))
    if draftWeights > 0 {
      rows.append(("of drafts (MTP)", "\(draftWeights) weights compared, not run"))
    }
    rows += missing.map { ("left out of the result", ModelCard.cell($0.text)) }
    rows.append(("faults", "\(faults.count)"))
    for criterion in criteria.dropFirst() {
      rows.append(
        (
          ModelCard.cell("demanded of \(criterion.name)"),
          ModelCard.cell(criterion.text + (criterion.isMet ? "" : ": not met"))
        ))
    }
    if let profile = thresholds.profile { rows.append(("profile", profile.rawValue)) }
    rows.append(("verdict", verdict.text))
    rows += faults.prefix(20).map { ("fault", ModelCard.cell($0.text)) }
    rows += differences.map { ("difference", ModelCard.cell($0.text)) }
    return """
      Verified by smelt \(smeltVersion): source and result through the same forward pass, \(grouped(tokens)) tokens in windows of \(context).

      | measure | value |
      |---|---|
      \(rows.map { "| \($0.0) | \($0.1) |" }.joined(separator: "\n"))
      """
  }
}

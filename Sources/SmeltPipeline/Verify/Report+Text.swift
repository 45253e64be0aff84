// What `verify` found, for people.

import SmeltStorage

extension Report {
  /// What a person reads on the terminal.
  package var text: String {
    let worst = weights.max { $0.relativeError < $1.relativeError }
    let deepest = layers.max { $0.relativeError < $1.relativeError }
    let flips = router.min { $0.setAgreement < $1.setAgreement }
    var lines: [String] = []
    if let notRun {
      lines += ["no forward pass was run: \(notRun)", ""]
    } else {
      var table = Table(["", "source", "result"])
      table.add(["perplexity", fixed(perplexity.source, 4), fixed(perplexity.result, 4)])
      if let intervals {
        table.add([
          "95 % interval", "\(fixed(intervals.source.low, 4)) to \(fixed(intervals.source.high, 4))",
          "\(fixed(intervals.result.low, 4)) to \(fixed(intervals.result.high, 4))",
        ])
      }
      lines += [table.text, ""]
    }
    var facts = Table(["measure", "value", "meaning"])
    if notRun == nil { addAgreement(to: &facts) }
    if let activations {
      facts.add([
        "with \(activations.rounding) activations", scientific(activations.kl.mean),
        "KL, mean; top-1 \(fixed(activations.top1, 4)), perplexity \(fixed(activations.perplexity, 4))",
      ])
    }
    for row in engine?.rows ?? [] { facts.add(row) }
    if let flips {
      facts.add([
        "router, worst layer", fixed(flips.setAgreement, 4),
        "layer \(flips.layer): tokens with the same experts",
      ])
    }
    if let deepest {
      facts.add(["layer error, worst", scientific(deepest.relativeError), "layer \(deepest.layer), relative"])
    }
    if let worst { facts.add(["weight error, worst", scientific(worst.relativeError), worst.name]) }
    facts.add(["exact weights", "\(exactWeights) of \(weights.count)", "every number equal"])
    if draftWeights > 0 {
      let note = drafts.isEmpty ? "weights compared; --mtp runs their blocks" : "weights compared"
      facts.add(["of drafts (MTP)", "\(draftWeights)", note])
    }
    for draft in drafts {
      let name = drafts.count > 1 ? "MTP block \(draft.block)" : "MTP"
      facts.add([
        "\(name), accepted", "\(fixed(draft.acceptance.source, 4)) / \(fixed(draft.acceptance.result, 4))",
        "source / result: the draft is the model's most likely token",
      ])
      facts.add([
        "\(name), KL", scientific(draft.kl.mean), "drafts, source to result; top-1 \(fixed(draft.top1, 4))",
      ])
    }
    facts.add(["weights by state", "\(weights.count)", states])
    facts.add([
      "time, memory", "\(fixed(resources.seconds, 1)) s, \(byteText(resources.peakMemoryBytes))",
      "peak resident; \(resources.readText)",
    ])
    lines.append(facts.text)
    if !texts.isEmpty { lines += ["", textsTable] }
    let notes = notes
    if !notes.isEmpty { lines += [""] + notes }
    lines += ["", verdictText]
    return lines.joined(separator: "\n")
  }

  /// Whether the floor and the forced routing were measured over a part of the tokens.
  var isSampled: Bool { kl.sampleTokens < tokens }

  /// Of how many tokens these are, where not of all.
  var sampleText: String { isSampled ? ", \(grouped(kl.sampleTokens)) tokens" : "" }

  /// What a forward pass tells.
  private func addAgreement(to facts: inout Table) {
    facts.add([
      "KL, mean", scientific(kl.mean), "nats per token, source to result, \(grouped(tokens)) tokens",
    ])
    if let intervals {
      facts.add([
        "KL, 95 % interval", "\(scientific(intervals.kl.low)) to \(scientific(intervals.kl.high))",
        "of the mean, over \(grouped(intervals.windows)) windows; floor \(scientific(kl.floor))",
      ])
    }
    facts.add([
      "KL, median / p99 / max", "\(scientific(kl.median)) / \(scientific(kl.p99)) / \(scientific(kl.max))",
      "",
    ])
    facts.add([
      "KL, floor", scientific(kl.floor), "the source against itself with sums in another order\(sampleText)",
    ])
    if !router.isEmpty {
      facts.add([
        "KL, forced routing", scientific(kl.forcedRoutingMean),
        "the result on the source's expert choices\(sampleText)"
          + (isSampled ? "; \(scientific(kl.sampleMean)) on its own there" : ""),
      ])
    }
    facts.add(["top-1 agreement", fixed(top1, 4), "same most likely token"])
    facts.add(["top-5 agreement", fixed(top5, 4), "mean overlap of the five most likely"])
  }

  /// Faults, differences and weights beyond their bound, as people read them.
  var notes: [String] {
    let faulty = Set(faults.map(\.subject))
    let most = 20
    var lines = missing.map { "left out of the result: \($0.text)" }
    lines += faults.prefix(most).map { "fault: \($0.text)" }
    if faults.count > most { lines.append("and \(grouped(faults.count - most)) more faults") }
    lines += differences.filter { !faulty.contains($0.key) }.map { "difference: \($0.text)" }
    let beyond = weights.filter { $0.state == .beyond }
    lines += beyond.prefix(most).map { weight in
      printable(
        "beyond its scheme's rounding: \(weight.name), row \(weight.row?.row ?? 0) is off by \(scientific(weight.row?.found ?? 0)), rounding allows \(scientific(weight.row?.allowed ?? 0))"
      )
    }
    if beyond.count > most { lines.append("and \(grouped(beyond.count - most)) more such weights") }
    if !beyond.isEmpty {
      lines.append("the result does not say how these were made, so they are not judged")
    }
    return lines
  }

  /// How many weights are in which state, the states that there are.
  var states: String {
    WeightFindings.State.allCases.compactMap { state in
      let count = weights.count { $0.state == state }
      return count == 0 ? nil : "\(grouped(count)) \(state.rawValue)"
    }.joined(separator: ", ")
  }
}

// Several texts: what each of them says by itself, beside what they say together.

import SmeltStorage

extension Report {
  /// One of several texts.
  package struct TextFigures: Sendable {
    /// Its name: the file's, or the pattern's.
    package var name: String
    /// Names of its files, without their folders.
    package var files: [String]
    /// SHA-256 of its files end to end.
    package var hash: String
    /// Its windows among those of all texts.
    package var windows: Range<Int>
    /// Its tokens.
    package var tokens: Int
    /// Perplexities of source and result.
    package var perplexity: (source: Double, result: Double)
    /// The KL divergence; without floor and forced routing, which are measured over a sample of all texts.
    package var kl: Divergence
    /// Share of its tokens with the same most likely next token.
    package var top1: Double
    /// Mean share of the five most likely next tokens.
    package var top5: Double
    /// How sure the figures are; nil where one window or none tells.
    package var intervals: Intervals?

    /// The figures of a text's windows.
    /// - Parameter lengths: tokens of each window of all texts.
    init(_ part: Windows.Part, _ source: Making.Part, _ lengths: [Int], _ comparison: Comparison) {
      (name, windows) = (part.name, part.windows)
      (files, hash) = (source.files, source.hash)
      let before = lengths[..<part.windows.lowerBound]
      let own = lengths[part.windows]
      tokens = own.reduce(0, +)
      func losses(_ lengths: ArraySlice<Int>) -> Int { lengths.reduce(0) { $0 + max(0, $1 - 1) } }
      let rows = before.reduce(0, +)..<before.reduce(0, +) + tokens
      let predicted = losses(before)..<losses(before) + losses(own)
      func mean(_ values: ArraySlice<Double>) -> Double { values.reduce(0, +) / Double(values.count) }
      perplexity = (
        exponential(mean(comparison.sourceLosses[predicted])),
        exponential(mean(comparison.resultLosses[predicted]))
      )
      let sorted = comparison.divergences[rows].sorted()
      kl = Divergence(
        mean: mean(comparison.divergences[rows]), median: Metrics.percentile(sorted, 0.5),
        p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0)
      top1 = Double(comparison.sameTop[rows].count { $0 }) / Double(max(1, tokens))
      top5 = mean(comparison.top5[rows])
      let sums = comparison.sums(lengths)
      intervals = sums.isEmpty ? nil : Intervals(Array(sums[part.windows]))
    }

    /// For machines.
    var json: JSON {
      [
        "name": JSON(name), "files": JSON(files.map { JSON($0) }), "sha256": JSON(hash),
        "windows": JSON(windows.count), "tokens": JSON(tokens),
        "perplexity": [
          "source": JSON(perplexity.source), "result": JSON(perplexity.result),
          "interval": [
            "source": Interval.json(intervals?.source), "result": Interval.json(intervals?.result),
            "ratio": Interval.json(intervals?.ratio),
          ],
        ],
        "kl": [
          "mean": JSON(kl.mean), "median": JSON(kl.median), "p99": JSON(kl.p99), "max": JSON(kl.max),
          "interval": Interval.json(intervals?.kl),
        ],
        "top1_agreement": JSON(top1), "top5_agreement": JSON(top5),
      ]
    }
  }

  /// The texts beneath each other, and all of them together, for people.
  var textsTable: String {
    var table = Table(["text", "perplexity", "KL mean", "95 %", "top-1"])
    func add(
      _ name: String, _ perplexity: (source: Double, result: Double), _ kl: Double, _ intervals: Intervals?,
      _ top1: Double
    ) {
      table.add([
        name, "\(fixed(perplexity.source, 3)) → \(fixed(perplexity.result, 3))", scientific(kl),
        intervals.map { "\(scientific($0.kl.low)) to \(scientific($0.kl.high))" } ?? "–", fixed(top1, 4),
      ])
    }
    for text in texts { add(text.name, text.perplexity, text.kl.mean, text.intervals, text.top1) }
    add("all", perplexity, kl.mean, intervals, top1)
    return table.text
  }
}

// How far an engine's arithmetic takes a result from what was proved of it.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// Sums over tokens of a result as an engine computes it against the result as it is.
struct EngineParity {
  private(set) var divergences: [Double] = []
  private(set) var sameTop = 0
  private(set) var largest = 0.0

  /// Adds the logits of some tokens: as they are, and as the engine has them.
  mutating func add(_ a: Matrix, _ b: Matrix, _ agreements: [Metrics.Agreement]) {
    for agreement in agreements {
      divergences.append(agreement.divergence)
      sameTop += agreement.sameTop ? 1 : 0
    }
    var distance = Metrics.Distance()
    distance.add(a.values, b.values, count: min(a.values.count, b.values.count))
    largest = max(largest, distance.largest)
  }

  /// Adds what another run found of other tokens.
  mutating func add(_ divergences: [Double], sameTop: Int, largest: Double) {
    self.divergences += divergences
    self.sameTop += sameTop
    self.largest = max(self.largest, largest)
  }
}

extension Report {
  /// What `--as` found. Formats/report.md.
  package struct EngineParityReport: Sendable {
    /// The engine.
    package let engine: Engine
    /// The version whose rules were followed.
    package let version: String
    /// Weights whose numbers the engine changes.
    package let changedWeights: Int
    /// Weights that meet rounded activations there.
    package let roundedWeights: Int
    /// e^(mean negative log-likelihood) as the engine computes it.
    package let perplexity: Double
    /// The KL divergence from the source; floor and forced routing are not measured.
    package let kl: Divergence
    /// Share of tokens with the source's most likely next token.
    package let top1: Double
    /// Mean of D(result as it is ‖ result in the engine).
    package let parity: Divergence
    /// Share of tokens with the same most likely next token with and without the engine's arithmetic.
    package let parityTop1: Double
    /// The largest distance of two logits.
    package let largestLogit: Double
    /// The engine's mean divergence from the source less that of the result as it is.
    package let excess: Double

    init(_ run: EngineRun, _ comparison: Comparison, divergence: Double) {
      func divergences(_ values: [Double]) -> Divergence {
        let sorted = values.sorted()
        return Divergence(
          mean: values.reduce(0, +) / Double(max(1, values.count)), median: Metrics.percentile(sorted, 0.5),
          p99: Metrics.percentile(sorted, 0.99), max: sorted.last ?? 0)
      }
      let (rounded, own) = (comparison.rounded, comparison.parity)
      let count = Double(max(1, rounded.divergences.count))
      (engine, version) = (run.engine, run.version)
      (changedWeights, roundedWeights) = (run.changedWeights, run.roundedWeights)
      perplexity = exponential(rounded.losses.reduce(0, +) / Double(max(1, rounded.losses.count)))
      kl = divergences(rounded.divergences)
      top1 = Double(rounded.sameTop) / count
      parity = divergences(own.divergences)
      parityTop1 = Double(own.sameTop) / Double(max(1, own.divergences.count))
      largestLogit = own.largest
      excess = kl.mean - divergence
    }

    /// How people read it.
    var title: String { "\(engine.title) \(version)" }

    /// The contract's JSON.
    var json: JSON {
      func spread(_ kl: Divergence) -> JSON {
        [
          "mean": JSON(kl.mean), "median": JSON(kl.median), "p99": JSON(kl.p99), "max": JSON(kl.max),
        ]
      }
      return [
        "name": JSON(engine.rawValue), "version": JSON(version), "changed_weights": JSON(changedWeights),
        "rounded_weights": JSON(roundedWeights), "perplexity": JSON(perplexity), "kl": spread(kl),
        "top1_agreement": JSON(top1),
        "parity": [
          "kl": spread(parity), "top1_agreement": JSON(parityTop1),
          "max_logit_difference": JSON(largestLogit),
          "excess_kl": JSON(excess),
        ],
      ]
    }

    /// Rows of the table for people.
    var rows: [[String]] {
      [
        [
          "as \(engine.title)", scientific(kl.mean),
          "KL, mean; top-1 \(fixed(top1, 4)), perplexity \(fixed(perplexity, 4))",
        ],
        [
          "as \(engine.title), parity", scientific(parity.mean),
          "KL from the result as it is; \(grouped(changedWeights)) weights changed, "
            + "\(grouped(roundedWeights)) rounded inputs",
        ],
      ]
    }
  }
}

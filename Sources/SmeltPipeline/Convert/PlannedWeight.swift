// One weight of a plan.

import SmeltModels
package import SmeltQuantization
import SmeltTensors

/// One weight of a plan: how it is stored, and what it will become.
package struct PlannedWeight: Sendable {
  /// How it is stored in the source.
  package let stored: StoredWeight
  /// What will be done with it. Its importance is read when its turn comes: a plan stays small.
  package let decision: QuantizeDecision
  /// Whether the statistics have an importance for it.
  let usesImportance: Bool
  /// The schemes of tensors that hold the weight, where they have others than it.
  let parts: [String: any Scheme]
  /// Why it gets its scheme.
  package let reason: String

  init(
    stored: StoredWeight, decision: QuantizeDecision, usesImportance: Bool, reason: String,
    parts: [String: any Scheme] = [:]
  ) {
    self.stored = stored
    self.decision = decision
    self.usesImportance = usesImportance
    self.reason = reason
    self.parts = parts
  }

  /// Whether the numbers stay as they are stored.
  package var isKept: Bool { decision.scheme.keepsBytes || stored.encoding is IntegerTable }

  /// Whether the numbers stay as they are stored under a tensor's own scheme.
  func isKept(by own: (any Scheme)?) -> Bool {
    own.map { $0.keepsBytes || stored.encoding is IntegerTable } ?? isKept
  }

  /// How the result holds the weight, arrangements apart.
  var resultEncoding: any Encoding {
    isKept ? stored.encoding : decision.scheme.encoding(for: stored.encoding, shape: stored.spec.shape)
  }

  /// What the headers tell about the weight's numbers.
  var step: LedgerEntry.Step {
    isKept || !decision.scheme.isLossy ? .exact : mayBeExact ? .mayBeExact : .rounded
  }

  /// Whether every value may turn out to be stored exactly, which only the data can tell: a source with few bits, the
  /// result's own encoding, or numbers that may once have come from the result's grid.
  private var mayBeExact: Bool {
    let (scheme, source, result) = (decision.scheme, stored.encoding, resultEncoding)
    return !scheme.choosesScales || source is FP4 || source.isBlockFP4
      || (source is FP8 || source is NVFP4) && result is FP8 || source is NVFP4 && result is NVFP4
      || scheme is BlockScheme || scheme is MXFP4Scheme || result.name == source.name
  }
}

extension Encoding {
  /// Whether this is GGUF's MXFP4: codes and scales in blocks.
  var isBlockFP4: Bool { (self as? GGUFBlock)?.kind == .mxfp4 }
}

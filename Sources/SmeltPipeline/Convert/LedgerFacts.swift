// What reading the source adds to a plan's ledger.

import SmeltModels

/// A plan's ledger, and what reading the source adds to it slab by slab.
struct LedgerFacts {
  private(set) var ledger: [LedgerEntry]
  private let plan: Plan
  /// The entry of each weight that is in the result.
  private let places: [String: Int]

  init(_ plan: Plan) {
    self.plan = plan
    ledger = plan.ledger
    places = Dictionary(
      plan.ledger.enumerated().filter { $1.fate == .converted || $1.isKept }.map { ($1.weight ?? "", $0) },
      uniquingKeysWith: { first, _ in first })
  }

  /// Adds what a slab told of its weights.
  mutating func add(_ facts: SlabFacts, of slab: OutputMatrix) {
    for (place, hash) in zip([slab.weight, slab.other].compactMap({ $0 }), facts.sourceHashes) {
      let stored = plan.weights[place].stored
      guard let entry = places[stored.spec.name.description] else { continue }
      ledger[entry].inexactValues =
        (ledger[entry].inexactValues ?? 0) + (stored.prepared?.inexactValues ?? facts.inexactValues)
      ledger[entry].sourceHash = hash
    }
  }
}

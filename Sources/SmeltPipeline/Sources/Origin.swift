// Where a result says it comes from: read back from what a conversion wrote into it, so that a verification knows what it may
// hold the result to.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

/// What a result says about its making; nil for results that another program wrote.
struct Origin: Sendable {
  /// The source's container, files and hashes.
  private let source: JSON?
  /// The method, where numbers were moved on purpose.
  let method: JSON?
  /// The recipe.
  let recipe: JSON?
  /// What became of each weight, where the result carries its ledger.
  private let fates: [String: String]
  /// The errors that a method left, where they are carried.
  let errors: WeightErrors?

  /// Reads it.
  /// - Throws: `STAT_FORMAT` for errors of weights that cannot be read.
  init?(_ result: Model) throws {
    let recorded = try result.source.recordedOrigin()
    var fates: [String: String] = [:]
    for entry in recorded.ledger?["ledger"]?.array ?? [] {
      guard let weight = entry["weight"]?.string, let fate = entry["fate"]?.string,
        fate != LedgerEntry.Fate.joined.rawValue
      else { continue }
      // What was converted without a loss must be equal as what was copied.
      fates[weight] =
        entry["exact"]?.bool == true || fate == LedgerEntry.Fate.carried.rawValue
        ? LedgerEntry.Fate.copied.rawValue : fate
    }
    guard let provenance = recorded.provenance, provenance["tool"]?.string != nil else { return nil }
    source = provenance["source"]
    method = provenance["method"].flatMap { $0.isNull ? nil : $0 }
    recipe = provenance["recipe"]
    self.fates = fates
    errors = try recorded.errors.map { try WeightErrors($0, file: WeightErrors.fileName) }
  }

  /// Whether a model is the source that the result was made from, as far as names, sizes and hashes say, and whether the
  /// result tells enough to hold every row to its bound.
  func isComplete(for model: Model) -> Bool { isMade(from: model) && (method == nil || errors != nil) }

  /// Whether a model is the source that the result was made from.
  func isMade(from model: Model) -> Bool {
    guard source?["container"]?.string == model.containerName else { return false }
    if let hash = model.source.contentHash { return source?["content_hash"]?.string == hash }
    let named = (source?["files"]?.array ?? []).map {
      "\($0["name"]?.string ?? "") \($0["bytes"]?.integer ?? -1)"
    }
    return named == model.files.map { "\(fileName($0.path)) \($0.byteCount)" }
  }

  /// SHA-256 of the list of the source's tensors with their hashes, where it was recorded.
  var sourceHash: String? { source?["sha256"]?.string }

  /// What the ledger says became of a weight, `copied` too where no number changed; nil without a ledger entry.
  func fate(_ weight: String) -> String? { fates[weight] }

  /// The share of a row's numbers that observers of the recipe leave outside the range of the codes.
  var clippedShare: Double {
    let names = [recipe?["observer"]] + (recipe?["rules"]?.array ?? []).map { $0["observer"] }
    let shares = names.compactMap { $0?.string }.map { name -> Double in
      guard case .percentile(let p)? = try? Observer.named(name) else { return 0 }
      return 1 - p / 100
    }
    return shares.max() ?? 0
  }
}

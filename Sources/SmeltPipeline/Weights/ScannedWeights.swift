// Which weights of a source were scanned, and what a scan refuses.

import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// Which weights were scanned and found sound. A weight that was refused is scanned, and refused, again.
final class ScannedWeights: Sendable {
  private let names: Mutex<Set<WeightName>> = Mutex([])

  /// Calls `scan` unless it was called for this name and threw nothing.
  func once(_ name: WeightName, _ scan: () throws -> Void) throws {
    guard names.withLock({ $0.insert(name).inserted }) else { return }
    do {
      try scan()
    } catch {
      names.withLock { _ = $0.remove(name) }
      throw error
    }
  }
}

extension Weight {
  /// Refuses codes and scales that are no finite numbers, and tables that name experts that the model does not have.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `CFG_VALUE`.
  func validate(for spec: WeightSpec?, of family: any ModelFamily) throws {
    try validate()
    guard let spec, spec.role == .hashTable else { return }
    let experts = family.dimensions.experts
    let ids = try integers()
    guard let bad = ids.firstIndex(where: { !(0..<experts).contains($0) }) else { return }
    throw FormatError(
      .configValue, file: file, subject: name,
      "row \(bad / columns), column \(bad % columns) is expert \(ids[bad]), expected 0 to \(experts - 1)")
  }
}

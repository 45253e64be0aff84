// Weights whose published order is not ours, once they were put in order: the few that are in use.

import SmeltModels
import SmeltTensors

internal import Synchronization

/// Weights that were put in order, the last few of them: a pass asks for the same one several times, and a conversion for
/// each of its pieces.
final class BuiltWeights: Sendable {
  /// Bytes kept at most, the newest weight aside.
  static let limit = 64 << 20

  private let kept: Mutex<[(name: WeightName, weight: Weight)]> = Mutex([])

  func find(_ name: WeightName) -> Weight? {
    kept.withLock { kept in kept.first { $0.name == name }?.weight }
  }

  func keep(_ name: WeightName, _ weight: Weight) {
    kept.withLock { kept in
      guard !kept.contains(where: { $0.name == name }) else { return }
      kept.append((name, weight))
      var total = kept.reduce(0) { $0 + $1.weight.byteCount }
      while total > BuiltWeights.limit, kept.count > 1 { total -= kept.removeFirst().weight.byteCount }
    }
  }

  func remove(_ name: WeightName) { kept.withLock { kept in kept.removeAll { $0.name == name } } }
}

// Weights by what they do, and by expert: errors and bytes summed up, so that a report of any model stays short.

import SmeltModels
import SmeltStorage

extension Report {
  /// The weights of one role.
  package struct RoleError: Sendable {
    /// The role, as recipes call it.
    package var role: String
    /// How many weights.
    package var weights = 0
    /// How many numbers.
    package var elements = 0
    /// Bytes of their codes and scales in the source, before any compression of the container.
    package var sourceBytes = 0
    /// The same in the result.
    package var resultBytes = 0
    /// √(Σ (a − b)² / Σ a²) over all numbers of the role.
    package var relativeError = 0.0
    /// The largest relative error of one weight.
    package var largest = 0.0

    /// For machines.
    var json: JSON {
      [
        "role": JSON(role), "weights": JSON(weights), "elements": JSON(elements),
        "source_bytes": JSON(sourceBytes), "result_bytes": JSON(resultBytes),
        "relative_error": JSON(relativeError), "max_relative_error": JSON(largest),
      ]
    }
  }

  /// The routed experts of one layer.
  package struct ExpertError: Sendable {
    /// The layer.
    package var layer: Int
    /// √(Σ (a − b)² / Σ a²) over an expert's matrices, one number an expert; nil for one without weights.
    package var relativeErrors: [Double?]

    /// For machines.
    var json: JSON {
      [
        "layer": JSON(layer),
        "relative_error": JSON(relativeErrors.map { $0.map { JSON($0) } ?? JSON(.null) }),
      ]
    }
  }

  /// By role, in the order in which roles are known; those that weights have.
  package var roles: [RoleError] {
    var sums: [Role: (role: RoleError, squares: Double, energy: Double)] = [:]
    for weight in weights {
      var own = sums[weight.role] ?? (RoleError(role: weight.role.rawValue), 0, 0)
      own.role.weights += 1
      own.role.elements += weight.elements
      own.role.sourceBytes += weight.sourceBytes
      own.role.resultBytes += weight.resultBytes
      if !own.role.largest.isNaN, !(weight.relativeError <= own.role.largest) {
        own.role.largest = weight.relativeError
      }
      own.squares += weight.squares
      own.energy += weight.energy
      sums[weight.role] = own
    }
    return Role.allCases.compactMap { role in
      sums[role].map { sum in
        var own = sum.role
        own.relativeError = relative(sum.squares, sum.energy)
        return own
      }
    }
  }

  /// By layer with routed experts, and in it by expert.
  package var experts: [ExpertError] {
    var sums: [Int: [Int: (squares: Double, energy: Double)]] = [:]
    for weight in weights {
      guard let layer = weight.layer, weight.role.isRouted,
        let expert = WeightName(parsing: weight.name).expert
      else { continue }
      let own = sums[layer]?[expert] ?? (0, 0)
      sums[layer, default: [:]][expert] = (own.squares + weight.squares, own.energy + weight.energy)
    }
    return sums.keys.sorted().map { layer in
      let own = sums[layer] ?? [:]
      return ExpertError(
        layer: layer,
        relativeErrors: (0...(own.keys.max() ?? 0)).map { expert in
          own[expert].map { relative($0.squares, $0.energy) }
        })
    }
  }

  private func relative(_ squares: Double, _ energy: Double) -> Double {
    squares == 0 ? 0 : (squares / max(energy, 1e-300)).squareRoot()
  }

  /// Bits of a weight's number on average over all weights that were compared, codes and scales: of the source and of the result.
  package var bitsPerWeight: (source: Double, result: Double) {
    let elements = Double(max(1, weights.reduce(0) { $0 + $1.elements }))
    return (
      8 * Double(weights.reduce(0) { $0 + $1.sourceBytes }) / elements,
      8 * Double(weights.reduce(0) { $0 + $1.resultBytes }) / elements
    )
  }
}

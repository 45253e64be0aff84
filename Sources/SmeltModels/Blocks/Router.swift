// Routers: every scoring and selection rule, one function each. A bias chooses, it never weighs.

import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Scoring and selection rules.
enum Router {
  /// sqrt(ln(1 + e^x)), in double precision. Source: DeepSeek-V4's `sqrtsoftplus`.
  static func sqrtSoftplus(_ x: Float) -> Float {
    let x = Double(x)
    return Float((x > 20 ? x : log1p(exp(x))).squareRoot())
  }

  /// The ids of the `count` largest values, ascending by id. Of equal values the lower id is taken first.
  static func largest(_ values: UnsafeBufferPointer<Float>, count: Int) -> [Int32] {
    var chosen: [Int32] = []
    chosen.reserveCapacity(count + 1)
    for index in 0..<values.count {
      if chosen.count == count, !(values[index] > values[Int(chosen[count - 1])]) { continue }
      var place = chosen.count
      while place > 0, values[index] > values[Int(chosen[place - 1])] { place -= 1 }
      chosen.insert(Int32(index), at: place)
      if chosen.count > count { chosen.removeLast() }
    }
    return chosen.sorted()
  }

  /// Experts and factors of all tokens: factors are the unbiased scores of the chosen, normalized to a sum of 1 where
  /// asked, times the scaling factor.
  /// - Parameters:
  ///   - scores: [tokens, experts].
  ///   - choose: the experts of a token, ascending.
  static func route(
    _ scores: Matrix, perToken: Int, normalize: Bool, scaling: Float, choose: (Int) -> [Int32]
  ) -> Routing {
    var experts: [Int32] = []
    var weights: [Float] = []
    experts.reserveCapacity(scores.rows * perToken)
    weights.reserveCapacity(scores.rows * perToken)
    for token in 0..<scores.rows {
      let chosen = choose(token)
      let own = chosen.map { scores.values[token * scores.columns + Int($0)] }
      let sum = normalize ? own.reduce(0, +) + 1e-20 : 1
      experts += chosen
      weights += own.map { $0 / sum * scaling }
    }
    return Routing(perToken: perToken, experts: experts, weights: weights)
  }
}

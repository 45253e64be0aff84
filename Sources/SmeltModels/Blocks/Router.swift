// Routers: every scoring and selection rule. A bias chooses, it never weighs.
// Sources: the reference code of each family; DeepSeek-AI, "DeepSeek-V3 Technical Report" (2024) for groups.

import SmeltStorage
import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How a router turns logits into experts and factors.
struct Router: Sendable {
  /// What a logit becomes before anything is chosen.
  enum Score: Sendable {
    /// Softmax over all experts.
    case softmax
    /// 1 / (1 + e^-x).
    case sigmoid
    /// sqrt(ln(1 + e^x)).
    case sqrtSoftplus
    /// The logit itself.
    case identity
  }

  /// How a group of experts is scored where only some groups may be chosen from.
  enum GroupScore: Sendable {
    /// By its largest score.
    case largest
    /// By the sum of its two largest.
    case twoLargest
  }

  /// What happens to the chosen scores before scaling.
  enum Weighting: Sendable {
    /// Nothing.
    case plain
    /// Divided by their sum + 1e-20.
    case normalized
    /// A softmax over the chosen.
    case softmax
  }

  var score: Score
  /// Consecutive groups, of which `keptGroups` are chosen from; 1 for no groups.
  var groups = 1
  var keptGroups = 1
  var groupScore = GroupScore.twoLargest
  var perToken: Int
  var weighting: Weighting
  var scaling: Float = 1

  /// Experts and factors of all tokens.
  /// - Parameters:
  ///   - logits: [tokens, experts].
  ///   - bias: added to the scores to choose; nil for none.
  ///   - given: the experts of each token where they are not chosen by score, ascending; nil where they are.
  func route(
    _ logits: Matrix, bias: [Float]?, parallel: Parallel = .serial, given: (@Sendable (Int) -> [Int32])? = nil
  ) -> Routing {
    var experts = [Int32](repeating: 0, count: logits.rows * perToken)
    var weights = [Float](repeating: 0, count: logits.rows * perToken)
    // SAFETY: a task writes the `perToken` places of its own tokens; `choose` and `given` give that many experts.
    experts.withUnsafeMutableBufferPointer { experts in
      weights.withUnsafeMutableBufferPointer { weights in
        guard let first = experts.baseAddress, let factor = weights.baseAddress else { return }
        let (ids, values) = (SharedPointer(first), SharedPointer(factor))
        eachToken(logits.rows, parallel) { token in
          let scores = scores(logits[token])
          let chosen = given?(token) ?? choose(scores, bias)
          let own = factors(chosen.map { scores[Int($0)] })
          for place in 0..<perToken {
            ids.pointer[token * perToken + place] = chosen[place]
            values.pointer[token * perToken + place] = own[place]
          }
        }
      }
    }
    return Routing(perToken: perToken, experts: experts, weights: weights)
  }

  /// The scores of one token's logits; transcendental functions in double precision.
  func scores(_ logits: ArraySlice<Float>) -> [Float] {
    switch score {
    case .softmax: Router.softmax(Array(logits))
    case .sigmoid: logits.map { Float(1 / (1 + exp(-Double($0)))) }
    case .sqrtSoftplus: logits.map(Router.sqrtSoftplus)
    case .identity: Array(logits)
    }
  }

  /// The experts of one token, ascending. Of equal scores the lower id is taken.
  func choose(_ scores: [Float], _ bias: [Float]?) -> [Int32] {
    var biased = scores
    if let bias { for index in biased.indices { biased[index] += bias[index] } }
    if groups > 1, keptGroups < groups {
      let width = biased.count / groups
      let groupScores = (0..<groups).map { group in
        let two = biased[group * width..<(group + 1) * width].sorted(by: >).prefix(
          groupScore == .largest ? 1 : 2)
        return two.reduce(0, +)
      }
      let kept = groupScores.withUnsafeBufferPointer { Router.largest($0, count: keptGroups) }
      for index in biased.indices where !kept.contains(Int32(index / width)) { biased[index] = -.infinity }
    }
    return biased.withUnsafeBufferPointer { Router.largest($0, count: perToken) }
  }

  private func factors(_ own: [Float]) -> [Float] {
    switch weighting {
    case .plain: return own.map { $0 * scaling }
    case .normalized:
      let sum = own.reduce(0, +) + 1e-20
      return own.map { $0 / sum * scaling }
    case .softmax: return Router.softmax(own).map { $0 * scaling }
    }
  }

  // MARK: formulas

  /// e^(x - max) / Σ e^(x - max), in double precision.
  static func softmax(_ logits: [Float]) -> [Float] {
    let top = Double(logits.max() ?? 0)
    let powers = logits.map { exp(Double($0) - top) }
    let sum = powers.reduce(0, +)
    return powers.map { Float($0 / sum) }
  }

  /// sqrt(ln(1 + e^x)), in double precision. Source: DeepSeek-V4's `sqrtsoftplus`.
  static func sqrtSoftplus(_ x: Float) -> Float {
    Float(softplus(Double(x)).squareRoot())
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
}

// Tokens for experts that the router gave too few: those that came nearest to being sent there are run through them.

import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// Weights that keep what the router of a layer is multiplied with, and what comes out.
final class RouterTap<Base: Weights>: ForwardingWeights {
  let base: Base
  private let seen = Mutex<(inputs: Matrix, logits: Matrix)?>(nil)

  private let routers: Set<WeightName>

  init(_ base: Base, of family: some ModelFamily) {
    self.base = base
    // A shared expert's gate steers too, and chooses nothing.
    let experts = family.dimensions.experts
    routers = Set(family.weights.lazy.filter { $0.role == .router && $0.shape.rows == experts }.map(\.name))
  }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    let logits = try base.multiply(x, name, rows: rows, parallel: parallel)
    if routers.contains(name) {
      seen.withLock { seen in
        seen?.inputs.append(x)
        seen?.logits.append(logits)
        seen = seen ?? (x, logits)
      }
    }
    return logits
  }

  /// Inputs and logits of the tokens since the last call, one row a token.
  func drain() -> (inputs: Matrix, logits: Matrix)? {
    seen.withLock { seen in
      defer { seen = nil }
      return seen
    }
  }
}

/// For each expert of a layer that has too few tokens so far, the tokens that went elsewhere and came nearest.
///
/// Near is what has a large share in the softmax over the router's logits, whatever the family makes of them; of equal
/// shares the earlier token. The inputs of tokens stay in memory where all tokens are one group; of several groups they
/// wait in a file, so that memory does not grow with the experts.
struct NearestTokens {
  private struct Candidate {
    var score: Double
    var token: Int
  }

  private let wanted: Int
  private let scratch: ScratchFile?
  private var held: Matrix?
  private var columns = 0
  private var counts: [Int]
  private var nearest: [[Candidate]]

  /// Nothing seen yet.
  /// - Parameters:
  ///   - wanted: tokens that an expert should have; 0 looks for none.
  ///   - scratch: where inputs wait; nil when one group is all there is.
  init(experts: Int, wanted: Int, scratch: ScratchFile?) {
    self.wanted = wanted
    self.scratch = scratch
    counts = [Int](repeating: 0, count: experts)
    nearest = [[Candidate]](repeating: [], count: experts)
  }

  /// Looks at a group of tokens, `first` of which came before.
  mutating func add(_ routing: Routing, _ seen: (inputs: Matrix, logits: Matrix), first: Int) throws {
    for expert in routing.experts { counts[Int(expert)] += 1 }
    let starved = counts.indices.filter { counts[$0] < wanted }
    guard !starved.isEmpty else { return }
    columns = seen.inputs.columns
    if let scratch {
      try seen.inputs.values.withUnsafeBytes { try scratch.write($0, at: first * columns * 4) }
    } else {
      held = seen.inputs
    }
    let experts = seen.logits.columns
    let sums = (0..<seen.logits.rows).map { token in Metrics.withRow(seen.logits, token, Metrics.logSumExp) }
    for expert in starved {
      var best = nearest[expert]
      for token in 0..<seen.logits.rows {
        let score = Double(seen.logits.values[token * experts + expert]) - sums[token]
        if best.count == wanted, !(score > best[wanted - 1].score) { continue }
        let chosen = routing.experts[token * routing.perToken..<(token + 1) * routing.perToken]
        guard !chosen.contains(Int32(expert)) else { continue }
        var place = best.count
        while place > 0, score > best[place - 1].score { place -= 1 }
        best.insert(Candidate(score: score, token: first + token), at: place)
        if best.count > wanted { best.removeLast() }
      }
      nearest[expert] = best
    }
  }

  /// The inputs to run through an expert, in the order of the tokens: as many as it lacks, or as there are; nil for none.
  func replay(_ expert: Int) throws -> Matrix? {
    let tokens = nearest[expert].prefix(max(0, wanted - counts[expert])).map(\.token).sorted()
    guard !tokens.isEmpty else { return nil }
    guard let scratch else { return held?.gather(tokens) }
    return try scratch.rows(tokens, columns: columns)
  }
}

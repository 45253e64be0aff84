// Tokens for experts that the router gave too few: those that came nearest to being sent there are run through them.

import SmeltModels
import SmeltStorage
import SmeltTensors

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Weights that keep what the router of a layer is multiplied with, and what comes out.
final class RouterTap<Base: Weights>: Weights {
  private let base: Base
  private let seen = Mutex<(inputs: Matrix, logits: Matrix)?>(nil)

  init(_ base: Base) { self.base = base }

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }
  func finished(_ name: WeightName) { base.finished(name) }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    let logits = try base.multiply(x, name, rows: rows, parallel: parallel)
    if name.base.hasSuffix(".ffn_gate_inp.weight") {
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
/// shares the earlier token. A row is held once however many experts want it; at most `wanted` rows an expert.
struct NearestTokens {
  private struct Candidate {
    var score: Double
    var token: Int
    var row: [Float]
  }

  private let wanted: Int
  private var counts: [Int]
  private var nearest: [[Candidate]]

  init(experts: Int, wanted: Int) {
    self.wanted = wanted
    counts = [Int](repeating: 0, count: experts)
    nearest = [[Candidate]](repeating: [], count: experts)
  }

  /// Looks at a group of tokens, `first` of which came before.
  mutating func add(_ routing: Routing, _ seen: (inputs: Matrix, logits: Matrix), first: Int) {
    for expert in routing.experts { counts[Int(expert)] += 1 }
    let starved = counts.indices.filter { counts[$0] < wanted }
    for expert in counts.indices where counts[expert] >= wanted { nearest[expert] = [] }
    guard !starved.isEmpty else { return }
    var rows: [Int: [Float]] = [:]
    let experts = seen.logits.columns
    let sums = (0..<seen.logits.rows).map { token in
      seen.logits.values.withUnsafeBufferPointer {
        Metrics.logSumExp(UnsafeBufferPointer(rebasing: $0[token * experts..<(token + 1) * experts]))
      }
    }
    for expert in starved {
      var best = nearest[expert]
      for token in 0..<seen.logits.rows {
        let score = Double(seen.logits.values[token * experts + expert]) - sums[token]
        if best.count == wanted, !(score > best[wanted - 1].score) { continue }
        let chosen = routing.experts[token * routing.perToken..<(token + 1) * routing.perToken]
        guard !chosen.contains(Int32(expert)) else { continue }
        var place = best.count
        while place > 0, score > best[place - 1].score { place -= 1 }
        best.insert(Candidate(score: score, token: first + token, row: []), at: place)
        if best.count > wanted { best.removeLast() }
      }
      for place in best.indices where best[place].row.isEmpty {
        let token = best[place].token - first
        let row = rows[token] ?? Array(seen.inputs[token])
        rows[token] = row
        best[place].row = row
      }
      nearest[expert] = best
    }
  }

  /// The rows to run through each starved expert, in the order of the tokens: as many as it lacks, or as there are.
  func replays() -> [(expert: Int, rows: Matrix)] {
    nearest.indices.compactMap { expert in
      let lacking = nearest[expert].prefix(max(0, wanted - counts[expert])).sorted { $0.token < $1.token }
      guard let columns = lacking.first?.row.count else { return nil }
      return (expert, Matrix(rows: lacking.count, columns: columns, values: lacking.flatMap(\.row)))
    }
  }
}

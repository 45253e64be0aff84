// Latent attention and its indexer against the formulas in double precision, and the ways a batch is cut into parts.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels

/// Float32 sums of some dozen terms, softmax included.
private let bound = 1e-5

/// The formulas, one token and head after the other.
private struct SlowAttention {
  let a: LatentAttention
  let weights: MemoryWeights
  let name = LayerName(layer: 0)

  func values(_ part: String, _ suffix: String = "weight") throws -> [Float] {
    try weights.vector(name(part, suffix: suffix))
  }

  func linear(_ x: [Double], _ part: String) throws -> [Double] {
    let y = Slow.product(x, try values(part))
    guard a.hasBiases, ["attn_q_a", "attn_kv_a_mqa", "attn_output"].contains(part) else { return y }
    return zip(y, try values(part, "bias")).map { $0 + Double($1) }
  }

  func turned(_ x: ArraySlice<Double>, _ position: Int, _ pairing: RotaryPairing) -> [Double] {
    var x = Array(x)
    let pairs = a.rope.frequencies.count
    for pair in 0..<pairs {
      let angle = Double(Float(position) * a.rope.frequencies[pair])
      let c = Slow.cosine(angle) * Double(a.rope.magnitude)
      let s = Slow.sine(angle) * Double(a.rope.magnitude)
      let (i, j) = pairing == .interleaved ? (2 * pair, 2 * pair + 1) : (pair, pair + pairs)
      (x[i], x[j]) = (x[i] * c - x[j] * s, x[j] * c + x[i] * s)
    }
    return x
  }

  func run(_ tokens: [[Double]]) throws -> [[Double]] {
    let (nd, rd, vd, r) = (a.plainWidth, a.rotaryWidth, a.valueWidth, a.latentWidth)
    var keys: [[[Double]]] = []
    var values: [[[Double]]] = []
    var indexKeys: [[Double]] = []
    var out: [[Double]] = []
    for (t, h) in tokens.enumerated() {
      var latent = h
      if a.queryRank != nil {
        latent = Slow.rms(try linear(h, "attn_q_a"), try self.values("attn_q_a_norm"), 1e-6)
      }
      let q = try linear(latent, a.queryRank == nil ? "attn_q" : "attn_q_b")
      let joint = try linear(h, "attn_kv_a_mqa")
      let shared = turned(joint[r...], t, a.pairing)
      let both = try linear(
        Slow.rms(Array(joint[..<r]), try self.values("attn_kv_a_norm"), 1e-6), "attn_kv_b")
      keys.append((0..<a.heads).map { Array(both[$0 * (nd + vd)..<$0 * (nd + vd) + nd]) + shared })
      values.append((0..<a.heads).map { Array(both[$0 * (nd + vd) + nd..<($0 + 1) * (nd + vd)]) })
      let seen = try picked(h, latent, t, &indexKeys)
      var mixed: [Double] = []
      for n in 0..<a.heads {
        let head = q[n * (nd + rd)..<(n + 1) * (nd + rd)]
        let query = Array(head.prefix(nd)) + turned(head.suffix(rd), t, a.pairing)
        let powers = seen.map { Slow.exponential(Slow.dot(query, keys[$0][n]) * Double(a.scale)) }
        let sum = powers.reduce(0, +)
        mixed += (0..<vd).map { channel in
          zip(powers, seen).reduce(0.0) { $0 + $1.0 / sum * values[$1.1][n][channel] }
        }
      }
      out.append(try linear(mixed, "attn_output"))
    }
    return out
  }

  /// The positions token t sees.
  private func picked(_ h: [Double], _ latent: [Double], _ t: Int, _ keys: inout [[Double]]) throws -> [Int] {
    guard let indexer = a.indexer else { return Array(0...t) }
    let d = indexer.width
    let raw = try linear(h, "indexer.attn_k")
    let mean = raw.reduce(0, +) / Double(d)
    let variance = raw.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(d)
    let (scale, shift) = (try values("indexer.k_norm"), try values("indexer.k_norm", "bias"))
    let key = raw.indices.map {
      (raw[$0] - mean) / (variance + 1e-6).squareRoot() * Double(scale[$0]) + Double(shift[$0])
    }
    keys.append(turned(key[...], t, .halves))
    let queries = try linear(latent, "indexer.attn_q_b")
    let factors = try linear(h, "indexer.proj")
    let scores = (0...t).map { s in
      (0..<indexer.heads).reduce(0.0) { sum, n in
        let query = turned(queries[n * d..<(n + 1) * d], t, .halves)
        let dot = Slow.dot(query, keys[s]) / Double(d).squareRoot()
        return sum + factors[n] / Double(indexer.heads).squareRoot() * max(dot, 0)
      }
    }
    return scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(indexer.keep).sorted()
  }
}

private let variants: [(String, [(String, JSON?)])] = [
  ("deepseek_v2", [("q_lora_rank", nil)]), ("deepseek_v3", []),
  ("deepseek_v3", [("rope_interleave", false), ("attention_bias", true)]),
  (
    "deepseek_v3",
    [
      (
        "rope_scaling",
        [
          "type": "yarn", "factor": 8, "original_max_position_embeddings": 16, "mscale": 0.5,
          "mscale_all_dim": 1,
        ]
      )
    ]
  ), ("deepseek_v32", []), ("deepseek_v32", [("index_topk", 1)]),
]

@Suite struct LatentAttentionTests {
  @Test(arguments: variants.indices)
  func followsTheFormula(variant: Int) throws {
    let family = try LatentConfig(variants[variant].0, variants[variant].1).read()
    let attention = family.decoder.attention
    let weights = try randomWeights(family, seed: 50 + UInt64(variant))
    var generator = Generator(seed: 60)
    let lengths = [1, 9, 6, 17]
    let batch = TokenBatch(lengths.map { [Int](repeating: 0, count: $0) })
    let x = Matrix(rows: batch.count, columns: 24, values: generator.normals(batch.count * 24))
    let found = try attention.apply(x, batch, LayerName(layer: 0), weights, Pass(parallel: .allCores))
    let slow = SlowAttention(a: attention, weights: weights)
    for sequence in lengths.indices {
      let rows = batch.range(sequence)
      for (token, expected) in zip(rows, try slow.run(rows.map { Slow.doubles(x[$0]) })) {
        #expect(distance(found[token], expected) < bound, "token \(token) of sequence \(sequence)")
      }
    }
  }

  /// One sequence over several parts, between short ones, gives the bits it gives alone, and those of long steps. Single steps take
  /// the absorbed form, whose sums have another order.
  @Test(arguments: ["deepseek_v2", "deepseek_v32"])
  func longSequencesAreRunInParts(type: String) throws {
    let family = try LatentConfig(type).read()
    let attention = family.decoder.attention
    let weights = try randomWeights(family, seed: 70)
    var generator = Generator(seed: 71)
    let lengths = [3, tokenChunk + 5, 7]
    let batch = TokenBatch(lengths.map { [Int](repeating: 0, count: $0) })
    let x = Matrix(rows: batch.count, columns: 24, values: generator.normals(batch.count * 24))
    let name = LayerName(layer: 0)
    let all = try attention.apply(x, batch, name, weights, Pass(parallel: .allCores))
    for sequence in lengths.indices {
      let rows = x[batch.range(sequence)]
      let state = DecodingState()
      var steps = Matrix(rows: 0, columns: 24)
      while state.position < rows.rows {
        let end = min(rows.rows, state.position + (state.position < tokenChunk - 2 ? 341 : 1))
        let part = TokenBatch(
          [[Int](repeating: 0, count: end - state.position)], firstPosition: state.position)
        let pass = Pass(parallel: .serial, state: state)
        steps.append(try attention.apply(rows[state.position..<end], part, name, weights, pass))
        state.advance(end - state.position)
      }
      let expected = all[batch.range(sequence)]
      let long = rows.rows < tokenChunk ? rows.rows : 3 * 341
      #expect(steps[0..<long].values == expected[0..<long].values)
      #expect(distance(steps.values[...], expected.values.map { Double($0) }) < bound)
    }
  }

  /// Steps of a few tokens over what is kept of those before, on one thread and on several, against the formula.
  @Test(arguments: variants.indices) func fewTokensFollowTheFormula(variant: Int) throws {
    let family = try LatentConfig(variants[variant].0, variants[variant].1).read()
    let attention = family.decoder.attention
    let weights = try randomWeights(family, seed: 80 + UInt64(variant))
    var generator = Generator(seed: 81)
    let x = Matrix(rows: 31, columns: 24, values: generator.normals(31 * 24))
    let slow = try SlowAttention(a: attention, weights: weights).run((0..<31).map { Slow.doubles(x[$0]) })
    var found: [[Float]] = []
    for parallel in [Parallel.serial, Parallel(threads: 3)] {
      let state = DecodingState()
      var steps = Matrix(rows: 0, columns: 24)
      // Nine tokens behind others are many, and see what was kept expanded again.
      for count in [2, 1, 1, 3, 9, 8, 1, 5, 1] {
        let range = state.position..<state.position + count
        let part = TokenBatch([[Int](repeating: 0, count: count)], firstPosition: state.position)
        steps.append(
          try attention.apply(
            x[range], part, LayerName(layer: 0), weights, Pass(parallel: parallel, state: state)))
        state.advance(count)
      }
      for token in 0..<31 { #expect(distance(steps[token], slow[token]) < bound, "token \(token)") }
      found.append(steps.values)
    }
    #expect(found[0] == found[1], "threads change no bit")
  }

  @Test func partsOfABatch() {
    func parts(_ lengths: [Int], _ limit: Int) -> [String] {
      let batch = TokenBatch(lengths.map { [Int](repeating: 0, count: $0) })
      return batch.parts(of: limit).map {
        "\($0.rows) \($0.batch.starts) \($0.batch.firstPosition) \($0.isFirst) \($0.isWhole)"
      }
    }
    #expect(parts([], 4) == [])
    #expect(parts([4], 4) == ["0..<4 [0, 4] 0 true true"])
    #expect(parts([1, 2, 2], 4) == ["0..<3 [0, 1, 3] 0 true true", "3..<5 [0, 2] 0 true true"])
    #expect(
      parts([3, 9, 1], 4) == [
        "0..<3 [0, 3] 0 true true", "3..<7 [0, 4] 0 true false", "7..<11 [0, 4] 4 false false",
        "11..<12 [0, 1] 8 false false", "12..<13 [0, 1] 0 true true",
      ])
  }

  @Test func layerNormalization() {
    var x: [Float] = [1, 2, 3, 6]
    x.withUnsafeMutableBufferPointer { TokenIndexer.normalize($0, [1, 1, 1, 2], [0, 0, 0.5, 0]) }
    // Mean 3, variance 3.5.
    let root = 3.5.squareRoot()
    #expect(distance(x, [-2 / root, -1 / root, 0.5, 6 / root]) < 1e-6)
  }
}

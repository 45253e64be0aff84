// SwiGLU experts over many tokens: gather the tokens of one expert, multiply them as one matrix, scatter back. One
// expert's weights are needed at a time.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// Tokens whose intermediate activations exist at once.
let tokenChunk = 1024

/// The three matrices of an expert.
struct ExpertNames {
  let gate, up, down: WeightName
}

/// SwiGLU experts, routed and shared.
enum Experts {
  /// down · (silu(min(gate · x, limit)) × clamp(up · x, ±limit)), [tokens, hidden]. An infinite limit clamps nothing.
  static func swiglu(
    _ x: Matrix, _ names: ExpertNames, limit: Float, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    var inner = try weights.multiply(x, names.gate, rows: nil, parallel: pass.parallel)
    let up = try weights.multiply(x, names.up, rows: nil, parallel: pass.parallel)
    let width = inner.columns
    let tokens = inner.rows
    inner.values.withUnsafeMutableBufferPointer { gate in
      guard let base = gate.baseAddress else { return }
      let target = SharedPointer(base)
      eachToken(tokens, pass.parallel) { token in
        up.values.withUnsafeBufferPointer { up in
          let row = target.pointer + token * width
          sk_swiglu(row, up.baseAddress! + token * width, limit, row, width)
        }
      }
    }
    return try weights.multiply(inner, names.down, rows: nil, parallel: pass.parallel)
  }

  /// Adds factor × expert(x) to `out` for the tokens of one expert, a chunk of tokens at a time.
  static func add(
    to out: inout Matrix, _ x: Matrix, tokens: [Int], factors: [Float], _ names: ExpertNames, limit: Float,
    _ weights: some Weights, _ pass: Pass
  ) throws {
    for start in stride(from: 0, to: tokens.count, by: tokenChunk) {
      let range = start..<min(tokens.count, start + tokenChunk)
      let result = try swiglu(x.gather(Array(tokens[range])), names, limit: limit, weights, pass)
      let hidden = out.columns
      out.values.withUnsafeMutableBufferPointer { out in
        result.values.withUnsafeBufferPointer { result in
          for place in range {
            sk_axpy_f32(
              factors[place], result.baseAddress! + (place - start) * hidden,
              out.baseAddress! + tokens[place] * hidden, hidden)
          }
        }
      }
    }
    for name in [names.gate, names.up, names.down] { weights.finished(name) }
  }

  /// The sum over the chosen experts, experts in ascending order, into `out` [tokens, hidden].
  static func routed(
    into out: inout Matrix, _ x: Matrix, _ routing: Routing, count: Int, limit: Float,
    _ weights: some Weights,
    _ pass: Pass, names: (Int) -> ExpertNames
  ) throws {
    var tokens = [[Int]](repeating: [], count: count)
    var factors = [[Float]](repeating: [], count: count)
    for (place, expert) in routing.experts.enumerated() {
      tokens[Int(expert)].append(place / routing.perToken)
      factors[Int(expert)].append(routing.weights[place])
    }
    for expert in 0..<count where !tokens[expert].isEmpty {
      try Interrupt.check()
      try add(
        to: &out, x, tokens: tokens[expert], factors: factors[expert], names(expert), limit: limit, weights,
        pass)
    }
  }
}

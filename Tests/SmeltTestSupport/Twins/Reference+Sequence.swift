// The slow twins of the kernels with a state (sk_sequence.h): one token after another, in double precision. The kernels are as near
// to them as float32 lets them be; among instruction sets they are the same bits.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Heads with a state [key width, value width] each; each key head serves valueHeads / keyHeads consecutive value heads.
package struct StateShape: Sendable {
  /// Heads of keys and queries.
  package var keyHeads: Int
  /// Heads of values, states and outputs.
  package var valueHeads: Int
  /// Rows of a state.
  package var keyWidth: Int
  /// Columns of a state.
  package var valueWidth: Int

  /// A shape.
  package init(keyHeads: Int, valueHeads: Int, keyWidth: Int, valueWidth: Int) {
    (self.keyHeads, self.valueHeads, self.keyWidth, self.valueWidth) = (
      keyHeads, valueHeads, keyWidth, valueWidth
    )
  }

  /// Numbers of all states.
  package var stateCount: Int { valueHeads * keyWidth * valueWidth }
  /// Numbers of a token's keys.
  package var keyCount: Int { keyHeads * keyWidth }
  /// Numbers of a token's values.
  package var valueCount: Int { valueHeads * valueWidth }
}

extension Reference {
  /// `sk_delta_rule` over all heads: outputs [tokens, value heads, value width] of the next tokens. `decay` has a number a value
  /// head, or one for each of its key channels.
  package static func deltaRule(
    _ shape: StateShape, queries: [Float], keys: [Float], values: [Float], decay: [Float], beta: [Float],
    eps: Double = 1e-6, state: inout [Double]
  ) -> [Double] {
    let tokens = beta.count / shape.valueHeads
    let perHead = decay.count / (tokens * shape.valueHeads)
    var out = [Double](repeating: 0, count: values.count)
    for token in 0..<tokens {
      for head in 0..<shape.valueHeads {
        let keyHead = head / (shape.valueHeads / shape.keyHeads)
        let place = token * shape.keyCount + keyHead * shape.keyWidth
        let unit = { (x: [Float]) in
          let row = x[place..<place + shape.keyWidth].map(Double.init)
          return row.map { $0 / (row.reduce(0) { $0 + $1 * $1 } + eps).squareRoot() }
        }
        let k = unit(keys)
        let q = unit(queries).map { $0 / Double(shape.keyWidth).squareRoot() }
        let g = (0..<shape.keyWidth).map {
          exp(Double(decay[(token * shape.valueHeads + head) * perHead + $0 % perHead]))
        }
        let b = Double(beta[token * shape.valueHeads + head])
        let first = token * shape.valueCount + head * shape.valueWidth
        let v = values[first..<first + shape.valueWidth].map(Double.init)
        let row = step(shape, head, &state, k, q, g) { column, recalled in b * (v[column] - recalled) }
        out.replaceSubrange(first..<first + shape.valueWidth, with: row)
      }
    }
    return out
  }

  /// `sk_state_space` over all heads: outputs [tokens, heads, head width] of the next tokens. The shape's keys are B and C.
  package static func stateSpace(
    _ shape: StateShape, c: [Float], b: [Float], x: [Float], steps: [Float], rates: [Float], skip: [Float],
    state: inout [Double]
  ) -> [Double] {
    var out = [Double](repeating: 0, count: x.count)
    for token in 0..<steps.count / shape.valueHeads {
      for head in 0..<shape.valueHeads {
        let place =
          token * shape.keyCount + head / (shape.valueHeads / shape.keyHeads) * shape.keyWidth
        let p = b[place..<place + shape.keyWidth].map(Double.init)
        let q = c[place..<place + shape.keyWidth].map(Double.init)
        let time = Double(steps[token * shape.valueHeads + head])
        let g = [Double](repeating: exp(time * Double(rates[head])), count: shape.keyWidth)
        let first = token * shape.valueCount + head * shape.valueWidth
        let v = x[first..<first + shape.valueWidth].map(Double.init)
        let row = step(shape, head, &state, p, q, g) { column, _ in time * v[column] }
        for column in v.indices { out[first + column] = row[column] + Double(skip[head]) * v[column] }
      }
    }
    return out
  }

  /// S ← g S, S ← S + k uᵀ with u = update(column, kᵀS), and qᵀS.
  private static func step(
    _ shape: StateShape, _ head: Int, _ state: inout [Double], _ k: [Double], _ q: [Double], _ g: [Double],
    _ update: (Int, Double) -> Double
  ) -> [Double] {
    let base = head * shape.keyWidth * shape.valueWidth
    return state.withUnsafeMutableBufferPointer { state in
      (0..<shape.valueWidth).map { column in
        var recalled = 0.0
        var sum = 0.0
        for i in 0..<shape.keyWidth {
          let place = base + i * shape.valueWidth + column
          state[place] *= g[i]
          recalled += k[i] * state[place]
        }
        let u = update(column, recalled)
        for i in 0..<shape.keyWidth {
          let place = base + i * shape.valueWidth + column
          state[place] += k[i] * u
          sum += q[i] * state[place]
        }
        return sum
      }
    }
  }

  /// `sk_convolve` over a whole sequence [tokens, channels] with the rows before it; `weight` is [channels, kernel].
  package static func convolve(
    _ x: [Float], before: [Float], _ weight: [Float], bias: [Float]?, channels: Int, silu: Bool
  ) -> [Double] {
    let kernel = weight.count / channels
    let all = before + x
    return x.indices.map { place in
      let channel = place % channels
      var sum = Double(bias?[channel] ?? 0)
      for tap in 0..<kernel {
        sum += Double(weight[channel * kernel + tap]) * Double(all[place + tap * channels])
      }
      return silu ? sum / (1 + exp(-sum)) : sum
    }
  }
}

// `bench kernels`: the layers with a state, on heads of published models. Rates count the multiply-adds of the products that the
// chunked algorithms need, triangles as halves; exponentials, factors and copies take time and do not count.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// Some heads of a layer with a state, and how many tokens they get.
private struct SequenceBench {
  enum Kind: String {
    case delta = "gated delta rule"
    case deltaByChannel = "gated delta rule by channel"
    case space = "state space"
  }

  var kind: Kind
  var tokens: Int
  var keyHeads: Int
  var perKey: Int
  var keyWidth: Int
  var valueWidth: Int

  var heads: Int { keyHeads * perKey }
  var name: String {
    "\(kind.rawValue), \(tokens) token\(tokens == 1 ? "" : "s") × \(heads) heads of \(keyWidth) × \(valueWidth)"
  }

  /// Floating-point operations of the products of all chunks: keys and queries with the state, the state's update, keys with keys
  /// and with queries (shared by a key head's heads, unless decay is by channel), scores with values, and the triangle's solution.
  var operations: Double {
    let chunk = Double(SK_CHUNK)
    let (key, value) = (Double(keyWidth), Double(valueWidth))
    let sharing = kind == .deltaByChannel ? 1 : Double(perKey)
    let triangle = chunk * chunk / 2
    let perChunk =
      kind == .space
      ? 2 * chunk * key * value + triangle * value + triangle * key / sharing
      : 3 * chunk * key * value + 2 * triangle * value + 2 * triangle * key / sharing
    return 2 * perChunk * Double(tokens) / chunk * Double(heads)
  }

  /// The time of one call for all heads on one core, and a sum that keeps the call.
  func time(_ seconds: Double) -> Double {
    let keys = numbers(tokens * keyHeads * keyWidth, 1)
    let queries = numbers(tokens * keyHeads * keyWidth, 2)
    let values = numbers(tokens * heads * valueWidth, 3)
    let perHead = kind == .deltaByChannel ? keyWidth : 1
    let decay = numbers(kind == .space ? 1 : tokens * heads * perHead, 4, scale: -0.1)
    let beta = numbers(tokens * heads, 5, scale: 1)
    let rates = [Float](repeating: -0.3, count: heads)
    var out = [Float](repeating: 0, count: values.count)
    var state = [Float](repeating: 0, count: heads * keyWidth * valueWidth)
    var call = sk_mixing()
    call.tokens = tokens
    call.heads = perKey
    call.key_width = keyWidth
    call.value_width = valueWidth
    call.key_stride = keyHeads * keyWidth
    call.value_stride = heads * valueWidth
    call.decay_stride = heads * perHead
    call.beta_stride = heads
    call.each_channel = kind == .deltaByChannel ? 1 : 0
    var scratch = [Float](repeating: 0, count: sk_mixing_floats(&call) + 16)
    return queries.withUnsafeBufferPointer { queries in
      keys.withUnsafeBufferPointer { keys in
        values.withUnsafeBufferPointer { values in
          decay.withUnsafeBufferPointer { decay in
            beta.withUnsafeBufferPointer { beta in
              rates.withUnsafeBufferPointer { rates in
                withMutable(&out, &state, &scratch) { out, state, scratch in
                  bestTime(seconds) {
                    for keyHead in 0..<keyHeads {
                      // SAFETY: a row has the columns of all heads; each call gets those of one key head and its states.
                      let head = keyHead * perKey
                      call.queries = queries.baseAddress! + keyHead * keyWidth
                      call.keys = keys.baseAddress! + keyHead * keyWidth
                      call.values = values.baseAddress! + head * valueWidth
                      call.out = out + head * valueWidth
                      call.decay = kind == .space ? nil : decay.baseAddress! + head * perHead
                      call.beta = beta.baseAddress! + head
                      call.rates = rates.baseAddress!
                      call.skip = rates.baseAddress!
                      call.state = state + head * keyWidth * valueWidth
                      call.scratch = scratch
                      if kind == .space { sk_state_space(&call) } else { sk_delta_rule(&call, 1e-6) }
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
  }

  private func withMutable<R>(
    _ out: inout [Float], _ state: inout [Float], _ scratch: inout [Float],
    _ body: (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>) -> R
  ) -> R {
    out.withUnsafeMutableBufferPointer { out in
      state.withUnsafeMutableBufferPointer { state in
        scratch.withUnsafeMutableBufferPointer { scratch in
          // SAFETY: scratch has 16 floats more than needed, so that it may begin at the next multiple of 64 bytes.
          let base = scratch.baseAddress!
          let past = Int(bitPattern: base) % 64
          return body(out.baseAddress!, state.baseAddress!, base + (past == 0 ? 0 : (64 - past) / 4))
        }
      }
    }
  }
}

/// Numbers from -1 to 1, or from 0 to `scale`, that come again after 65,521, a prime, so that no two rows are the same. Source: a linear congruential
/// generator, Numerical Recipes.
private func numbers(_ count: Int, _ seed: UInt32, scale: Float? = nil) -> [Float] {
  var state = seed
  let period = (0..<65_521).map { _ in
    state = state &* 1_664_525 &+ 1_013_904_223
    let number = Float(Int32(bitPattern: state)) / 2_147_483_648
    return scale.map { $0 * abs(number) } ?? number
  }
  var all: [Float] = []
  all.reserveCapacity(count)
  while all.count < count { all += period.prefix(count - all.count) }
  return all
}

/// Measures layers with a state on one core: many tokens against the peak, one token by the state's bytes, and the convolution.
func benchSequences(seconds: Double, peak: Double) -> [BenchRow] {
  var rows: [BenchRow] = []
  // A quarter of the heads of Qwen3-Next and of Mamba-2 with 64 heads in 8 groups: all of them would need 400 MB of numbers.
  for (kind, keyHeads, perKey, valueWidth) in [
    (SequenceBench.Kind.delta, 4, 2, 128), (.deltaByChannel, 8, 1, 128), (.space, 2, 8, 64),
  ] {
    for tokens in [8192, 4096] {
      let work = SequenceBench(
        kind: kind, tokens: tokens, keyHeads: keyHeads, perKey: perKey, keyWidth: 128, valueWidth: valueWidth)
      let rate = work.operations / work.time(seconds) / 1e9
      rows.append(BenchRow(name: work.name, value: rate, unit: "GFLOPS", share: rate / peak))
    }
    let one = SequenceBench(
      kind: kind, tokens: 1, keyHeads: keyHeads, perKey: perKey, keyWidth: 128, valueWidth: valueWidth)
    let bytes = Double(8 * one.heads * one.keyWidth * one.valueWidth)
    rows.append(
      BenchRow(name: one.name, value: bytes / one.time(seconds) / 1e9, unit: "GB/s of states, both ways"))
  }
  let (tokens, channels, taps) = (1024, 8192, 4)
  let x = numbers(tokens * channels, 6)
  let weight = numbers(taps * channels, 7)
  let before = [Float](repeating: 0, count: (taps - 1) * channels)
  var out = [Float](repeating: 0, count: x.count)
  let time = bestTime(seconds) { sk_convolve(x, before, weight, nil, taps, 0, tokens, channels, 1, &out) }
  rows.append(
    BenchRow(
      name: "causal convolution and SiLU, \(tokens) tokens × \(channels) channels of \(taps) taps",
      value: Double(4 * x.count) / time / 1e9, unit: "GB/s of floats"))
  return rows
}

// Hyper-connections: several residual streams, mixed before and after each sublayer by matrices that Sinkhorn's
// iteration makes doubly stochastic. Sources: Zhu et al., "Hyper-Connections" (2024); the DeepSeek-V4 reference code.

internal import CKernels
import SmeltStorage
import SmeltTensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The shape of a model's hyper-connections.
struct HyperConnections: Sendable {
  /// Residual streams.
  var streams: Int
  /// Width of a stream.
  var hidden: Int
  /// Rounds of normalization, the first included.
  var iterations: Int
  /// Added to the mixing coefficients and to the sums Sinkhorn divides by.
  var epsilon: Float
  /// Added under the root of the streams' norm: the model's rms_norm_eps, not `epsilon`.
  var normEpsilon: Float

  /// Names of the three weights of a site.
  struct Site { let mapping, base, scale: WeightName }

  /// The coefficients of all tokens at one site: `pre` [tokens, streams], `post` [tokens, streams], `mix` [tokens,
  /// streams, streams] where `mix[j][k]` carries stream j to stream k.
  struct Coefficients {
    var pre: [Float]
    var post: [Float]
    var mix: [Float]
  }

  /// mapping · x / rms(x): the logits of the coefficients, [tokens, mapping rows].
  private func logits(_ x: Matrix, _ site: Site, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    var logits = try weights.multiply(x, site.mapping, rows: nil, parallel: pass.parallel)
    weights.finished(site.mapping)
    let width = logits.columns
    logits.values.withUnsafeMutableBufferPointer { out in
      x.values.withUnsafeBufferPointer { input in
        guard let out = out.baseAddress, let input = input.baseAddress else { return }
        let target = SharedPointer(out)
        let source = SharedReadPointer(input)
        eachToken(x.rows, pass.parallel) { token in
          let squares = sk_sum_squares(source.pointer + token * x.columns, x.columns)
          let factor = 1 / (squares / Float(x.columns) + normEpsilon).squareRoot()
          for index in 0..<width { target.pointer[token * width + index] *= factor }
        }
      }
    }
    return logits
  }

  /// The coefficients of a sublayer.
  func coefficients(_ x: Matrix, _ site: Site, _ weights: some Weights, _ pass: Pass) throws -> Coefficients {
    let logits = try logits(x, site, weights, pass)
    let base = try weights.vector(site.base)
    let scale = try weights.vector(site.scale)
    let m = streams
    var result = Coefficients(
      pre: [Float](repeating: 0, count: x.rows * m), post: [Float](repeating: 0, count: x.rows * m),
      mix: [Float](repeating: 0, count: x.rows * m * m))
    result.pre.withUnsafeMutableBufferPointer { pre in
      result.post.withUnsafeMutableBufferPointer { post in
        result.mix.withUnsafeMutableBufferPointer { mix in
          guard let pre = pre.baseAddress, let post = post.baseAddress, let mix = mix.baseAddress else {
            return
          }
          let (pre0, post0, mix0) = (SharedPointer(pre), SharedPointer(post), SharedPointer(mix))
          eachToken(x.rows, pass.parallel) { token in
            logits.values.withUnsafeBufferPointer { all in
              let row = all.baseAddress! + token * logits.columns
              let mix = mix0.pointer + token * m * m
              for j in 0..<m {
                pre0.pointer[token * m + j] = logistic(row[j] * scale[0] + base[j]) + epsilon
                post0.pointer[token * m + j] = 2 * logistic(row[m + j] * scale[1] + base[m + j])
              }
              for index in 0..<m * m { mix[index] = row[2 * m + index] * scale[2] + base[2 * m + index] }
              sk_sinkhorn(mix, m, Int32(iterations), epsilon)
            }
          }
        }
      }
    }
    return result
  }

  /// The input of a sublayer: norm(sum over streams of pre × stream), [tokens, hidden].
  func collapse(_ x: Matrix, _ pre: [Float], norm: [Float], _ pass: Pass) -> Matrix {
    Matrix(rows: x.rows, columns: hidden) { out in
      let target = SharedPointer(out)
      eachToken(x.rows, pass.parallel) { token in
        x.values.withUnsafeBufferPointer { x in
          pre.withUnsafeBufferPointer { pre in
            let row = target.pointer + token * hidden
            sk_mix_streams(
              x.baseAddress! + token * streams * hidden, pre.baseAddress! + token * streams, streams, row,
              hidden)
            norm.withUnsafeBufferPointer { sk_rms_norm(row, $0.baseAddress!, normEpsilon, row, hidden) }
          }
        }
      }
    }
  }

  /// x[k] = post[k] × output + sum over j of mix[j][k] × x[j], for every token, in place.
  func expand(_ x: inout Matrix, _ output: Matrix, _ coefficients: Coefficients, _ pass: Pass) {
    let m = streams
    let width = m * hidden
    let tokens = x.rows
    x.values.withUnsafeMutableBufferPointer { x in
      guard let base = x.baseAddress else { return }
      let target = SharedPointer(base)
      eachToken(tokens, pass.parallel) { token in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: width + m) { scratch in
          let old = scratch.baseAddress!
          let column = old + width
          let row = target.pointer + token * width
          old.update(from: row, count: width)
          output.values.withUnsafeBufferPointer { output in
            for k in 0..<m {
              for j in 0..<m { column[j] = coefficients.mix[token * m * m + j * m + k] }
              sk_mix_streams(old, column, m, row + k * hidden, hidden)
              sk_axpy_f32(
                coefficients.post[token * m + k], output.baseAddress! + token * hidden, row + k * hidden,
                hidden)
            }
          }
        }
      }
    }
  }

  /// The mixed streams before the output head: sum over j of (logistic(scale × logit + base) + eps) × stream j.
  func headMix(_ x: Matrix, _ site: Site, norm: [Float], _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  {
    let logits = try logits(x, site, weights, pass)
    let base = try weights.vector(site.base)
    let scale = try weights.vector(site.scale)
    var pre = logits.values
    for index in pre.indices {
      pre[index] = logistic(pre[index] * scale[0] + base[index % streams]) + epsilon
    }
    return collapse(x, pre, norm: norm, pass)
  }
}

// SAFETY: in this file a token is one task's, which writes that token's floats only: `streams` or `streams²` coefficients, or a row.
// Shapes are the configuration's; the weights that bring mapping, base and scale were checked against it. Arrays that tasks share
// are lent until `eachToken` returns.

/// Calls `body` for each token, blocks of tokens spread over the threads.
func eachToken(_ count: Int, _ parallel: Parallel, _ body: @Sendable (Int) -> Void) {
  let block = 32
  parallel.forEach(ceilDivide(count, block)) { index in
    for token in index * block..<min(count, (index + 1) * block) { body(token) }
  }
}

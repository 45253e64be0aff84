// Latent attention of a few tokens over what is kept of those before, the absorbed form: each head's queries are brought into the
// latent's channels, where all heads meet the same vectors, and its sums are brought out again. A step then reads latent width + rotary
// width floats a token for all heads, where expanded keys and values are heads × (key width + value width).
// Source: DeepSeek-AI, "DeepSeek-V2" (2024), section 2.1.2 and appendix C.

internal import CKernels
import SmeltStorage
import SmeltTensors

extension LatentAttention {
  /// Outputs of all heads, [tokens, heads × value width]: those of the expanded form but for the order of sums.
  /// - Parameters:
  ///   - queries: [tokens, heads × key width], rotated.
  ///   - kept: of every position from 0 on, [positions, latent width + rotary width].
  ///   - selected: for each token the positions it sees, nil for all before it; nil where every token sees all.
  func absorbed(
    _ queries: Matrix, _ kept: Matrix, _ batch: TokenBatch, _ name: LayerName, selected: [[Int32]?]?,
    _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix {
    let weight = try weights.weight(name("attn_kv_b"))
    let latent = broughtIn(queries, weight, pass.parallel)
    let width = latentWidth + rotaryWidth
    // All heads share their keys: a task takes some of the heads.
    let tasks = min(heads, pass.parallel.threads)
    var alone = pass
    alone.parallel = .serial
    let serial = alone
    return Matrix(rows: queries.rows, columns: heads * valueWidth) { out in
      // SAFETY: a task writes its own heads' floats of every token.
      let target = SharedPointer(out)
      pass.parallel.forEach(tasks) { task in
        let own = task * heads / tasks..<(task + 1) * heads / tasks
        let sums = GroupedAttention(
          heads: own.count, keyHeads: 1, keyWidth: width, valueWidth: latentWidth, scale: scale
        ).attend(
          latent.columns(own.lowerBound * width..<own.upperBound * width), all: kept, kept, batch,
          selected: selected, origin: 0, serial)
        bringOut(sums, own, weight, into: target.pointer)
      }
    }
  }

  /// Queries in the channels of latents, [tokens, heads × (latent width + rotary width)]: of each head Kᵀ · query, K the rows of the
  /// weight that make its keys, and the rotated channels as they are.
  private func broughtIn(_ queries: Matrix, _ weight: Weight, _ parallel: Parallel) -> Matrix {
    let width = latentWidth + rotaryWidth
    return Matrix(rows: queries.rows, columns: heads * width) { out in
      // SAFETY: a task writes its own head's floats of every token. The weight has heads × (plain + value width) rows of the latent width,
      // as its shape was checked, and a query has heads × key width floats.
      let target = SharedPointer(out)
      parallel.forEach(heads) { head in
        let row = head * (plainWidth + valueWidth)
        weight.decode(rows: row..<row + plainWidth).withUnsafeBufferPointer { keys in
          queries.values.withUnsafeBufferPointer { queries in
            for token in 0..<queries.count / (heads * keyWidth) {
              let query = queries.baseAddress! + (token * heads + head) * keyWidth
              let sum = target.pointer + (token * heads + head) * width
              sum.update(repeating: 0, count: latentWidth)
              for channel in 0..<plainWidth {
                sk_axpy_f32(query[channel], keys.baseAddress! + channel * latentWidth, sum, latentWidth)
              }
              (sum + latentWidth).update(from: query + plainWidth, count: rotaryWidth)
            }
          }
        }
      }
    }
  }

  /// Values of some heads from their sums of latents, [tokens, heads × latent width].
  /// - Parameter out: [tokens, heads × value width] of all heads.
  private func bringOut(
    _ sums: Matrix, _ own: Range<Int>, _ weight: Weight, into out: UnsafeMutablePointer<Float>
  ) {
    for (place, head) in own.enumerated() {
      let row = head * (plainWidth + valueWidth) + plainWidth
      let values = multiply(
        sums.columns(place * latentWidth..<(place + 1) * latentWidth), weight, rows: row..<row + valueWidth)
      // SAFETY: `out` has a row of heads × value width floats for each of the sums' rows.
      values.values.withUnsafeBufferPointer { values in
        for token in 0..<sums.rows {
          (out + (token * heads + head) * valueWidth).update(
            from: values.baseAddress! + token * valueWidth, count: valueWidth)
        }
      }
    }
  }
}

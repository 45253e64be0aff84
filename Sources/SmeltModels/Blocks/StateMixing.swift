// Layers whose tokens meet in a state of fixed size: which heads and sequences are one task, and the memory a task has.
// The arithmetic is CKernels' sequence.h.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// Heads with a state [key width, value width] each, of which consecutive ones have keys and queries in common.
struct StateMixing: Sendable {
  /// Heads of keys and queries; a divisor of `valueHeads`.
  var keyHeads: Int
  /// Heads of values, states and outputs.
  var valueHeads: Int
  /// Rows of a state.
  var keyWidth: Int
  /// Columns of a state.
  var valueWidth: Int

  /// Whether the factors that a state decays by are one for each of its rows.
  var decaysByRow = false

  /// The most heads that one task runs: what they have in common is made once for all, and their states fit into a core's cache.
  private static let taskHeads = 8

  /// Outputs of all heads, [tokens, value heads × value width]: `kernel` is called for each sequence and some consecutive heads.
  ///
  /// Memory: a task's scratch, less than 1 MiB for heads of 128 × 128 channels, beside inputs and outputs.
  /// - Parameters:
  ///   - inputs: matrices or tables that the kernel reads; `kernel` gets their addresses in this order.
  ///   - state: continues the one sequence of the batch, under `key`; nil for whole sequences.
  ///   - kernel: gets the inputs, the tokens, the first head, and the call with its sizes, output, state and scratch.
  func run(
    _ inputs: [[Float]], _ batch: TokenBatch, _ state: LayerState?, key: String, _ pass: Pass,
    kernel: @Sendable ([SharedReadPointer<Float>], Range<Int>, Int, inout sk_mixing) -> Void
  ) -> Matrix {
    let columns = valueHeads * valueWidth
    guard batch.count > 0 else { return Matrix(rows: 0, columns: columns) }
    precondition(state == nil || batch.sequenceCount == 1, "a state continues one sequence")
    let (slices, perSlice) = slices(batch, pass)
    var memory = state?.take(key, rows: valueHeads * keyWidth, columns: valueWidth)
    let out = Matrix(rows: batch.count, columns: columns) { out in
      withReadPointers(inputs[...]) { inputs in
        withState(&memory) { memory in
          // SAFETY: a task writes the columns of its heads in the rows of its sequence, and its heads' states. Matrices have the
          // columns that the callers checked, and a row for each token of the batch. Scratch is as large as the kernel says.
          let target = SharedPointer(out)
          let perKey = valueHeads / keyHeads
          pass.parallel.forEach(batch.sequenceCount * keyHeads * slices) { task in
            let tokens = batch.range(task / (keyHeads * slices))
            let keyHead = task / slices % keyHeads
            let within = task % slices * perSlice
            let head = keyHead * perKey + within
            guard !tokens.isEmpty, within < perKey else { return }
            var call = sk_mixing()
            call.tokens = tokens.count
            call.heads = min(perSlice, perKey - within)
            call.key_width = keyWidth
            call.value_width = valueWidth
            call.each_channel = decaysByRow ? 1 : 0
            call.key_stride = keyHeads * keyWidth
            call.value_stride = columns
            call.out = target.pointer + tokens.lowerBound * columns + head * valueWidth
            call.state = memory.map { $0.pointer + head * keyWidth * valueWidth }
            withScratch(sk_mixing_floats(&call)) { scratch in
              call.scratch = scratch
              kernel(inputs, tokens, head, &call)
            }
          }
        }
      }
    }
    if let memory { state?.replace(key, memory) }
    return out
  }

  /// In how many slices the heads of one key head run, and how many heads a slice has: fewer where there are not two tasks a thread.
  private func slices(_ batch: TokenBatch, _ pass: Pass) -> (count: Int, heads: Int) {
    let perKey = valueHeads / keyHeads
    var heads = min(perKey, StateMixing.taskHeads)
    while heads > 1,
      batch.sequenceCount * keyHeads * ceilDivide(perKey, heads) < 2 * pass.parallel.threads
    { heads = ceilDivide(heads, 2) }
    return (ceilDivide(perKey, heads), heads)
  }
}

/// Floats on a cache line's border, for the time of a call.
private func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
  withUnsafeTemporaryAllocation(byteCount: 4 * count, alignment: 64) { scratch in
    if let base = scratch.bindMemory(to: Float.self).baseAddress { body(base) }
  }
}

/// The addresses of several arrays, none of them empty, for the time of a call.
func withReadPointers(
  _ arrays: ArraySlice<[Float]>, _ found: [SharedReadPointer<Float>] = [],
  _ body: ([SharedReadPointer<Float>]) -> Void
) {
  guard let first = arrays.first else { return body(found) }
  first.withUnsafeBufferPointer { first in
    guard let base = first.baseAddress else { return }
    withReadPointers(arrays.dropFirst(), found + [SharedReadPointer(base)], body)
  }
}

private func withState(_ memory: inout Matrix?, _ body: (SharedPointer<Float>?) -> Void) {
  guard memory != nil else { return body(nil) }
  memory?.values.withUnsafeMutableBufferPointer { body($0.baseAddress.map { SharedPointer($0) }) }
}

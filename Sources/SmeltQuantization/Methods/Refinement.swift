// Refining chosen codes and scales against the outputs of the source's own weight. Formats/methods.md, section 4.

internal import CKernels
package import SmeltStorage
package import SmeltTensors

/// Rounds of coordinate descent on Σ (W x − Ŵ x)²: each group's scale becomes the best one for its codes, each code the
/// best one for its scale and all other codes. The source is the teacher: W x is what it gives. A row takes a round's
/// result only where the error on inputs that the round did not see is lower than before.
///
/// Source of the steps over codes: Nair, Suggala, "CDQuant", 2024, and Behdin et al., "QuantEase", 2023; the
/// best scale for given codes is the least-squares solution.
package struct Refinement: Sendable, Hashable {
  /// Rounds at most; a row stops at the first that does not help it.
  package var rounds: Int
  /// The share of the mean of the Hessian's diagonal that is added to it.
  package var damping: Double

  /// Rounds of refinement.
  package init(rounds: Int, damping: Double = 0.01) {
    self.rounds = rounds
    self.damping = damping
  }

  /// What became of a weight.
  package struct Outcome: Sendable {
    /// The weight with its refined rows.
    package var weight: Weight
    /// Rows that changed.
    package var changedRows: Int
    /// Σ of the error on the held-out inputs before, and after.
    package var heldOut: (before: Double, after: Double)
  }

  /// Refines a rounded weight.
  /// - Parameters:
  ///   - seen: moments of the inputs to learn from, one for each input group.
  ///   - heldOut: moments of other inputs, to accept by.
  package func refine(
    _ source: Weight, _ rounded: Weight, _ grid: Grid, seen: [Hessian], heldOut: [Hessian], parallel: Parallel
  ) throws -> Outcome {
    let (rows, n) = (source.rows, source.columns)
    let sizes = grid.rowBytes(columns: n)
    var values = rounded.parts[0].bytes.array
    var scaleBytes = rounded.parts.count > 1 ? rounded.parts[1].bytes.array : []
    // SAFETY: a rounded row has the bytes that the grid says, and moments the weight's columns, checked here; rows are taken at places
    // that follow from both.
    precondition(
      values.count >= rows * sizes.values && scaleBytes.count >= rows * sizes.scales
        && (seen + heldOut).allSatisfy { $0.columns == n },
      "'\(rounded.name)' is not on the grid, or the moments are another weight's")
    let groupRows = max(1, rows / max(1, seen.count))
    var outcome = Outcome(weight: rounded, changedRows: 0, heldOut: (0, 0))
    for (index, (seen, heldOut)) in zip(seen, heldOut).enumerated() {
      let range = index * groupRows..<min(rows, (index + 1) * groupRows)
      let h = seen.completed(damping: damping)
      // A block of rows at a time, so that the floats of a whole weight are never there at once.
      let step = 256
      for first in stride(from: range.lowerBound, to: range.upperBound, by: step) {
        let some = first..<min(range.upperBound, first + step)
        let original = source.decode(rows: some)
        var states = values.withUnsafeBufferPointer { values in
          scaleBytes.withUnsafeBufferPointer { scaleBytes in
            some.map { row in
              RowState(
                grid.unpack(
                  values.baseAddress! + row * sizes.values,
                  scaleBytes: sizes.scales > 0 ? scaleBytes.baseAddress! + row * sizes.scales : nil,
                  columns: n),
                original[(row - first) * n..<(row - first + 1) * n], grid)
            }
          }
        }
        try descend(&states, h, heldOut, grid, n, parallel)
        for (row, state) in zip(some, states) {
          outcome.heldOut.before += state.firstError
          outcome.heldOut.after += state.leastError
          guard state.isChanged else { continue }
          outcome.changedRows += 1
          values.withUnsafeMutableBufferPointer { values in
            scaleBytes.withUnsafeMutableBufferPointer { scaleBytes in
              grid.pack(
                state.bestCodes, state.bestScales, columns: n,
                values: values.baseAddress! + row * sizes.values,
                scaleBytes: sizes.scales > 0 ? scaleBytes.baseAddress! + row * sizes.scales : nil)
            }
          }
        }
      }
    }
    guard outcome.changedRows > 0 else { return outcome }
    let parts = zip(rounded.parts, [values, scaleBytes]).map {
      Part($0.name, dtype: $0.dtype, shape: $0.shape, bytes: Bytes($1))
    }
    let others = rounded.parts.dropFirst(parts.count)
    outcome.weight = try Weight(
      name: rounded.name, shape: rounded.shape, encoding: rounded.encoding, parts: parts + others,
      file: rounded.file)
    return outcome
  }

  private func descend(
    _ states: inout [RowState], _ h: [Float], _ heldOut: Hessian, _ grid: Grid, _ n: Int, _ parallel: Parallel
  ) throws {
    func errors(_ states: [RowState]) -> [Double] {
      heldOut.errors(
        Matrix(
          rows: states.count, columns: n, values: states.flatMap { zip($0.values, $0.source).map { $0 - $1 } }
        ),
        parallel: parallel)
    }
    for (place, error) in errors(states).enumerated() {
      states[place].firstError = error
      states[place].leastError = error
    }
    for round in 0..<rounds where states.contains(where: { $0.isOpen }) {
      try Interrupt.check()
      // SAFETY: a task changes its own row's state; h is read only.
      states.withUnsafeMutableBufferPointer { states in
        let shared = SharedPointer(states.baseAddress!)
        let count = states.count
        h.withUnsafeBufferPointer { h in
          let h = SharedReadPointer(h.baseAddress!)
          parallel.forEach(count) { row in
            if shared.pointer[row].isOpen { shared.pointer[row].step(h.pointer, grid, isFirst: round == 0) }
          }
        }
      }
      for (place, error) in errors(states).enumerated() where states[place].isOpen {
        states[place].take(error)
      }
    }
  }
}

/// One row on its way.
private struct RowState: Sendable {
  let source: [Float]
  var values: [Float]
  var codes: [UInt8]
  var scales: [Float]
  var products: [Float] = []
  var bestCodes: [UInt8]
  var bestScales: [Float]
  var firstError = 0.0
  var leastError = 0.0
  var isOpen = true
  var isChanged = false

  init(_ packed: (codes: [UInt8], scales: [Float]), _ source: ArraySlice<Float>, _ grid: Grid) {
    self.source = Array(source)
    (codes, scales) = packed
    (bestCodes, bestScales) = packed
    let width = grid.group ?? max(1, source.count)
    values = packed.codes.enumerated().map { grid.value($1) * packed.scales[$0 / width] }
  }

  mutating func step(_ h: UnsafePointer<Float>, _ grid: Grid, isFirst: Bool) {
    let n = source.count
    if isFirst {
      let e = zip(values, source).map { $0 - $1 }
      products = (0..<n).map { row in
        var sum: Float = 0
        for start in stride(from: 0, to: n, by: Int(SK_BLOCK)) {
          let count = min(Int(SK_BLOCK), n - start)
          sum += e.withUnsafeBufferPointer { sk_dot_f32(h + row * n + start, $0.baseAddress! + start, count) }
        }
        return sum
      }
    }
    var spare = [Float](repeating: 0, count: n)
    let change = sk_refine_row(
      &values, &products, h, n, grid.group ?? max(1, n), grid.kind, grid.low, grid.high,
      grid.scaleFormat.kernelFormat,
      &scales, &codes, &spare)
    if change == 0 { isOpen = false }
  }

  mutating func take(_ error: Double) {
    if error < leastError {
      (bestCodes, bestScales, leastError, isChanged) = (codes, scales, error, true)
    } else {
      isOpen = false
    }
  }
}

// Weights that watch what they are multiplied with. Calibration is the ordinary forward pass with these.

internal import CKernels
package import SmeltModels
package import SmeltStorage
package import SmeltTensors
internal import Synchronization

/// Weights that keep, for each weight and input channel, the largest magnitude and the sum of squares of the
/// activations it is multiplied with. Products are the base's, bit for bit.
///
/// Sums are in double precision, token after token, whatever the number of threads; call `multiply` from one thread at
/// a time for statistics that are the same in every run. Memory: 12 bytes for each input channel of each
/// weight multiplied since the last `drain`, so drain after each layer.
package final class ObservedWeights<Base: Weights>: Weights {
  private let base: Base
  private let grouped: [WeightName: Int]
  private let keepsSums: Bool
  private let state = Mutex(Watched())

  /// Watches `base`. The specs tell which weights have rows that see inputs of their own.
  /// - Parameter keepsSums: whether entries keep the sums of squares beside their means.
  package init(_ base: Base, specs: [WeightSpec], keepsSums: Bool = false) {
    self.base = base
    self.keepsSums = keepsSums
    grouped = Dictionary(specs.lazy.filter { $0.inputGroups > 1 }.map { ($0.name, $0.inputGroups) }) {
      first, _ in first
    }
  }

  /// The base's weight; reading it is not watched.
  package func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }

  /// Forwards to the base.
  package func finished(_ name: WeightName) { base.finished(name) }

  /// Forwards to the base.
  package func upcoming(_ names: [WeightName]) { base.upcoming(names) }

  /// Watches the activations, then multiplies as the base does. An input group of the weight is watched when the
  /// product covers the group's first row, so that a product cut into rows is counted once.
  /// - Throws: `Q_CODE_NAN` when the activations are not finite, and what the base throws.
  package func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws
    -> Matrix
  {
    let groups = grouped[name] ?? 1
    var watched = 0..<1
    if let rows {
      let groupRows = groups == 1 ? Int.max : max(1, try base.weight(name).rows / groups)
      let first = groups == 1 ? (rows.lowerBound == 0 ? 0 : 1) : ceilDivide(rows.lowerBound, groupRows)
      let last = groups == 1 ? 1 : min(groups, ceilDivide(rows.upperBound, groupRows))
      watched = first..<max(first, last)
    } else {
      watched = 0..<groups
    }
    if x.rows > 0, x.columns > 0, !watched.isEmpty {
      try refuseNonFinite(x, name)
      let watch = state.withLock { $0.watch(name, groups: groups, columns: x.columns) }
      for group in watched { watch.add(x, group: group, parallel: parallel) }
    }
    return try base.multiply(x, name, rows: rows, parallel: parallel)
  }

  /// Watches what a layer keeps of its tokens, then keeps it as the base does.
  package func cached(_ x: Matrix, _ part: CachePart, layer: Int, parallel: Parallel) throws -> Matrix {
    // SAFETY: the pointer is one to all of the matrix's numbers
    let largest = x.values.withUnsafeBufferPointer { values in
      values.isEmpty ? 0 : sk_absmax_f32(values.baseAddress!, values.count)
    }
    state.withLock { $0.caches[layer, default: CacheRange(layer: layer)].add(largest, part) }
    return try base.cached(x, part, layer: layer, parallel: parallel)
  }

  /// What layers kept of their tokens since the last call, layers in ascending order; forgotten here.
  package func drainCaches() -> [CacheRange] {
    let found = state.withLock { state in
      defer { state.caches = [:] }
      return state.caches
    }
    return found.values.sorted { $0.layer < $1.layer }
  }

  /// Counts the tokens of each expert of a layer.
  package func record(_ routing: Routing, layer: Int, experts: Int) {
    state.withLock { state in
      var counts = state.layers[layer] ?? [Int](repeating: 0, count: experts)
      precondition(counts.count == experts, "layer \(layer) has \(counts.count) experts, found \(experts)")
      for expert in routing.experts { counts[Int(expert)] += 1 }
      state.layers[layer] = counts
    }
  }

  /// What was learned about weights since the last call, in the order of first use; forgotten here.
  package func drain() -> [StatisticsEntry] {
    let order = state.withLock { state in
      defer { (state.order, state.places) = ([], [:]) }
      return state.order
    }
    return order.map { $0.entry(keepsSums: keepsSums) }
  }

  /// The experts' tokens since the last call, layers in ascending order; forgotten here.
  package func drainRouting() -> [ExpertTokens] {
    let layers = state.withLock { state in
      defer { state.layers = [:] }
      return state.layers
    }
    return layers.sorted { $0.key < $1.key }.map { ExpertTokens(layer: $0.key, counts: $0.value) }
  }

  private func refuseNonFinite(_ x: Matrix, _ name: WeightName) throws(FormatError) {
    let bad = x.values.withUnsafeBufferPointer { sk_count_nonfinite_f32($0.baseAddress!, $0.count) }
    guard bad > 0, let index = x.values.firstIndex(where: { !$0.isFinite }) else { return }
    throw FormatError(
      .codeNaN, subject: name.description,
      "token \(index / x.columns) brings \(x.values[index]) to input channel \(index % x.columns), "
        + "expected finite activations",
      help: "a weight before this one is damaged, or the model overflows float32")
  }
}

/// What is watched since the last drain.
private struct Watched {
  var order: [Watch] = []
  var places: [WeightName: Int] = [:]
  var layers: [Int: [Int]] = [:]
  var caches: [Int: CacheRange] = [:]

  mutating func watch(_ name: WeightName, groups: Int, columns: Int) -> Watch {
    if let place = places[name] {
      precondition(order[place].columns == columns, "'\(name)' is multiplied with two widths")
      return order[place]
    }
    let watch = Watch(name, groups: groups, columns: columns)
    places[name] = order.count
    order.append(watch)
    return watch
  }
}

/// Running statistics of one weight.
private final class Watch: Sendable {
  let name: WeightName
  let groups: Int
  let columns: Int
  private let sums: Mutex<Sums>

  private struct Sums {
    var absmax: [Float]
    var squares: [Double]
    var counts: [Int]
  }

  /// Input channels that one task watches: absmax and sums stay in the first-level cache.
  private static let block = 512

  init(_ name: WeightName, groups: Int, columns: Int) {
    self.name = name
    self.groups = groups
    self.columns = columns
    sums = Mutex(
      Sums(
        absmax: [Float](repeating: 0, count: groups * columns),
        squares: [Double](repeating: 0, count: groups * columns), counts: [Int](repeating: 0, count: groups)))
  }

  /// Each task adds all tokens for some input channels, so that every sum has one order.
  func add(_ x: Matrix, group: Int, parallel: Parallel) {
    // SAFETY: a task owns a block of channels, of all tokens; the sums have `columns` numbers for each group, and are held under the
    // lock until all tasks are done. `x` was checked to have `columns`.
    precondition(x.columns == columns, "inputs of \(x.columns) channels do not fit \(columns)")
    guard x.rows > 0 else { return }
    let columns = columns
    sums.withLock { sums in
      sums.counts[group] += x.rows
      sums.absmax.withUnsafeMutableBufferPointer { absmax in
        sums.squares.withUnsafeMutableBufferPointer { squares in
          x.values.withUnsafeBufferPointer { values in
            let absmax = SharedPointer(absmax.baseAddress! + group * columns)
            let squares = SharedPointer(squares.baseAddress! + group * columns)
            let values = SharedReadPointer(values.baseAddress!)
            parallel.forEach(ceilDivide(columns, Watch.block)) { task in
              let first = task * Watch.block
              let width = min(Watch.block, columns - first)
              for row in 0..<x.rows {
                sk_observe(
                  values.pointer + row * columns + first, absmax.pointer + first, squares.pointer + first,
                  width)
              }
            }
          }
        }
      }
    }
  }

  func entry(keepsSums: Bool) -> StatisticsEntry {
    sums.withLock { sums in
      if keepsSums {
        return StatisticsEntry(
          name, groups: groups, columns: columns, absmax: sums.absmax, squareSums: sums.squares,
          counts: sums.counts)
      }
      return StatisticsEntry(
        name, groups: groups, columns: columns, absmax: sums.absmax,
        meanSquare: StatisticsEntry.means(sums.squares, counts: sums.counts, columns: columns),
        counts: sums.counts)
    }
  }
}

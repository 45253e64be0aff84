// The moments of what weights are multiplied with, gathered while a layer runs.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// Second moments of a weight's inputs, one matrix for each of its input groups.
struct Moments {
  /// Those to learn from.
  var seen: [Hessian]
  /// Those to accept by; empty where nothing is to be accepted.
  var heldOut: [Hessian]

  /// Inputs in runs of 32; of eight runs the last is held out.
  private static let run = 32

  init(columns: Int, groups: Int, holdsOut: Bool) {
    seen = (0..<groups).map { _ in Hessian(columns: columns) }
    heldOut = holdsOut ? (0..<groups).map { _ in Hessian(columns: columns) } : []
  }

  /// The fewest inputs of a group.
  var tokens: Int {
    let held = heldOut.isEmpty ? seen.map { _ in 0 } : heldOut.map(\.tokens)
    return zip(seen, held).map { $0.tokens + $1 }.min() ?? 0
  }

  func add(_ x: Matrix, groups: Range<Int>, _ parallel: Parallel) {
    guard !heldOut.isEmpty else {
      for group in groups { seen[group].add(x, parallel: parallel) }
      return
    }
    let before = seen[groups.lowerBound].tokens + heldOut[groups.lowerBound].tokens
    let held = (0..<x.rows).filter { (before + $0) / Moments.run % 8 == 7 }
    let rest = (0..<x.rows).filter { (before + $0) / Moments.run % 8 != 7 }
    let (a, b) = (x.gather(rest), x.gather(held))
    for group in groups {
      seen[group].add(a, parallel: parallel)
      if b.rows > 0 { heldOut[group].add(b, parallel: parallel) }
    }
  }

  /// All inputs.
  func all() -> [Hessian] {
    guard !heldOut.isEmpty else { return seen }
    return zip(seen, heldOut).map { seen, held in
      let sum = Hessian(columns: seen.columns)
      sum.add(seen, factor: 1)
      sum.add(held, factor: 1)
      return sum
    }
  }
}

/// Weights that gather the moments of what they are multiplied with, and are encoded when the pass needs them no more.
final class CollectingWeights<Base: Weights>: Weights {
  private let base: Base
  private let preparation: Preparation
  private let folding: Preparation.Folding
  /// The weights that use the same moments.
  private let sharing: [WeightName: [WeightName]]
  private let state = Mutex(State())

  private struct State {
    /// Moments by what tells inputs apart.
    var moments: [WeightName: Moments] = [:]
    /// Whose moments a weight uses.
    var leaders: [WeightName: WeightName] = [:]
    var done: Set<WeightName> = []
    var failure: (any Error)?
    var leavesExperts = false
    var keepsOpen = false
  }

  /// Whether experts are passed by for now: neither watched nor encoded.
  var leavesExperts: Bool {
    get { state.withLock { $0.leavesExperts } }
    set { state.withLock { $0.leavesExperts = newValue } }
  }

  /// Watches what `body` runs; what is finished in it is not encoded yet.
  func keepingOpen(_ body: () throws -> Void) rethrows {
    state.withLock { $0.keepsOpen = true }
    defer { state.withLock { $0.keepsOpen = false } }
    try body()
  }

  init(_ base: Base, _ preparation: Preparation, _ folding: Preparation.Folding) {
    self.base = base
    self.preparation = preparation
    self.folding = folding
    sharing = Dictionary(grouping: preparation.targets.values) { $0.spec.inputKey }.mapValues {
      $0.map(\.spec.name)
    }
  }

  func weight(_ name: WeightName) throws -> Weight { try base.weight(name) }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    if x.rows > 0, let target = preparation.targets[name], !preparation.tooLarge.contains(name) {
      try state.withLock { state in
        if let failure = state.failure { throw failure }
        guard !(state.leavesExperts && target.spec.role.isRouted) else { return }
        let groups = target.spec.inputGroups
        var group = 0..<groups
        if let rows {
          let groupRows = max(1, target.spec.shape.rows / groups)
          group = ceilDivide(rows.lowerBound, groupRows)..<ceilDivide(rows.upperBound, groupRows)
        }
        let key = target.spec.inputKey
        let leader = state.leaders[key] ?? name
        state.leaders[key] = leader
        guard leader == name else { return }
        if state.moments[key] == nil {
          state.moments[key] = Moments(
            columns: x.columns, groups: groups, holdsOut: preparation.method.distillRounds > 0)
        }
        state.moments[key]?.add(x, groups: group, parallel)
      }
    }
    return try base.multiply(x, name, rows: rows, parallel: parallel)
  }

  func upcoming(_ names: [WeightName]) { base.upcoming(names) }

  func finished(_ name: WeightName) {
    state.withLock { state in
      guard let target = preparation.targets[name], target.spec.role.isRouted, state.failure == nil,
        !state.leavesExperts, !state.keepsOpen
      else { return }
      do { try encode(target, &state) } catch { state.failure = error }
    }
    base.finished(name)
  }

  /// Weights that saw all they will see: those that are not yet encoded are encoded now.
  func finish(_ specs: [WeightSpec]) throws {
    try state.withLock { state in
      if let failure = state.failure { throw failure }
      for spec in specs where !state.done.contains(spec.name) {
        try Interrupt.check()
        if let target = preparation.targets[spec.name] {
          try encode(target, &state)
        } else if folding.factors[spec.name] != nil {
          try preparation.put(spec, folding, base)
        } else {
          continue
        }
        base.finished(spec.name)
      }
    }
  }

  /// The layer is over.
  func forget() { state.withLock { ($0.moments, $0.leaders, $0.done) = ([:], [:], []) } }

  private func encode(_ target: MethodTarget, _ state: inout State) throws {
    let name = target.spec.name
    guard state.done.insert(name).inserted else { return }
    let key = target.spec.inputKey
    try preparation.encode(target, state.moments[key], folding, base)
    // What several weights share goes when all of them are done.
    if (sharing[key] ?? []).allSatisfy({ state.done.contains($0) }) { state.moments[key] = nil }
  }
}

/// What the experts of a layer see, in a file: the inputs of all tokens and where each was sent.
final class RoutedInputs {
  private let scratch: ScratchFile
  private var columns = 0
  private var tokens: [Int: [Int]] = [:]

  init(_ scratch: ScratchFile) { self.scratch = scratch }

  /// Takes the inputs of a group of tokens, `first` of which came before.
  func add(_ inputs: Matrix, _ routing: Routing, first: Int) throws {
    columns = inputs.columns
    try inputs.values.withUnsafeBytes { try scratch.write($0, at: first * columns * 4) }
    for (place, expert) in routing.experts.enumerated() {
      tokens[Int(expert), default: []].append(first + place / routing.perToken)
    }
  }

  /// Calls `body` with what an expert sees, some tokens at a time, in their order.
  func forEach(_ expert: Int, _ body: (Matrix) throws -> Void) throws {
    let own = tokens[expert] ?? []
    for start in stride(from: 0, to: own.count, by: tokenChunk) {
      try body(try scratch.rows(own[start..<min(own.count, start + tokenChunk)], columns: columns))
    }
  }
}

extension ScratchFile {
  /// Rows of floats that were written one after another from the file's start.
  func rows(_ places: some Collection<Int>, columns: Int) throws -> Matrix {
    try Matrix(rows: places.count, columns: columns) { out in
      for (row, place) in places.enumerated() {
        try read(
          // SAFETY: `out` has room for `places.count` rows of `columns` floats
          into: UnsafeMutableRawBufferPointer(start: out + row * columns, count: columns * 4),
          at: place * columns * 4)
      }
    }
  }
}

extension [WeightSpec] {
  /// The weights of each expert, in the order of the experts.
  var byExpert: [(expert: Int, weights: [WeightSpec])] {
    Dictionary(grouping: filter { $0.name.expert != nil }) { $0.name.expert ?? 0 }
      .sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}

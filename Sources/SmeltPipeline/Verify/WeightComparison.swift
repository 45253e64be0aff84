// How far the weights of two models are apart, and whether each is what its scheme makes of the source's.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// Weights side by side, layer by layer: a layer's weights are compared just before the layer runs.
struct WeightComparison {
  private let source: any Weights
  private let result: any Weights
  private let cache: WeightCache
  private let specs: [WeightSpec]
  private let places: [Int?: [Int]]
  private let model: Model
  /// What the result says about its making.
  let origin: Origin?
  private let isMadeFromSource: Bool
  private let isComplete: Bool
  private let clippedShare: Double
  private var found: [Report.WeightError?]
  /// XXH64 of each weight's parts, in the order of the family's table, behind its encoding.
  private var read: [(source: String, result: String)]
  /// What no scheme explains, in the order of the family's table.
  private var damaged: [Int: Fault] = [:]
  /// Weights in the source's encoding with other numbers, of a result that does not say how it was made: damage where the result
  /// is a copy, perhaps a method's where other weights were quantized.
  private var doubtful: [Int: Fault] = [:]
  /// Whether no weight has another form than the source's.
  private var isCopy = true

  /// - Parameter cache: of both models, the source first.
  init(_ a: Model, _ b: Model, _ cache: WeightCache) throws {
    (source, result) = (cache.weights(0), cache.weights(1))
    self.cache = cache
    model = b
    specs = a.comparedWeights(with: b)
    places = Dictionary(grouping: specs.indices) { [specs] in specs[$0].layer }
    found = [Report.WeightError?](repeating: nil, count: specs.count)
    read = Array(repeating: ("", ""), count: specs.count)
    origin = try Origin(b)
    isMadeFromSource = origin?.isMade(from: a) ?? false
    isComplete = origin?.isComplete(for: a) ?? false
    // Of results of others an observer may have left out a hundredth.
    clippedShare = origin?.clippedShare ?? 0.01
  }

  /// What was found, in the order of the family's table.
  var errors: [Report.WeightError] {
    found.indices.compactMap { place in
      var error = found[place]
      if isCopy, doubtful[place] != nil { error?.state = .damaged }
      return error
    }
  }

  /// SHA-256 of the lines `name encoding XXH64` of the weights of each side, in the order of the family's table: codes and scales as they
  /// were read, whatever container they came from.
  var hashes: (source: String, result: String) {
    func hash(_ side: (Int) -> String) -> String {
      var hash = SHA256()
      for place in specs.indices {
        Array("\(specs[place].name) \(side(place))\n".utf8).withUnsafeBytes { hash.update($0) }
      }
      return hash.hex()
    }
    return (hash { read[$0].source }, hash { read[$0].result })
  }

  private static func line(_ weights: [Weight]) -> String {
    var hash = XXH64()
    for part in weights.flatMap(\.parts) { part.bytes.withUnsafeBytes { hash.update($0) } }
    return "\(weights[0].encoding.name) \(hexadecimal(hash.value()))"
  }

  /// Weights that are damaged, in the order of the family's table.
  var faults: [Fault] {
    let all = isCopy ? damaged.merging(doubtful) { fault, _ in fault } : damaged
    return all.keys.sorted().compactMap { all[$0] }
  }

  /// The weights of a layer.
  mutating func compare(layer: Int, _ options: RunOptions) throws {
    try compare(places[layer] ?? [], options)
  }

  /// The weights of no layer that ran.
  mutating func compareRest(_ options: RunOptions) throws {
    try compare(found.indices.filter { found[$0] == nil }, options)
  }

  /// Decodes weights on both sides, measures how far they are apart, and judges them.
  private mutating func compare(_ places: [Int], _ options: RunOptions) throws {
    cache.announce(places.map { specs[$0].name })
    let judge = WeightJudge(parallel: options.parallel)
    for place in places {
      try Interrupt.check()
      let spec = specs[place]
      let (a, b) = (try source.weight(spec.name), try result.weight(spec.name))
      let pieces = try pieces(spec, a)
      // What is put together from pieces has another encoding than they have in the file.
      let stored = pieces?.first?.1 ?? b
      let expected = expectation(spec, a, stored)
      var findings: WeightFindings
      if expected.recorded == nil, let pieces {
        findings = try judge.judge(pieces, expected)
        findings.distance = Metrics.distance(a, b, options.parallel)
      } else {
        findings = try judge.judge(a, b, expected)
      }
      read[place] = (WeightComparison.line([a]), WeightComparison.line(pieces.map { $0.map(\.1) } ?? [b]))
      source.finished(spec.name)
      result.finished(spec.name)
      found[place] = Report.WeightError(
        name: spec.name.description, scheme: stored.encoding.name,
        relativeError: findings.distance.relativeError, maxAbsError: findings.distance.largest,
        cosine: findings.distance.cosine, clipped: findings.clipped, state: findings.state, row: findings.row,
        role: spec.role, layer: spec.layer, elements: a.rows * a.columns, sourceBytes: a.byteCount,
        resultBytes: pieces?.reduce(0) { $0 + $1.1.byteCount } ?? b.byteCount,
        squares: findings.distance.squares, energy: findings.distance.source)
      isCopy = isCopy && a.encoding.name == stored.encoding.name
      if findings.state == .damaged {
        damaged[place] = Fault(weight: spec.name.description, findings.row, expected)
      } else if findings.state == .beyond, expected.isKept {
        doubtful[place] = Fault(weight: spec.name.description, findings.row, expected)
      }
    }
  }

  private func expectation(_ spec: WeightSpec, _ a: Weight, _ b: Weight) -> WeightExpectation {
    let name = spec.name.description
    let sameForm =
      a.encoding.name == b.encoding.name && a.parts.map(\.dtype) == b.parts.map(\.dtype)
    let fate = isMadeFromSource ? origin?.fate(name) : nil
    return WeightExpectation(
      isKept: fate.map { $0 == LedgerEntry.Fate.copied.rawValue } ?? sameForm, isKnown: isMadeFromSource,
      recorded: isMadeFromSource ? origin?.errors?.entries[name] : nil, isStrict: isComplete,
      clippedShare: clippedShare)
  }

  /// A weight that the result holds in pieces which were rounded apart, with the source's numbers in the same arrangement.
  private func pieces(_ spec: WeightSpec, _ a: Weight) throws -> [(Weight, Weight)]? {
    guard let pieces = try model.source.pieces(of: spec.name),
      let architecture = GGUFArchitectures.of(model.family)
    else { return nil }
    let steps = architecture.place(of: spec, in: model.family).arrangements.map(\.steps)
    guard steps.count == pieces.count else { return nil }
    return try zip(steps, pieces).map { steps, piece in
      (try steps.reduce(a) { try $0.arranged($1) }, piece)
    }
  }
}

extension WeightJudge {
  /// The pieces of one weight.
  func judge(_ pieces: [(Weight, Weight)], _ expected: WeightExpectation) throws -> WeightFindings {
    var all = WeightFindings()
    for (a, b) in pieces {
      let found = try judge(a, b, expected)
      all.clipped += found.clipped
      guard found.state.severity > all.state.severity else { continue }
      (all.state, all.row) = (found.state, found.row)
    }
    return all
  }
}

extension WeightFindings.State {
  /// The worse, the larger.
  fileprivate var severity: Int { WeightFindings.State.allCases.firstIndex(of: self) ?? 0 }
}

// `diff`: two models' weights side by side, as numbers: which differ, by how much, and where first; and their configurations
// and tokenizers. Nothing is run.

import SmeltModels
package import SmeltStorage
import SmeltTensors

/// What two models have in common.
package struct DiffSummary: Sendable {
  /// A weight whose numbers are not the same in both.
  package struct Difference: Sendable {
    /// Its canonical name.
    package var name: String
    /// How each side stores it.
    package var encodings: (a: String, b: String)
    /// ‖a − b‖ ÷ ‖a‖.
    package var relativeError: Double
    /// The largest |a − b|.
    package var maxAbsError: Double
    /// Row and column of the first number that differs, and the two.
    package var first: (row: Int, column: Int, a: Double, b: Double)
    /// What it does.
    var role: Role
    /// The layer it belongs to, if any.
    var layer: Int?
  }

  /// The two paths.
  package var paths: (a: String, b: String)
  /// How many weights were compared.
  package var weights: Int
  /// Weights of the same numbers under different encodings.
  package var reencoded: Int
  /// Those that differ, in the order of the family's table: the first is where the models part.
  package var differences: [Difference]
  /// What configurations and tokenizers differ in.
  package var others: [ModelDifference] = []
  /// What takes no part on either side.
  var leftOut: (a: [LeftOut], b: [LeftOut])
  /// Time and memory.
  var resources: Resources

  /// Whether every number is the same, and nothing else makes the pass or the ids differ.
  package var isEqual: Bool { differences.isEmpty && !others.contains(where: \.changesNumbers) }

  /// For a person: every difference, the first one first.
  package var text: String {
    ([weightText]
      + zip(["a", "b"], [leftOut.a, leftOut.b]).flatMap { side, left in
        left.filter { $0.rule == "mtp" }.map { "left out in \(side): \($0.text)" }
      } + others.map { "difference: \($0.text)" }).joined(separator: "\n")
  }

  private var weightText: String {
    let same = "\(grouped(weights - differences.count)) of \(grouped(weights)) weights have the same numbers"
    let note = reencoded > 0 ? ", \(grouped(reencoded)) of them under another encoding" : ""
    guard let first = differences.first else { return same + note }
    var table = Table(["weight", "a", "b", "relative error", "largest", "first at"])
    for difference in differences {
      table.add([
        difference.name, difference.encodings.a, difference.encodings.b,
        scientific(difference.relativeError), scientific(difference.maxAbsError),
        "\(difference.first.row), \(difference.first.column)",
      ])
    }
    return table.text
      + "\n\(same)\(note); the first that differs is \(first.name): "
      + "\(first.first.a) and \(first.first.b) in row \(first.first.row), column \(first.first.column)"
  }

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.diff/1", "a": JSON(paths.a), "b": JSON(paths.b), "weights": JSON(weights),
      "equal": JSON(isEqual),
      "reencoded": JSON(reencoded),
      "differences": JSON(
        differences.map {
          [
            "name": JSON($0.name), "encoding_a": JSON($0.encodings.a), "encoding_b": JSON($0.encodings.b),
            "relative_error": JSON($0.relativeError), "max_abs_error": JSON($0.maxAbsError),
            "first": [
              "row": JSON($0.first.row), "column": JSON($0.first.column), "a": JSON($0.first.a),
              "b": JSON($0.first.b),
            ],
          ]
        }),
      "other_differences": JSON(others.map(\.json)),
      "left_out_a": JSON(leftOut.a.map(\.json)), "left_out_b": JSON(leftOut.b.map(\.json)),
      "resources": resources.json,
    ]
  }
}

/// Compares the numbers of two models' weights.
/// - Throws: `RequestError` usage when the two are not the same architecture; refusals of their content.
package func diff(_ a: Model, _ b: Model, _ options: RunOptions) throws -> DiffSummary {
  try requireComparable(a, b)
  let cache = WeightCache([a, b], .withinLayers, options)
  let (x, y) = (cache.weights(0), cache.weights(1))
  var summary = DiffSummary(
    paths: (a.path, b.path), weights: 0, reencoded: 0, differences: [],
    leftOut: (try a.leftOut + a.lacksDrafts(of: b), try b.leftOut + b.lacksDrafts(of: a)),
    resources: cache.resources(spilledBytes: 0))
  summary.others = try ModelDifference.all(a, b)
  let specs = a.comparedWeights(with: b)
  options.progress.begin("compare weights", total: specs.count, unit: "weights")
  for spec in specs {
    try Interrupt.check()
    let (left, right) = (try x.weight(spec.name), try y.weight(spec.name))
    if let found = try difference(left, right, spec, options.parallel) {
      summary.differences.append(found)
    } else if left.encoding.name != right.encoding.name {
      summary.reencoded += 1
    }
    summary.weights += 1
    x.finished(spec.name)
    y.finished(spec.name)
    options.progress.advance(1)
  }
  options.progress.end()
  try a.checkUnchanged()
  try b.checkUnchanged()
  summary.resources = cache.resources(spilledBytes: 0)
  return summary
}

/// How two weights of one shape differ; nil when every number is the same.
private func difference(_ a: Weight, _ b: Weight, _ spec: WeightSpec, _ parallel: Parallel) throws
  -> DiffSummary.Difference?
{
  let columns = a.columns
  let distance: Metrics.Distance
  let first: (place: Int, a: Double, b: Double)
  if spec.role == .hashTable {
    let (x, y) = (try a.integers(), try b.integers())
    guard let place = x.indices.first(where: { x[$0] != y[$0] }) else { return nil }
    first = (place, Double(x[place]), Double(y[place]))
    distance = Metrics.Distance(integers: x, y)
  } else {
    let blockRows = 64
    var places = [Int?](repeating: nil, count: ceilDivide(a.rows, blockRows))
    Metrics.fill(&places, parallel) { block in
      let rows = block * blockRows..<min(a.rows, (block + 1) * blockRows)
      let (x, y) = (a.decode(rows: rows), b.decode(rows: rows))
      return x.indices.first { x[$0] != y[$0] }.map { rows.lowerBound * columns + $0 }
    }
    guard let place = places.lazy.compactMap({ $0 }).first else { return nil }
    let row = place / columns..<place / columns + 1
    first = (
      place, Double(a.decode(rows: row)[place % columns]), Double(b.decode(rows: row)[place % columns])
    )
    distance = Metrics.distance(a, b, parallel)
  }
  return DiffSummary.Difference(
    name: spec.name.description, encodings: (a.encoding.name, b.encoding.name),
    relativeError: distance.relativeError, maxAbsError: distance.largest,
    first: (first.place / columns, first.place % columns, first.a, first.b), role: spec.role,
    layer: spec.layer)
}

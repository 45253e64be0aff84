// Schemes whose result is one of GGUF's block types. Formats/recipe.md, section 5.

internal import CKernels
internal import SmeltStorage
package import SmeltTensors

/// Blocks of one of GGUF's types, for example `q4_k`. Named as the type.
///
/// Types of one scale (`q8_0 q4_0 q4_1 q5_0 q5_1 mxfp4 nvfp4.gguf q1_0 q2_0 tq1_0 tq2_0`) get the bytes that ggml's reference
/// gives. `q2_k … q6_k iq4_nl iq4_xs`, and with importances `q4_0 q4_1 q5_0 q5_1` too, are searched: the sum over the
/// columns of importance × square error is made small. Formats/encodings.md, sections 20 and 21.
///
/// Widths that are not a whole number of blocks get a type of smaller blocks, as llama-quantize chooses it, or F16.
///
/// A source in the result's own type is copied; MXFP4 in the hub's order becomes `mxfp4.gguf` by moving nibbles.
///
/// Bound, for normal numbers: the root of the mean square error is at most 1.1 × `relativeError` of theirs.
package struct GGUFScheme: Scheme {
  /// The type of the result.
  package let block: GGUFBlock
  /// One line for help.
  package let summary: String
  /// The root of the mean square error of normal numbers, relative to them; measured.
  package let relativeError: Double

  private init(_ kind: GGUFBlock.Kind, _ relativeError: Double, _ summary: String) {
    block = GGUFBlock(kind)
    self.relativeError = relativeError
    self.summary = "GGUF \(block.name): " + summary
  }

  /// All of them, the widest codes first.
  package static let all: [GGUFScheme] = [
    GGUFScheme(.q8_0, 0.0054, "8.5 bits a weight"),
    GGUFScheme(.q6_k, 0.0165, "6.6 bits a weight"),
    GGUFScheme(.q5_k, 0.0345, "5.5 bits a weight"), GGUFScheme(.q5_1, 0.038, "6 bits a weight"),
    GGUFScheme(.q5_0, 0.043, "5.5 bits a weight"),
    GGUFScheme(.q4_k, 0.07, "4.5 bits a weight"), GGUFScheme(.q4_1, 0.079, "5 bits a weight"),
    GGUFScheme(.q4_0, 0.086, "4.5 bits a weight"),
    GGUFScheme(.iq4_nl, 0.0735, "4.5 bits a weight, codes by table"),
    GGUFScheme(.iq4_xs, 0.074, "4.25 bits a weight, codes by table"),
    GGUFScheme(.mxfp4, 0.114, "4.25 bits a weight; exact for FP4 sources"),
    GGUFScheme(.nvfp4, 0.104, "4.5 bits a weight"),
    GGUFScheme(.q3_k, 0.144, "3.4 bits a weight"), GGUFScheme(.q2_k, 0.261, "2.6 bits a weight"),
    GGUFScheme(.q2_0, 0.72, "2.25 bits a weight"), GGUFScheme(.tq2_0, 0.81, "2.1 bits a weight, ternary"),
    GGUFScheme(.tq1_0, 0.81, "1.7 bits a weight, ternary"),
    GGUFScheme(.q1_0, 0.6, "1.1 bits a weight, signs"),
  ]

  /// The scheme of a type.
  package static func of(_ kind: GGUFBlock.Kind) -> GGUFScheme {
    guard let scheme = all.first(where: { $0.block.kind == kind }) else {
      preconditionFailure("no scheme gives \(kind)")
    }
    return scheme
  }

  /// The type's name.
  package var name: String { block.name }
  /// None: other tools' spellings differ in case only.
  package var synonyms: [String] { [] }
  /// Values are rounded.
  package var isLossy: Bool { true }
  /// Values are encoded again.
  package var keepsBytes: Bool { false }
  /// The big matrices inside layers.
  package var reach: SchemeReach { .layerMatrices }

  /// Whether importances change the result.
  package var choosesScales: Bool {
    switch block.kind {
    case .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_nl, .iq4_xs, .q4_0, .q4_1, .q5_0, .q5_1: true
    default: false
    }
  }

  /// The type, or its fallback where the columns are not a whole number of blocks; tables of integers
  /// keep theirs.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding {
    if source is IntegerTable { return source }
    return [block.kind, fallback].lazy.map { GGUFBlock($0) }.first { shape.columns % $0.elements == 0 }
      ?? Plain.f16
  }

  /// What llama-quantize takes where blocks are too wide. It has none for `q1_0` and `nvfp4`; ours are its neighbours.
  private var fallback: GGUFBlock.Kind {
    switch block.kind {
    case .iq4_xs: .iq4_nl
    case .q2_k, .q3_k, .tq1_0, .tq2_0, .q2_0, .q1_0: .q4_0
    case .q4_k: .q5_0
    case .q5_k: .q5_1
    case .q6_k: .q8_0
    case .nvfp4: .mxfp4
    default: block.kind
    }
  }

  /// Why a weight gets another encoding than the scheme's.
  package func note(for source: any Encoding, shape: Shape) -> String? {
    let result = encoding(for: source, shape: shape)
    guard !(source is IntegerTable), result as? GGUFBlock != block else { return nil }
    return
      "\(result.name): \(shape.columns) columns are not a multiple of \(block.elements), as \(name) needs"
  }

  /// Encodes each row.
  /// - Throws: `Q_CODE_NAN`, `STAT_MISMATCH`; `RequestError` unsupported for a value whose scale is beyond F16.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    throws -> RowReport
  {
    if weight.encoding is IntegerTable { return copyRows(weight, rows: rows, into: target) }
    let result = encoding(for: weight.encoding, shape: weight.shape)
    guard let result = result as? GGUFBlock else {
      return try PlainFloat.f16.quantize(weight, rows: rows, options: options, into: target)
    }
    if weight.encoding as? GGUFBlock == result { return copyRows(weight, rows: rows, into: target) }
    if result.kind == .mxfp4, weight.encoding is FP4 {
      weight.repackMXFP4ForGGUF(rows: rows, into: target.values)
      var report = RowReport()
      report.values = rows.count * weight.columns
      return report
    }
    try options.importance?.check(weight)
    let columns = weight.columns
    let rowBytes = columns / result.elements * result.bytes
    let groupRows = max(1, weight.rows / (options.importance?.groups ?? 1))
    let importance = options.importance.map { UnitImportance($0, groups: groupsOf(rows, groupRows)) }
    var report = RowReport()
    try forEachDecodedRow(weight, rows: rows, spareRows: 1) { row, values, spare in
      let place = target.values + (row - rows.lowerBound) * rowBytes
      let outcome =
        if let importance {
          importance.withGroup(row / groupRows) { weights in
            guard let weights, result.isCoarse else {
              return result.encode(values, count: columns, weights: weights, into: place)
            }
            priorImportances(values, columns, into: spare)
            for column in 0..<columns { spare[column] *= weights[column] }
            return result.encode(values, count: columns, weights: UnsafePointer(spare), into: place)
          }
        } else {
          result.encode(values, count: columns, into: place)
        }
      switch outcome {
      case .stored(let inexact): report.add(row: columns, inexact: inexact)
      case .beyondRange(let block):
        let range = block * result.elements..<(block + 1) * result.elements
        let largest = range.map { values[$0] }.max { $0.magnitude < $1.magnitude } ?? 0
        throw RequestError(
          .unsupported,
          "'\(weight.name)' row \(row), block \(block) has \(largest), beyond the range of \(result.name)",
          help: "keep this weight or store it as f32, by a rule of a recipe")
      }
    }
    return report
  }

  private func groupsOf(_ rows: Range<Int>, _ groupRows: Int) -> Range<Int> {
    rows.isEmpty ? 0..<0 : rows.lowerBound / groupRows..<(rows.upperBound - 1) / groupRows + 1
  }
}

extension GGUFBlock {
  /// Whether codes are so few that large values are lost to importances alone: 2 and 3 bits with a choice of scales. An error on one of
  /// these counts √(2 m + x²) times as much (`priorImportances`), as in ggml.
  fileprivate var isCoarse: Bool { kind == .q2_k || kind == .q3_k }
}

/// The importances of some row groups, each multiplied by a power of two so that its largest is from 1 to 2: only their
/// ratios matter, and sums of them stay in range.
private struct UnitImportance {
  private let columns: Int
  private let first: Int
  private let values: [Float]
  /// Groups in which no channel counts are treated as if there were no importances.
  private let isZero: [Bool]

  init(_ view: ImportanceView, groups: Range<Int>) {
    columns = view.columns
    first = groups.lowerBound
    var values: [Float] = []
    values.reserveCapacity(groups.count * view.columns)
    isZero = groups.map { group in
      let own = view.values[group * view.columns..<(group + 1) * view.columns]
      let largest = own.max() ?? 0
      // Twice half the power, since 2^149 is no float32.
      let power = largest > 0 ? -Int(largest.exponent) : 0
      let half = Float(sign: .plus, exponent: power / 2, significand: 1)
      let rest = Float(sign: .plus, exponent: power - power / 2, significand: 1)
      for value in own { values.append(value * half * rest) }
      return largest == 0
    }
    self.values = values
  }

  func withGroup<Result>(_ group: Int, _ body: (UnsafePointer<Float>?) -> Result) -> Result {
    // SAFETY: `values` has `columns` floats for each group from `first` on; lent during `body`.
    let place = group - first
    if isZero[place] { return body(nil) }
    return values.withUnsafeBufferPointer { body($0.baseAddress.map { $0 + place * columns }) }
  }
}

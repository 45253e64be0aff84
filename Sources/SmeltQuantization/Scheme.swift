// A scheme is judgement where an encoding is arithmetic: it names the encoding a weight gets and chooses the scales.
// Schemes work on rows on their own, so that a weight may be cut into slices of rows and quantized on any number of
// threads: the bytes never depend on the cut.

internal import CKernels
package import SmeltStorage
package import SmeltTensors

/// The weights that a scheme applies to when a recipe says no more than its name. Formats/recipe.md, section 3.
package enum SchemeReach: String, Sendable, Hashable {
  /// None: everything stays as it is.
  case nothing
  /// Every matrix of floats, embeddings and output head included.
  case matrices
  /// The big matrices inside layers: roles with `isQuantizedByDefault`.
  case layerMatrices
}

/// A rule for choosing an encoding and its scales.
package protocol Scheme: Sendable {
  /// The canonical name, stable for ever.
  var name: String { get }
  /// Other tools' spellings that mean the same result.
  var synonyms: [String] { get }
  /// One line for help.
  var summary: String { get }
  /// Whether values may change.
  var isLossy: Bool { get }
  /// Whether the result is the source's bytes, so that callers may copy parts instead of calling `quantize`.
  var keepsBytes: Bool { get }
  /// What it applies to unless a recipe says otherwise.
  var reach: SchemeReach { get }
  /// Whether there are scales to choose, so that observers and statistics matter.
  var choosesScales: Bool { get }

  /// The observer of weights for which nobody asked for one and calibration brought nothing.
  var usualObserver: Observer { get }

  /// Whether the result is made for an entropy coder: stored raw, it would be larger than it was meant to be.
  var isEntropyCoded: Bool { get }

  /// The encoding that a weight of this encoding and shape gets. Tables of integers keep theirs.
  func encoding(for source: any Encoding, shape: Shape) -> any Encoding

  /// What the ledger says where a weight of this encoding and shape gets another encoding than the scheme is named for.
  func note(for source: any Encoding, shape: Shape) -> String?

  /// Rows that share scales: slices of a weight begin at multiples of it.
  var rowBlock: Int { get }

  /// The type that a part of the result is stored in.
  func dtype(of part: PartLayout) -> DType

  /// The scheme that takes this one's place for a weight whose shape or source it does not suit, and why.
  func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)?

  /// Whether the number that `survey` gives is one for all parts of a matrix that engines fuse.
  var sharesSurvey: Bool { get }

  /// The number that rows need to know of the whole weight, where there is one: the scale of a tensor, for example.
  /// Reads all of it; callers keep the number for the weight's other rows in `QuantizeOptions.surveyed`.
  /// - Parameter parts: the weight alone, or where `sharesSurvey` all parts of the fused matrix that it belongs to.
  /// - Throws: what `quantize` throws.
  func survey(_ parts: [SurveyPart]) throws -> Float?

  /// Quantizes some rows into memory of the caller's: the bytes of `rows` in each part, from its first row on.
  /// The source must be a valid weight (`Weight.validate`); what is not finite is refused here too.
  /// - Throws: `Q_CODE_NAN` naming row and column; `STAT_MISMATCH` when the importance does not fit the weight;
  ///   `RequestError` unsupported when a value is beyond the result's range.
  func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget) throws
    -> RowReport
}

/// How scales are chosen.
package struct QuantizeOptions: Sendable {
  /// What a scale is taken from.
  package var observer: Observer
  /// How much each input channel matters; nil: all the same.
  package var importance: ImportanceView?
  /// What the scheme's `survey` of the weight gave, once it is known.
  package var surveyed: Float?

  /// Options; the default is the largest magnitude, all input channels alike.
  package init(observer: Observer = .absmax, importance: ImportanceView? = nil) {
    self.observer = observer
    self.importance = importance
  }
}

/// The mean square of each input channel, one row for each input group of a weight.
package struct ImportanceView: Sendable {
  /// How many row groups of the weight see inputs of their own.
  package let groups: Int
  /// Input channels.
  package let columns: Int
  /// Mean squares, [groups, columns]; finite, not negative.
  package let values: [Float]

  /// A view of known values; there must be `groups × columns` of them.
  package init(groups: Int, columns: Int, values: [Float]) {
    precondition(
      groups > 0 && values.count == groups * columns, "importance of \(groups) × \(columns) channels")
    self.groups = groups
    self.columns = columns
    self.values = values
  }

  func check(_ weight: Weight) throws(FormatError) {
    guard columns == weight.columns, weight.rows % groups == 0 else {
      throw FormatError(
        .statisticsMismatch, subject: weight.name,
        "the statistics have \(groups) groups of \(columns) input channels, "
          + "which does not fit a weight of \(weight.shape)")
    }
  }
}

/// Where the bytes of some rows go: the place of the first of them in each part.
package struct RowTarget: @unchecked Sendable {
  // SAFETY: every place has room for the bytes that its part has for these rows (`ResultPart.slice`), belongs to one task until
  // `quantize` returns, and needs no alignment.
  /// Codes.
  package let values: UnsafeMutablePointer<UInt8>
  /// Scales; nil for encodings without.
  package let scales: UnsafeMutablePointer<UInt8>?
  /// The one number of the whole weight, written with its first rows; nil for encodings without.
  package let global: UnsafeMutablePointer<UInt8>?
  /// Zero points, and of a weight that is copied its groups of columns.
  package let others: [PartName: UnsafeMutablePointer<UInt8>]

  /// A place in memory that nobody else uses until the call returns.
  package init(
    values: UnsafeMutablePointer<UInt8>, scales: UnsafeMutablePointer<UInt8>?,
    global: UnsafeMutablePointer<UInt8>? = nil, others: [PartName: UnsafeMutablePointer<UInt8>] = [:]
  ) {
    self.values = values
    self.scales = scales
    self.global = global
    self.others = others
  }

  func part(_ name: PartName) -> UnsafeMutablePointer<UInt8>? {
    switch name {
    case .values: values
    case .scales: scales
    case .globalScale: global
    case .zeroPoints, .groupIndex: others[name]
    }
  }
}

/// What rounding did to some rows.
package struct RowReport: Sendable, Hashable {
  /// Values looked at.
  package var values = 0
  /// Values whose decoded result is another number than the decoded source; -0 counts as +0.
  package var inexactValues = 0
  /// Rows with at least one of these.
  package var inexactRows = 0

  /// A report of nothing.
  package init() {}

  /// Adds what happened to other rows.
  package static func += (a: inout RowReport, b: RowReport) {
    a.values += b.values
    a.inexactValues += b.inexactValues
    a.inexactRows += b.inexactRows
  }

  mutating func add(row values: Int, inexact: Int) {
    self.values += values
    inexactValues += inexact
    if inexact > 0 { inexactRows += 1 }
  }
}

/// A part of a result: what it is called, how its elements are stored, its dimensions and bytes.
package struct ResultPart: Sendable {
  /// Which part.
  package let name: PartName
  /// The type of its elements.
  package let dtype: DType
  /// Its dimensions.
  package let shape: Shape
  /// Its bytes for the whole weight.
  package let byteCount: Int

  /// A part of known size.
  package init(name: PartName, dtype: DType, shape: Shape, byteCount: Int) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.byteCount = byteCount
  }
}

extension Scheme {
  /// Schemes that are for the big matrices inside layers choose scales, unless they say otherwise.
  package var choosesScales: Bool { reach == .layerMatrices }

  /// The largest magnitude: 8 bits lose little by it.
  package var usualObserver: Observer { .absmax }

  /// Codes are as small as they will be.
  package var isEntropyCoded: Bool { false }

  /// Nothing: every weight gets the scheme's encoding.
  package func note(for source: any Encoding, shape: Shape) -> String? { nil }

  /// Each row stands for itself.
  package var rowBlock: Int { 1 }

  /// The first that the encoding allows.
  package func dtype(of part: PartLayout) -> DType { part.dtypes[0] }

  /// None: the scheme suits every weight.
  package func fallback(for source: any Encoding, shape: Shape) -> (scheme: any Scheme, why: String)? { nil }

  /// Weights are surveyed one by one.
  package var sharesSurvey: Bool { false }

  /// Nothing: rows need to know only themselves.
  package func survey(_ parts: [SurveyPart]) throws -> Float? { nil }

  /// The number of one weight that stands alone.
  /// - Throws: what `quantize` throws.
  package func survey(_ weight: Weight, options: QuantizeOptions) throws -> Float? {
    try survey([SurveyPart(weight, options)])
  }

  /// The parts of a result of this encoding and shape, with the types that the scheme gives them.
  /// - Throws: `Q_PACK` when the shape cannot be stored in the encoding.
  package func parts(_ encoding: any Encoding, of shape: Shape, name: String) throws(FormatError)
    -> [ResultPart]
  {
    try encoding.layout(of: shape, name: name).map { part in
      let dtype = dtype(of: part)
      return ResultPart(
        name: part.name, dtype: dtype, shape: part.shape, byteCount: dtype.byteCount(part.shape.count) ?? 0)
    }
  }

  /// The parts of the result for a weight, known before anything is quantized.
  /// - Throws: `Q_PACK` when the shape cannot be stored in the result's encoding.
  package func resultParts(of weight: Weight) throws(FormatError) -> [ResultPart] {
    let result = encoding(for: weight.encoding, shape: weight.shape)
    if keepsBytes || result is IntegerTable {
      return weight.parts.map {
        ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.bytes.count)
      }
    }
    return try parts(result, of: weight.shape, name: weight.name)
  }

  /// Quantizes some rows into fresh arrays.
  /// - Throws: what `quantize(_:rows:options:into:)` throws.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions) throws -> QuantizedRows
  {
    var sizes: [PartName: Int] = [:]
    for part in try resultParts(of: weight) {
      sizes[part.name] = part.slice(rows, of: weight.rows, rowBlock: rowBlock).count
    }
    let options = try surveyed(weight, options)
    var report = RowReport()
    // SAFETY: each array has as many bytes as its part has for these rows, and at least one, so that it has an address; a scheme fills
    // all of them or throws.
    var (scales, global): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: 4))
    var zeros = [UInt8](repeating: 0, count: max(1, sizes[.zeroPoints] ?? 0))
    let values = try [UInt8](unsafeUninitializedCapacity: max(1, sizes[.values] ?? 0)) { values, valueCount in
      scales = try [UInt8](unsafeUninitializedCapacity: max(1, sizes[.scales] ?? 0)) { scales, scaleCount in
        report = try global.withUnsafeMutableBufferPointer { global in
          try zeros.withUnsafeMutableBufferPointer { zeros in
            try quantize(
              weight, rows: rows, options: options,
              into: RowTarget(
                values: values.baseAddress!, scales: scales.baseAddress!, global: global.baseAddress!,
                others: [.zeroPoints: zeros.baseAddress!]))
          }
        }
        scaleCount = sizes[.scales] ?? 0
      }
      valueCount = sizes[.values] ?? 0
    }
    global.removeLast(4 - (sizes[.globalScale] ?? 0))
    return QuantizedRows(
      values: values, scales: scales, global: global,
      zeroPoints: Array(zeros.prefix(sizes[.zeroPoints] ?? 0)),
      report: report)
  }

  private func surveyed(_ weight: Weight, _ options: QuantizeOptions) throws -> QuantizeOptions {
    guard options.surveyed == nil, !(weight.encoding is IntegerTable) else { return options }
    var options = options
    options.surveyed = try survey(weight, options: options)
    return options
  }

  /// Quantizes a whole weight in memory, slices of rows spread over the threads.
  /// - Returns: the result and what rounding did. The bytes do not depend on the threads.
  /// - Throws: what `quantize(_:rows:options:into:)` throws.
  package func quantize(
    _ weight: Weight, options: QuantizeOptions = QuantizeOptions(), parallel: Parallel = .serial
  ) throws -> (weight: Weight, report: RowReport) {
    let parts = try resultParts(of: weight)
    let buffers = parts.map { ByteBuffer(count: $0.byteCount) }
    // SAFETY: slices of the buffers do not overlap, and the tasks are done before the buffers become bytes. A report is one slice's.
    let places = zip(parts, buffers).map { part, buffer in
      (part: part, base: buffer.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self))
    }
    let targets = SliceTargets(places: places, rowBlock: rowBlock)
    let sliceRows = max(1, (1 << 19) / max(1, weight.columns * rowBlock)) * rowBlock
    let options = try surveyed(weight, options)
    let slices = ceilDivide(weight.rows, sliceRows)
    var reports = [RowReport](repeating: RowReport(), count: slices)
    try reports.withUnsafeMutableBufferPointer { reports in
      guard let base = reports.baseAddress else { return }
      let shared = SharedPointer(base)
      try parallel.forEach(slices) { index in
        let rows = index * sliceRows..<min(weight.rows, (index + 1) * sliceRows)
        shared.pointer[index] = try quantize(
          weight, rows: rows, options: options, into: targets.target(rows, of: weight.rows))
      }
    }
    let result = try Weight(
      name: weight.name, shape: weight.shape,
      encoding: encoding(for: weight.encoding, shape: weight.shape),
      parts: zip(parts, buffers).map {
        Part($0.name, dtype: $0.dtype, shape: $0.shape, bytes: Bytes($1))
      }, file: weight.file)
    return (result, reports.reduce(into: RowReport()) { $0 += $1 })
  }
}

/// Where slices of a whole result lie.
private struct SliceTargets: @unchecked Sendable {
  // SAFETY: the buffers behind the addresses are held by the caller until all tasks are done.
  let places: [(part: ResultPart, base: UnsafeMutablePointer<UInt8>)]
  let rowBlock: Int

  func target(_ rows: Range<Int>, of count: Int) -> RowTarget {
    func place(_ name: PartName) -> UnsafeMutablePointer<UInt8>? {
      places.first { $0.part.name == name }.map {
        $0.base + $0.part.slice(rows, of: count, rowBlock: rowBlock).lowerBound
      }
    }
    let others = [PartName.zeroPoints, .groupIndex].compactMap { name in place(name).map { (name, $0) } }
    return RowTarget(
      values: place(.values)!, scales: place(.scales), global: place(.globalScale),
      others: Dictionary(uniqueKeysWithValues: others))
  }
}

extension ResultPart {
  /// Whether it is one number, which belongs to no row more than to others.
  package var isOfWholeWeight: Bool { name == .globalScale || (name == .scales && shape == [1]) }

  /// The bytes that belong to some rows of a weight of `count` rows. One number for the whole weight belongs to the first row;
  /// scales of blocks of rows are cut between blocks.
  package func slice(_ rows: Range<Int>, of count: Int, rowBlock: Int = 1) -> Range<Int> {
    if isOfWholeWeight {
      return rows.lowerBound == 0 ? 0..<byteCount : byteCount..<byteCount
    }
    guard name == .scales, rowBlock > 1 else { return sliceBytes(byteCount, rows: rows, of: count) }
    let each = byteCount / max(1, ceilDivide(count, rowBlock))
    return ceilDivide(rows.lowerBound, rowBlock) * each..<ceilDivide(rows.upperBound, rowBlock) * each
  }
}

/// The bytes of a part that belong to some rows. Parts with the same number of bytes for each row are cut between rows;
/// others (the scales of blocks) at places in proportion, so that the slices of any cut follow each other without a
/// gap.
package func sliceBytes(_ byteCount: Int, rows: Range<Int>, of count: Int) -> Range<Int> {
  guard count > 0 else { return 0..<0 }
  let (each, rest) = byteCount.quotientAndRemainder(dividingBy: count)
  func place(_ row: Int) -> Int { row * each + ceilDivide(row * rest, count) }
  return place(rows.lowerBound)..<place(rows.upperBound)
}

/// Copies the bytes of some rows of every part that the target has a place for.
func copyRows(_ weight: Weight, rows: Range<Int>, into target: RowTarget) -> RowReport {
  weight.requireInside(rows, 0..<weight.columns)
  for part in weight.parts {
    // SAFETY: the same slice that the target's places were cut by; it lies inside the part, since the rows lie inside the weight.
    let result = ResultPart(
      name: part.name, dtype: part.dtype, shape: part.shape, byteCount: part.bytes.count)
    let range = result.slice(rows, of: weight.rows)
    guard !range.isEmpty, let place = target.part(part.name) else { continue }
    part.bytes.withUnsafeBytes { bytes in
      UnsafeMutableRawPointer(place).copyMemory(
        from: bytes.baseAddress! + range.lowerBound, byteCount: range.count)
    }
  }
  var report = RowReport()
  report.values = rows.count * weight.columns
  return report
}

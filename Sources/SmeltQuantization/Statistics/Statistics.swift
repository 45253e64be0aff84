// What calibration learned, as named tensors: Formats/statistics.md. Values are decoded when asked for, so that a
// mapped statistics file costs no memory.

package import SmeltModels
package import SmeltStorage
package import SmeltTensors

/// What calibration learned about the inputs of one weight.
package struct StatisticsEntry: Sendable, Equatable {
  /// The weight.
  package let weight: WeightName
  /// How many row groups of it see inputs of their own.
  package let groups: Int
  /// Input channels.
  package let columns: Int
  /// The largest magnitude of each input channel, [groups, columns]; nil where it is not known, as from an importance
  /// matrix.
  package let absmax: [Float]?
  /// The mean square of each input channel, [groups, columns]; 0 where no token came.
  package let meanSquare: [Float]
  /// The sums that the means are of, [groups, columns]; nil where they were not kept.
  package private(set) var squareSums: [Double]?
  /// Tokens that came, [groups].
  package let counts: [Int]

  /// An entry of known values.
  package init(
    _ weight: WeightName, groups: Int, columns: Int, absmax: [Float]?, meanSquare: [Float], counts: [Int]
  ) {
    precondition(
      absmax?.count ?? groups * columns == groups * columns && meanSquare.count == groups * columns
        && counts.count == groups,
      "statistics of '\(weight)' need \(groups) × \(columns) values")
    self.weight = weight
    self.groups = groups
    self.columns = columns
    self.absmax = absmax
    self.meanSquare = meanSquare
    self.counts = counts
  }

  /// An entry of sums.
  package init(
    _ weight: WeightName, groups: Int, columns: Int, absmax: [Float]?, squareSums: [Double], counts: [Int]
  ) {
    self.init(
      weight, groups: groups, columns: columns, absmax: absmax,
      meanSquare: StatisticsEntry.means(squareSums, counts: counts, columns: columns), counts: counts)
    self.squareSums = squareSums
  }

  /// The entry of a weight that no token reached.
  package init(unreached weight: WeightName, groups: Int, columns: Int) {
    let zeros = [Float](repeating: 0, count: groups * columns)
    self.init(
      weight, groups: groups, columns: columns, absmax: zeros, meanSquare: zeros,
      counts: [Int](repeating: 0, count: groups))
  }
}

/// How many tokens each expert of a layer got.
package struct ExpertTokens: Sendable, Equatable {
  /// The layer.
  package let layer: Int
  /// Tokens, one number an expert. A token counts once for each expert it went to.
  package let counts: [Int]

  /// The counts of a layer.
  package init(layer: Int, counts: [Int]) {
    self.layer = layer
    self.counts = counts
  }
}

/// A tensor of a statistics file.
package struct StatisticsTensor: Sendable {
  /// The name, for example `blk.0.attn_q_a.weight.absmax`.
  package let name: String
  /// F32 or I64.
  package let dtype: DType
  /// Dimensions.
  package let shape: Shape
  /// Little-endian bytes.
  package let bytes: Bytes
  /// What the values of each row are divided by when they are read, a row of 0 being 0; nil when they stand as they are.
  let rowDivisors: [Float]?

  /// A tensor; whether bytes fit the shape is checked by `Statistics`.
  package init(name: String, dtype: DType, shape: Shape, bytes: Bytes) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
    rowDivisors = nil
  }

  /// A tensor of sums.
  init(name: String, shape: Shape, sums: Bytes, rowDivisors: [Float]) {
    precondition(rowDivisors.count == shape.rows && sums.count == shape.count * 4)
    self.name = name
    dtype = .f32
    self.shape = shape
    bytes = sums
    self.rowDivisors = rowDivisors
  }
}

/// What calibration learned about a model.
package struct Statistics: Sendable {
  /// What the file holds of squares.
  package let form: StatisticsForm
  /// The model's `model_type`; nil where it is not known, as from an importance matrix.
  package var modelType: String?
  /// SHA-256 of the file they were read from, in lower-case hexadecimal; nil where there was none.
  package var fileHash: String?
  /// Tokens that ran.
  package var tokens: Int
  /// Tokens of a sequence.
  package var context: Int
  /// Sequences that ran.
  package var sequences: Int
  /// More metadata, such as the hash of the text; kept as it is.
  package var notes: [(key: String, value: String)] = []
  /// The file it came from, for messages.
  package var file: String?
  /// The tensors in the order they were added.
  package private(set) var tensors: [StatisticsTensor] = []
  private var places: [String: Int] = [:]

  /// Statistics without entries.
  package init(
    modelType: String?, tokens: Int, context: Int, sequences: Int, form: StatisticsForm = .means
  ) {
    self.form = form
    self.modelType = modelType
    self.tokens = tokens
    self.context = context
    self.sequences = sequences
  }

  /// Adds entries; a weight may have one only.
  package mutating func add(_ entries: [StatisticsEntry]) {
    for entry in entries { for tensor in entry.tensors(form) { append(tensor) } }
  }

  /// Adds counts; a layer may have one only.
  package mutating func add(_ layers: [ExpertTokens]) {
    for layer in layers { append(layer.tensor) }
  }

  /// Adds where the experts' statistics come from; a layer may have one only.
  package mutating func add(_ layers: [ExpertSources]) {
    for layer in layers { append(layer.tensor) }
  }

  /// Adds ranges of caches; a layer may have one only.
  package mutating func add(_ layers: [CacheRange]) {
    for layer in layers { append(layer.tensor) }
  }

  /// Adds the sums of squares of a weight's inputs, F32 [groups, columns], where counts has a number for each group. They
  /// are lent, and divided by `counts` in float32 when they are asked for; a group of count 0 has zeros.
  package mutating func add(_ weight: WeightName, sums: Bytes, columns: Int, counts: [Int]) {
    append(
      StatisticsTensor(
        name: "\(weight).mean_square", shape: [counts.count, columns], sums: sums,
        rowDivisors: counts.map(Float.init)))
    append(
      StatisticsTensor(
        name: "\(weight).count", dtype: .i64, shape: [counts.count], bytes: littleEndian(counts)))
  }

  private mutating func append(_ tensor: StatisticsTensor) {
    precondition(places[tensor.name] == nil, "'\(tensor.name)' was added twice")
    places[tensor.name] = tensors.count
    tensors.append(tensor)
  }

  /// The metadata of a statistics file, in order.
  package var metadata: [(key: String, value: String)] {
    [("format", form.format)] + (modelType.map { [("model_type", $0)] } ?? []) + [
      ("tokens", String(tokens)), ("context", String(context)), ("sequences", String(sequences)),
    ] + notes
  }

  /// Statistics from a file's tensors and metadata. Shapes and sizes are checked now, values when they are asked for.
  /// - Throws: `STAT_FORMAT`.
  package init(
    tensors: [StatisticsTensor], metadata: [(key: String, value: String)], file: String? = nil,
    form: StatisticsForm = .means
  ) throws(FormatError) {
    func text(_ key: String) throws(FormatError) -> String {
      guard let found = metadata.first(where: { $0.key == key }) else {
        throw FormatError(.statistics, file: file, subject: key, "is missing from the metadata")
      }
      return found.value
    }
    func number(_ key: String) throws(FormatError) -> Int {
      let found = try text(key)
      guard let value = Int(found), value >= 0 else {
        throw FormatError(
          .statistics, file: file, subject: key, "is '\(found)', expected a number of at least 0")
      }
      return value
    }
    let format = try text("format")
    guard format == form.format else {
      throw FormatError(
        .statistics, file: file, subject: "format", "is '\(format)', expected '\(form.format)'",
        help: format == StatisticsForm.sums.format
          ? "it is one part of a calibration: `smelt join` makes statistics of all of them" : nil)
    }
    self.init(
      modelType: try text("model_type"), tokens: try number("tokens"), context: try number("context"),
      sequences: try number("sequences"), form: form)
    self.file = file
    let known = Set(self.metadata.map(\.key))
    notes = metadata.filter { !known.contains($0.key) }
    for tensor in tensors {
      guard let count = Shape.checkedCount(tensor.shape.dimensions),
        tensor.dtype.byteCount(count) == tensor.bytes.count
      else {
        throw FormatError(
          .statistics, file: file, subject: tensor.name,
          "has \(tensor.bytes.count) bytes, expected \(tensor.dtype) \(tensor.shape)")
      }
      guard places[tensor.name] == nil else {
        throw FormatError(.statistics, file: file, subject: tensor.name, "appears twice")
      }
      append(tensor)
    }
    try checkLayout()
  }

  /// The entry of a weight, or nil when the file has none.
  /// - Throws: `STAT_FORMAT` for values that no calibration can give.
  package func entry(_ weight: WeightName) throws(FormatError) -> StatisticsEntry? {
    guard let square = squares(weight), let count = tensor("\(weight).count") else { return nil }
    var absmax: [Float]?
    if let tensor = tensor("\(weight).absmax") { absmax = try floats(tensor) }
    if form == .sums {
      return StatisticsEntry(
        weight, groups: square.shape.rows, columns: square.shape.columns, absmax: absmax,
        squareSums: try doubles(square), counts: try counts(count))
    }
    return StatisticsEntry(
      weight, groups: square.shape.rows, columns: square.shape.columns, absmax: absmax,
      meanSquare: try floats(square), counts: try counts(count))
  }

  /// How much each input channel of a weight matters, as far as its tokens can tell (`shrunkImportances`); nil when a group of it saw
  /// no token.
  /// - Throws: `STAT_FORMAT`.
  package func importance(_ weight: WeightName) throws(FormatError) -> ImportanceView? {
    guard let reach = try reach(weight), reach.counts.allSatisfy({ $0 > 0 }),
      let square = squares(weight)
    else { return nil }
    var absmax: [Float]?
    if let tensor = tensor("\(weight).absmax") { absmax = try floats(tensor) }
    let values = shrunkImportances(try floats(square), absmax: absmax, counts: reach.counts)
    return ImportanceView(groups: reach.groups, columns: reach.columns, values: values)
  }

  /// Groups, input channels and tokens of a weight's entry, without its values.
  func reach(_ weight: WeightName) throws(FormatError) -> (groups: Int, columns: Int, counts: [Int])? {
    guard let square = squares(weight), let count = tensor("\(weight).count") else { return nil }
    return (square.shape.rows, square.shape.columns, try counts(count))
  }

  /// Tokens each expert of a layer got, or nil when the layer has no experts.
  /// - Throws: `STAT_FORMAT`.
  package func expertTokens(layer: Int) throws(FormatError) -> ExpertTokens? {
    guard let tensor = tensor(ExpertTokens.tensorName(layer)) else { return nil }
    return ExpertTokens(layer: layer, counts: try counts(tensor))
  }

  /// All layers' counts, in ascending order of the layers.
  /// - Throws: `STAT_FORMAT`.
  package func expertTokens() throws(FormatError) -> [ExpertTokens] {
    var found: [ExpertTokens] = []
    for layer in tensors.compactMap({ ExpertTokens.layer(ofTensor: $0.name) }).sorted() {
      if let tokens = try expertTokens(layer: layer) { found.append(tokens) }
    }
    return found
  }

  /// Refuses statistics of another model: another `model_type` where it is known, weights the model lacks, other shapes, other experts.
  /// - Throws: `STAT_MISMATCH` naming the first difference.
  package func check(modelType: String, experts: Int, weights: [WeightSpec]) throws(FormatError) {
    func refuse(_ subject: String, _ problem: String) -> FormatError {
      FormatError(.statisticsMismatch, file: file, subject: subject, problem)
    }
    if let found = self.modelType, found != modelType {
      throw refuse("model_type", "is '\(found)', expected '\(modelType)'")
    }
    let specs = Dictionary(weights.map { ($0.name.description, $0) }) { first, _ in first }
    for tensor in tensors {
      if ExpertTokens.layer(ofTensor: tensor.name) != nil {
        guard tensor.shape.count == experts else {
          throw refuse(tensor.name, "has \(tensor.shape.count) experts, expected \(experts)")
        }
      } else if ExpertSources.layer(ofTensor: tensor.name) != nil {
        guard tensor.shape.rows == experts else {
          throw refuse(tensor.name, "has \(tensor.shape.rows) experts, expected \(experts)")
        }
      } else if CacheRange.layer(ofTensor: tensor.name) != nil {
        continue
      } else if let kind = [".absmax", form.squares].first(where: { tensor.name.hasSuffix($0) }) {
        let name = String(tensor.name.dropLast(kind.count))
        guard let spec = specs[name] else {
          throw refuse(name, "has statistics, but the model has no such weight")
        }
        let expected: Shape = [spec.inputGroups, spec.shape.columns]
        guard tensor.shape == expected else {
          throw refuse(tensor.name, "is \(tensor.shape), expected \(expected)")
        }
      }
    }
  }

  private func squares(_ weight: WeightName) -> StatisticsTensor? { tensor("\(weight)\(form.squares)") }

  func tensor(_ name: String) -> StatisticsTensor? { places[name].map { tensors[$0] } }
}

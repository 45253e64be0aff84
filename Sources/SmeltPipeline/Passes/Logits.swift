// `logits`: what the model says about given token ids, as a safetensors file that other tools can compare with.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// Reads `{"sequences": [[1, 2, 3], …]}`.
/// - Throws: `TOKENS_FORMAT` naming the byte; ids must lie within the vocabulary.
package func readTokenFile(_ path: String, for model: Model) throws -> [[Int]] {
  let vocabulary = model.family.dimensions.vocabulary
  let bytes = try readSmallFile(path, limit: 1 << 30, code: .tokens)
  func refuse(_ offset: Int, _ problem: String) -> FormatError {
    FormatError(.tokens, file: path, subject: "sequences", offset: offset, problem)
  }
  let json: JSON
  do {
    json = try JSON.scan(bytes, limits: JSONLimits(depth: 8, values: 100_000_000))
  } catch {
    throw refuse(error.offset, error.problem)
  }
  guard let list = json["sequences"]?.array, !list.isEmpty else {
    throw refuse(json.offset, "found no list 'sequences', or an empty one")
  }
  return try list.map { sequence in
    guard let ids = sequence.array, !ids.isEmpty else {
      throw refuse(sequence.offset, "found \(sequence.kind), expected a list of ids")
    }
    return try ids.map { id in
      guard let number = id.integer, (0..<vocabulary).contains(number) else {
        throw refuse(
          id.offset, "found \(id.integer.map(String.init) ?? id.kind), expected an id below \(vocabulary)")
      }
      return number
    }
  }
}

/// Runs the sequences and writes `logits.i`, and on request `hidden.i.L`, `experts.i.L` and `expert_weights.i.L`.
/// - Throws: `OUT_ALIASES_INPUT`; `RequestError` cannot-create, io, interrupted.
package func writeLogits(
  _ model: Model, sequences: [[Int]], to path: String, hiddenStates: Bool, routing: Bool, overwrite: Bool,
  _ options: RunOptions
) throws {
  try model.requireForwardPass()
  try requireName(path)
  try model.refuseAlias(path)
  try options.holding([path], "logits") {
    try writingLogits(
      model, sequences: sequences, to: path, hiddenStates: hiddenStates, routing: routing,
      overwrite: overwrite, options)
  }
}

private func writingLogits(
  _ model: Model, sequences: [[Int]], to path: String, hiddenStates: Bool, routing: Bool, overwrite: Bool,
  _ options: RunOptions
) throws {
  let replacement = Replacement(overwrite: overwrite, .logits)
  try requireCreatable(path, replacing: replacement)
  let windows = Windows(sequences, context: sequences.map(\.count).max() ?? 0)
  windows.warnOfLength(model.family.dimensions, streams: 1, options)
  let groups = windows.groups(model.family.dimensions, streams: 1, maxMemory: options.maxMemory)
  options.progress.begin("logits", total: model.family.dimensions.layers, unit: "layers")
  let cache = WeightCache([model], groups.count > 1 ? .withinLayers : .never, options)
  let outputs = LogitsOutputs(
    try ScratchFile(in: ScratchFile.temporaryFolder), hiddenStates: hiddenStates, routing: routing)
  try outputs.run(model.family, cache.weights(), cache, groups, options)
  options.progress.end()
  try model.checkUnchanged()
  try outputs.write(path, replacement)
}

/// The outputs of a run on their way into a file: all of them may be larger than memory, and only at the end is it known which
/// there are.
private final class LogitsOutputs {
  /// Bytes that are copied at once.
  private static let pieceBytes = 4 << 20

  private let scratch: ScratchFile
  private let hiddenStates: Bool
  private let routing: Bool
  private var tensors: [Output] = []
  /// The place of each name among `tensors`.
  private var numbers: [String: Int] = [:]

  /// A tensor, and where its rows lie: in one place, or of a window in pieces in several.
  private struct Output {
    var name: String
    var dtype: DType
    var rows: Int
    /// Behind the rows.
    var shape: [Int]
    var places: [Range<Int>]

    var declaration: SafetensorsWriter.Declaration {
      SafetensorsWriter.Declaration(name, dtype, Shape([rows] + shape))
    }
  }

  init(_ scratch: ScratchFile, hiddenStates: Bool, routing: Bool) {
    self.scratch = scratch
    self.hiddenStates = hiddenStates
    self.routing = routing
  }

  /// Layers outside, groups of sequences inside; then the logits.
  func run(
    _ family: some ModelFamily, _ weights: some Weights, _ cache: WeightCache, _ groups: [TokenBatch],
    _ options: RunOptions
  ) throws {
    let dimensions = family.dimensions
    let pass = Pass(parallel: options.parallel)
    /// The sequences before each group; further pieces of one count as that one.
    let firsts = groups.reduce(into: [0]) {
      $0.append($0[$0.count - 1] + ($1.following.isEmpty ? $1.sequenceCount : 0))
    }
    var stream = try TokenStream(groups, family, weights, folder: ScratchFile.temporaryFolder)
    try LayerPass(family, cache, options.progress).run { layer in
      var group = 0
      try stream.update(pass) { batch, _, x, pass in
        let route = try family.layer(layer, &x, batch, weights, pass)
        for sequence in 0..<batch.sequenceCount {
          let name = "\(firsts[group] + sequence).\(layer)"
          let range = batch.range(sequence)
          if hiddenStates {
            let shape =
              dimensions.streams > 1 ? [dimensions.streams, dimensions.hidden] : [dimensions.hidden]
            try add("hidden.\(name)", .f32, range.count, shape, x[range].values)
          }
          if routing, let route {
            let places = range.lowerBound * route.perToken..<range.upperBound * route.perToken
            let shape = [route.perToken]
            try add("experts.\(name)", .i32, range.count, shape, Array(route.experts[places]))
            try add("expert_weights.\(name)", .f32, range.count, shape, Array(route.weights[places]))
          }
        }
        group += 1
      }
    }
    var group = 0
    try stream.forEach(pass) { batch, _, x, pass in
      let start = scratch.byteCount
      try forEachLogits(family, x, batch, weights, pass) { logits, _ in
        try logits.values.withUnsafeBytes { try scratch.write($0, at: scratch.byteCount) }
      }
      let row = dimensions.vocabulary * 4
      for sequence in 0..<batch.sequenceCount {
        let range = batch.range(sequence)
        note(
          "logits.\(firsts[group] + sequence)", .f32, range.count, [dimensions.vocabulary],
          start + range.lowerBound * row..<start + range.upperBound * row)
      }
      group += 1
    }
  }

  private func add<T: BitwiseCopyable>(
    _ name: String, _ dtype: DType, _ rows: Int, _ shape: [Int], _ values: [T]
  ) throws {
    let start = scratch.byteCount
    try values.withUnsafeBytes { try scratch.write($0, at: start) }
    note(name, dtype, rows, shape, start..<scratch.byteCount)
  }

  /// Rows of a tensor lie in the file; those of a further piece come behind the others.
  private func note(_ name: String, _ dtype: DType, _ rows: Int, _ shape: [Int], _ place: Range<Int>) {
    if let number = numbers[name] {
      tensors[number].rows += rows
      tensors[number].places.append(place)
    } else {
      numbers[name] = tensors.count
      tensors.append(Output(name: name, dtype: dtype, rows: rows, shape: shape, places: [place]))
    }
  }

  /// Writes the file, one tensor after the other.
  func write(_ path: String, _ replacement: Replacement) throws {
    var writer = try SafetensorsWriter(
      path: path, tensors: tensors.map(\.declaration), metadata: [("format", "smelt.logits/1")],
      replacing: replacement)
    for tensor in tensors {
      for place in tensor.places {
        for start in stride(from: place.lowerBound, to: place.upperBound, by: LogitsOutputs.pieceBytes) {
          let length = min(LogitsOutputs.pieceBytes, place.upperBound - start)
          let bytes = try [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            try scratch.read(into: UnsafeMutableRawBufferPointer(buffer), at: start)
            count = length
          }
          try writer.write(tensor.name, bytes)
        }
      }
    }
    _ = try writer.commit()
  }
}

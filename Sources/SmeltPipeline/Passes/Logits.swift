// `logits`: what the model says about given token ids, as a safetensors file that other tools can compare with.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// Reads `{"sequences": [[1, 2, 3], …]}`.
/// - Throws: `TOKENS_FORMAT` naming the byte; ids must lie within the vocabulary.
public func readTokenFile(_ path: String, for model: Model) throws -> [[Int]] {
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
public func writeLogits(
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
  let family = model.family
  let dimensions = family.dimensions
  let pass = Pass(parallel: options.parallel)
  var tensors: [(name: String, dtype: DType, shape: Shape, values: [UInt8])] = []
  func add(_ name: String, _ dtype: DType, _ shape: Shape, _ bytes: UnsafeRawBufferPointer) {
    tensors.append((name, dtype, shape, Array(bytes)))
  }
  let windows = Windows(sequences, context: sequences.map(\.count).max() ?? 0)
  let groups = windows.groups(dimensions, streams: 1, maxMemory: options.maxMemory)
  options.progress.begin("logits", total: groups.count * dimensions.layers, unit: "layers")
  let cache = WeightCache([model], groups.count > 1 ? .always : .never, options)
  let weights = cache.weights()
  var first = 0
  for batch in groups {
    let x = try runLayers(family, batch, weights, cache, pass, options.progress) { layer, x, route in
      for sequence in 0..<batch.sequenceCount {
        let range = batch.range(sequence)
        let index = first + sequence
        if hiddenStates {
          let shape: Shape =
            dimensions.streams > 1
            ? [range.count, dimensions.streams, dimensions.hidden] : [range.count, dimensions.hidden]
          x[range].values.withUnsafeBytes { add("hidden.\(index).\(layer)", .f32, shape, $0) }
        }
        if routing, let route {
          let places = range.lowerBound * route.perToken..<range.upperBound * route.perToken
          let shape: Shape = [range.count, route.perToken]
          Array(route.experts[places]).withUnsafeBytes { add("experts.\(index).\(layer)", .i32, shape, $0) }
          Array(route.weights[places]).withUnsafeBytes {
            add("expert_weights.\(index).\(layer)", .f32, shape, $0)
          }
        }
      }
    }
    var logits: [Float] = []
    try eachLogits(family, x, batch, weights, pass) { chunk, _ in logits += chunk.values }
    for sequence in 0..<batch.sequenceCount {
      let range = batch.range(sequence)
      let places = range.lowerBound * dimensions.vocabulary..<range.upperBound * dimensions.vocabulary
      Array(logits[places]).withUnsafeBytes {
        add("logits.\(first + sequence)", .f32, [range.count, dimensions.vocabulary], $0)
      }
    }
    first += batch.sequenceCount
  }
  options.progress.end()
  try model.checkUnchanged()
  try writeSafetensors(path, tensors, metadata: [("format", "smelt.logits/1")], replacement)
}

/// Writes small tensors that are all in memory.
func writeSafetensors(
  _ path: String, _ tensors: [(name: String, dtype: DType, shape: Shape, values: [UInt8])],
  metadata: [(String, String)], _ replacement: Replacement
) throws {
  var writer = try SafetensorsWriter(
    path: path, tensors: tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) },
    metadata: metadata, replacing: replacement)
  for tensor in tensors { try writer.write(tensor.name, tensor.values) }
  try writer.commit()
}

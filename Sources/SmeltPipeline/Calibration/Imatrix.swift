// Statistics and importance matrices of llama.cpp: read for one of our models, and written for llama.cpp's tools.
// Formats/statistics.md, section 5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension Statistics {
  /// The note that lists what an importance matrix says of tensors that are no weights of the model.
  static let leftOutNote = "left_out"

  /// What an importance matrix says of a model's weights. Entries of layers beyond the model's, and of the absorbed form
  /// of latent attention, `attn_k_b` and `attn_v_b`, where the model has `attn_kv_b`, are left out; a note names them.
  /// - Throws: `STAT_FORMAT`; `STAT_MISMATCH` for entries that are no weights of the model, or of another size.
  init(_ file: ImatrixFile, for family: any ModelFamily) throws(FormatError) {
    let size = file.chunkSize ?? 0
    let (tokens, overflow) = (file.chunkCount ?? 0).multipliedReportingOverflow(by: size)
    self.init(
      modelType: nil, tokens: overflow ? .max : tokens, context: size, sequences: file.chunkCount ?? 0)
    self.file = file.path
    var stacks: [String: [WeightSpec]] = [:]
    for spec in family.weights where spec.isMultiplied { stacks[spec.name.base, default: []].append(spec) }
    var leftOut: [String] = []
    var counted: Set<Int> = []
    for entry in file.entries {
      let names = Statistics.weights(of: entry.name, in: stacks)
      guard !names.isEmpty else {
        guard Statistics.mayBeLeftOut(entry.name, stacks, layers: family.dimensions.layers) else {
          throw FormatError(
            .statisticsMismatch, file: file.path, subject: entry.name, offset: entry.offset,
            "has statistics, but the model has no such weight")
        }
        leftOut.append(entry.name)
        continue
      }
      for specs in names {
        try add(entry, specs, of: file)
        if specs[0].role.isRouted, entry.counts.count == specs.count, specs.count > 1,
          let layer = specs[0].layer,
          counted.insert(layer).inserted
        {
          add([ExpertTokens(layer: layer, counts: entry.counts)])
        }
      }
    }
    if !file.datasets.isEmpty { notes.append(("datasets", file.datasets.joined(separator: ", "))) }
    if !leftOut.isEmpty { notes.append((Statistics.leftOutNote, leftOut.joined(separator: ", "))) }
  }

  /// The weights that an entry tells of, stack by stack: one, or gate and up where they are one tensor.
  private static func weights(of name: String, in stacks: [String: [WeightSpec]]) -> [[WeightSpec]] {
    if let specs = stacks[name] { return [specs] }
    let fused = ".ffn_gate_up_exps.weight"
    guard name.hasSuffix(fused) else { return [] }
    return [".ffn_gate_exps.weight", ".ffn_up_exps.weight"].compactMap {
      stacks[name.dropLast(fused.count) + $0]
    }
  }

  private static func mayBeLeftOut(_ name: String, _ stacks: [String: [WeightSpec]], layers: Int) -> Bool {
    let pieces = name.split(separator: ".", omittingEmptySubsequences: false)
    guard pieces.count > 2, pieces[0] == "blk", let layer = Int(pieces[1]) else { return false }
    let absorbed = pieces[2] == "attn_k_b" || pieces[2] == "attn_v_b"
    return layer >= layers || absorbed && stacks["blk.\(layer).attn_kv_b.weight"] != nil
  }

  /// Adds an entry, cut into the experts of a stack, or into the input groups of a weight.
  private mutating func add(_ entry: ImatrixFile.Entry, _ specs: [WeightSpec], of file: ImatrixFile)
    throws(FormatError)
  {
    let columns = specs[0].shape.columns
    let groups = specs[0].inputGroups
    let rows = specs.count * groups
    // A tensor whose rows see inputs of their own is one matrix for llama-quantize, which has one row for all of them.
    let isShared = groups > 1 && specs.count == 1 && entry.valueCount == columns && entry.counts.count == 1
    guard isShared || entry.valueCount == rows * columns, rows % entry.counts.count == 0 else {
      throw FormatError(
        .statisticsMismatch, file: file.path, subject: entry.name, offset: entry.offset,
        "has \(entry.valueCount) values and \(entry.counts.count) counts, expected "
          + (rows == 1 ? "\(columns)" : "\(rows) × \(columns)") + " values")
    }
    if isShared {
      let sums = (0..<groups).flatMap { _ in entry.sums.array }
      add(
        specs[0].name, sums: Bytes(sums), columns: columns,
        counts: [Int](repeating: entry.counts[0], count: groups))
      return
    }
    for (index, spec) in specs.enumerated() {
      let sums = entry.sums[index * groups * columns * 4..<(index + 1) * groups * columns * 4]
      var counts = (0..<groups).map { entry.counts[(index * groups + $0) * entry.counts.count / rows] }
      if file.isLegacy, specs.count > 1, sums.holds(only: Float(counts[0])) { counts = counts.map { _ in 0 } }
      add(spec.name, sums: sums, columns: columns, counts: counts)
    }
  }
}

extension Bytes {
  /// Whether all of them are this float32, little-endian.
  fileprivate func holds(only value: Float) -> Bool {
    withUnsafeBytes { bytes in
      stride(from: 0, to: bytes.count, by: 4).allSatisfy {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) == value.bitPattern
      }
    }
  }
}

/// An importance matrix as a result of calibration: the weights of the layers, as llama-imatrix has them.
struct ImatrixSink: StatisticsSink, ~Copyable {
  private var writer: ImatrixWriter

  init(
    path: String, _ layout: StatisticsLayout, dataset: String, _ statistics: Statistics,
    _ replacement: Replacement
  ) throws {
    let entries = layout.sections.filter { $0.layer != nil }.flatMap { section in
      ImatrixSink.stacks(section.specs, \.name).map { base, specs in
        ImatrixWriter.Declaration(base, matrices: specs.count, columns: specs[0].shape.columns)
      }
    }
    writer = try ImatrixWriter(
      path: path, entries: entries, datasets: [dataset], chunkCount: statistics.sequences,
      chunkSize: statistics.context, tool: "smelt \(smeltVersion)", replacing: replacement)
  }

  mutating func write(_ layer: LearnedLayer) throws {
    // llama-imatrix leaves the output head out unless told otherwise, and so does this.
    for (base, stack) in ImatrixSink.stacks(layer.entries, \.weight) where base.hasPrefix("blk.") {
      let sums = stack.map(ImatrixSink.sums)
      try writer.write(base, sums: sums.flatMap(\.0), counts: sums.map(\.1))
    }
  }

  consuming func commit() throws { try writer.commit() }

  /// Experts of a stack together, everything in the order of first appearance.
  private static func stacks<T>(_ items: [T], _ name: (T) -> WeightName) -> [(base: String, items: [T])] {
    var places: [String: Int] = [:]
    var stacks: [(base: String, items: [T])] = []
    for item in items {
      let base = name(item).base
      if let place = places[base] {
        stacks[place].items.append(item)
      } else {
        places[base] = stacks.count
        stacks.append((base, [item]))
      }
    }
    return stacks
  }

  /// Sums of squares over all tokens of an entry, [columns], and the tokens. Input groups are added up: a tensor of a
  /// GGUF file has one row of importances for each expert and no more.
  private static func sums(_ entry: StatisticsEntry) -> ([Float], Int) {
    let sums = (0..<entry.columns).map { column in
      let sum = (0..<entry.groups).reduce(0.0) { sum, group in
        sum + Double(entry.meanSquare[group * entry.columns + column]) * Double(entry.counts[group])
      }
      return Float(min(sum, Double(Float.greatestFiniteMagnitude)))
    }
    return (sums, entry.counts.reduce(0, +))
  }
}

// What a comparison of some windows found, as a file: every number a double, so that what another machine adds up is what this one
// would have added. Formats/cluster.md, section 6.

import SmeltContainers
import SmeltStorage
import SmeltTensors

/// The numbers of a comparison by their names.
struct ComparisonNumbers {
  private(set) var lists: [(name: String, values: [Double])] = []

  /// The `format` of the metadata.
  static let format = "smelt.verify-part/1"

  // MARK: a comparison as numbers

  /// The numbers of a comparison whose layers were kept window by window.
  init(_ comparison: Comparison) {
    lists = [
      ("source_losses", comparison.sourceLosses), ("result_losses", comparison.resultLosses),
      ("divergences", comparison.divergences), ("same_top", comparison.sameTop.map { $0 ? 1 : 0 }),
      ("top5", comparison.top5), ("sample_divergences", comparison.sampleDivergences),
      ("forced_divergences", comparison.forcedDivergences),
      ("floor_divergences", comparison.floorDivergences),
      ("rounded_losses", comparison.rounded.losses),
      ("rounded_divergences", comparison.rounded.divergences), ("rounded_top5", comparison.rounded.top5),
      ("parity_divergences", comparison.parity.divergences),
      (
        "totals",
        [
          Double(comparison.rounded.sameTop), Double(comparison.parity.sameTop), comparison.parity.largest,
        ]
      ), ("largest", comparison.largest.numbers),
    ]
    for (layer, distances) in (comparison.windowLayers ?? []).enumerated() {
      lists.append(
        ("layers.\(layer)", distances.flatMap { [$0.squares, $0.source, $0.result, $0.product, $0.largest] }))
      guard let sums = comparison.routing[layer] else { continue }
      lists.append(("routing.\(layer)", [Double(sums.tokens), Double(sums.sameSet)]))
      lists.append(("chosen.\(layer)", sums.chosen.map(Double.init)))
      lists.append(("missed.\(layer)", sums.missed.map(Double.init)))
    }
    for (block, sums) in (comparison.drafts?.blocks ?? []).enumerated() {
      lists.append(
        (
          "drafts.\(block)",
          [Double(sums.accepted.source), Double(sums.accepted.result), Double(sums.sameTop)]
        ))
      lists.append(("draft_divergences.\(block)", sums.divergences))
    }
  }

  // MARK: the file

  /// Writes the file.
  /// - Throws: `RequestError` cannot-create, io.
  func write(_ path: String) throws {
    var writer = try SafetensorsWriter(
      path: path,
      tensors: lists.map { SafetensorsWriter.Declaration($0.name, .f64, [$0.values.count]) },
      metadata: [("format", ComparisonNumbers.format)], replacing: .sameBytes)
    for (name, values) in lists { try writer.write(name, values) }
    try writer.commit()
  }

  /// Reads a file.
  /// - Throws: `UNIT_MISMATCH` for one that holds something else; refusals of safetensors.
  init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    guard file.metadata.contains(where: { $0.0 == "format" && $0.1 == ComparisonNumbers.format }),
      file.tensors.allSatisfy({ $0.dtype == .f64 && $0.shape.rank == 1 })
    else { throw FormatError(.unitMismatch, file: path, "is not a part of a verification") }
    lists = file.tensors.map { tensor in
      (
        tensor.name,
        tensor.bytes.withUnsafeBytes { bytes in
          (0..<bytes.count / 8).map {
            Double(
              bitPattern: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
          }
        }
      )
    }
  }
}

/// Takes numbers of a file apart, and refuses those that no comparison has.
struct ComparisonReader {
  private let file: String
  private let lists: [String: [Double]]

  /// The numbers of a file.
  init(_ numbers: ComparisonNumbers, file: String) {
    self.file = file
    lists = Dictionary(numbers.lists.map { ($0.name, $0.values) }, uniquingKeysWith: { first, _ in first })
  }

  /// A list, of as many numbers as said.
  func list(_ name: String, count: Int? = nil) throws(FormatError) -> [Double] {
    guard let found = lists[name] else { throw refusal(name, "is missing") }
    if let count, found.count != count {
      throw refusal(name, "has \(found.count) numbers, expected \(count)")
    }
    return found
  }

  /// A list of whole numbers, not negative.
  func counts(_ name: String, count: Int? = nil) throws(FormatError) -> [Int] {
    var counts: [Int] = []
    for value in try list(name, count: count) { counts.append(try whole(value, name)) }
    return counts
  }

  /// A number as a whole one: of what a million parts count together, sums stay below 2^63.
  func whole(_ value: Double, _ name: String) throws(FormatError) -> Int {
    guard value >= 0, value <= 0x1p42, value.rounded() == value else {
      throw refusal(name, "holds \(value), expected a whole number of at least 0")
    }
    return Int(value)
  }

  /// A refusal.
  func refusal(_ name: String, _ problem: String) -> FormatError {
    FormatError(.unitMismatch, file: file, subject: name, problem)
  }
}

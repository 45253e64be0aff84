// The main path: every weight read, quantized as the plan says, and written. Work is cut into jobs of a few chunks of
// one weight; threads carry them out in any order, one consumer writes them in the plan's order. The bytes written
// depend on source, recipe and statistics alone.

import SmeltContainers
import SmeltModels
import SmeltQuantization
public import SmeltStorage
import SmeltTensors

internal import Synchronization

/// What a conversion did.
public struct ConvertSummary: Sendable {
  /// The result's path.
  public var path: String
  /// The result's size.
  public var byteCount: Int
  /// SHA-256 of the result's index, which holds a checksum of every stored byte.
  public var contentHash: String
  /// Bytes of the source tensors that were read.
  public var bytesIn: Int
  /// The ledger with what reading the data told.
  public var ledger: [LedgerEntry]
  /// Wall time of the whole conversion, syncing included.
  public var seconds: Double
  /// CPU time of the conversion, all threads together.
  public var processorSeconds: Double
  /// Peak resident memory of the process.
  public var peakMemoryBytes: Int

  /// Input bytes per second of wall time, in 10⁹.
  public var gigabytesPerSecond: Double { Double(bytesIn) / max(seconds, 1e-9) / 1e9 }
  /// Input bytes per second of CPU time, in 10⁹: what one core does.
  public var gigabytesPerCoreSecond: Double { Double(bytesIn) / max(processorSeconds, 1e-9) / 1e9 }
  /// Weights that were given another encoding.
  public var converted: [LedgerEntry] { ledger.filter { $0.fate == .converted } }
  /// How many of these hold exactly the source's numbers.
  public var exact: Int { converted.count { $0.inexactValues == 0 } }

  /// One line: the path, sizes, exactness, speed, hash.
  public var text: String {
    let entries = converted
    let kept = ledger.count { $0.fate == .copied }
    var line = "\(path): \(byteText(byteCount)) from \(byteText(bytesIn)); \(kept) weights kept"
    if !entries.isEmpty { line += ", \(entries.count) converted (\(exact) exact)" }
    line += "; \(fixed(seconds, 2)) s, \(fixed(gigabytesPerSecond, 2)) GB/s of input"
    line += " (\(fixed(gigabytesPerCoreSecond, 2)) a core); content hash \(contentHash)"
    return line
  }

  /// For machines.
  public var json: JSON {
    [
      "path": JSON(path), "bytes": JSON(byteCount), "content_hash": JSON(contentHash),
      "bytes_in": JSON(bytesIn),
      "converted": JSON(converted.count), "exact": JSON(exact),
      "inexact_values": JSON(converted.reduce(0) { $0 + ($1.inexactValues ?? 0) }), "seconds": JSON(seconds),
      "gigabytes_per_second": JSON(gigabytesPerSecond),
      "gigabytes_per_core_second": JSON(gigabytesPerCoreSecond),
      "peak_memory_bytes": JSON(peakMemoryBytes),
    ]
  }
}

/// A piece of one weight: some chunks of its codes.
struct ConvertJob: Sendable {
  /// Content of one job; a few chunks, so that a job is worth a thread's while.
  static let contentLimit = 4 * FrameCodec.chunkBytes

  /// The weight's place in the plan.
  let weight: Int
  /// The bytes of the codes that this job makes.
  let content: Range<Int>

  /// Whether these are the weight's first bytes.
  var isFirst: Bool { content.lowerBound == 0 }

  /// The jobs of a plan, in order.
  static func all(_ plan: Plan, _ targets: [ResultLayout]) -> [ConvertJob] {
    plan.weights.indices.flatMap { place in
      let length = targets[place].parts[0].byteCount
      return stride(from: 0, to: max(length, 1), by: contentLimit).map {
        ConvertJob(weight: place, content: $0..<min(length, $0 + contentLimit))
      }
    }
  }
}

/// What a job made.
struct ConvertedPiece: Sendable {
  var job: ConvertJob
  var form: FrameForm
  var chunks: [EncodedChunk]
  /// Scales of the rows that start in the piece.
  var scales: [UInt8]
  var inexactValues: Int
  /// The source bytes behind the piece, for the ledger's hash.
  var source: Bytes
}

/// Converts a model to an ingot.
/// - Throws: every refusal of the source's content; `RequestError` cannot-create, io, interrupted. Nothing is left
///   under the final name then.
public func convert(_ model: Model, to path: String, _ options: ConvertOptions) throws -> ConvertSummary {
  let start = (monotonicSeconds(), processorSeconds())
  let plan = try Plan(model, options)
  try model.refuseAlias(path)
  var writer = try IngotWriter(path: path, overwrite: options.overwrite)
  let converter = try Converter(model, plan, options)
  var ledger = plan.ledger
  let entryPlaces = Dictionary(
    ledger.enumerated().filter { $1.fate == .converted || $1.fate == .copied }.map { ($1.weight ?? "", $0) },
    uniquingKeysWith: { first, _ in first })

  let room = freeDiskBytes(parentFolder(path)).map { "; \(byteText($0)) free on the disk" } ?? ""
  options.run.progress.announce("\(path): \(plan.summary)\(room)")
  options.run.progress.begin("convert", total: plan.bytesOut, unit: "bytes")
  var scales: [UInt8] = []
  var hash = XXH64()
  var inexact = 0
  let jobs = ConvertJob.all(plan, converter.layouts)
  try options.run.parallel.ordered(jobs.count) {
    try converter.piece(jobs[$0])
  } consume: { piece in
    try Interrupt.check()
    let planned = plan.weights[piece.job.weight]
    let layout = converter.layouts[piece.job.weight]
    if piece.job.isFirst {
      try writer.beginWeight(
        name: planned.stored.spec.name.description, shape: planned.stored.spec.shape,
        encoding: planned.encoding.name)
      try writer.beginPart(
        .values, dtype: layout.parts[0].dtype, shape: layout.parts[0].shape, form: piece.form)
      (scales, hash, inexact) = ([], XXH64(), 0)
    }
    for chunk in piece.chunks { try writer.append(chunk) }
    piece.source.withUnsafeBytes { hash.update($0) }
    piece.source.evict()
    scales += piece.scales
    inexact += piece.inexactValues
    if piece.job.content.upperBound == layout.parts[0].byteCount {
      try writer.endPart()
      try converter.writeScales(scales, planned, layout, &writer)
      writer.endWeight()
      model.weights.finished(planned.stored.spec.name)
      if let place = entryPlaces[planned.stored.spec.name.description] {
        ledger[place].inexactValues = inexact
        ledger[place].sourceHash = hexadecimal(hash.value())
      }
    }
    options.run.progress.advance(piece.job.content.count)
  }
  options.run.progress.end()
  try model.checkUnchanged()
  try writer.addSmallFiles(of: model, ledger: ledger)
  let summary = try writer.finish(metadata: try provenance(model, options))
  return ConvertSummary(
    path: path, byteCount: summary.byteCount, contentHash: summary.contentHash, bytesIn: plan.bytesIn,
    ledger: ledger, seconds: monotonicSeconds() - start.0, processorSeconds: processorSeconds() - start.1,
    peakMemoryBytes: peakMemoryBytes())
}

/// The parts a weight will have.
struct ResultLayout: Sendable {
  let parts: [ResultPart]
  /// Bytes of one row of codes, or nil where rows are no whole number of bytes (kept packed tables).
  let rowBytes: Int
}

/// Makes pieces; used from any thread.
final class Converter: Sendable {
  let layouts: [ResultLayout]
  private let model: Model
  private let plan: Plan
  private let options: ConvertOptions
  private let forms: [FormBox]

  init(_ model: Model, _ plan: Plan, _ options: ConvertOptions) throws {
    self.model = model
    self.plan = plan
    self.options = options
    layouts = try plan.weights.map { planned in
      let spec = planned.stored.spec
      let parts: [ResultPart]
      if planned.isKept {
        parts = try model.partsOf(spec.name)
      } else {
        parts = try planned.encoding.layout(of: spec.shape, name: spec.name.description).map {
          ResultPart(
            name: $0.name, dtype: $0.dtypes[0], shape: $0.shape,
            byteCount: $0.dtypes[0].byteCount($0.shape.count) ?? 0)
        }
      }
      return ResultLayout(
        parts: parts, rowBytes: spec.shape.rows > 0 ? parts[0].byteCount / spec.shape.rows : 0)
    }
    forms = plan.weights.map { _ in FormBox() }
  }

  /// Carries out one job.
  func piece(_ job: ConvertJob) throws -> ConvertedPiece {
    let planned = plan.weights[job.weight]
    let weight = try model.weights.weight(planned.stored.spec.name)
    let content: Bytes
    var scales: [UInt8] = []
    var inexact = 0
    var source: Bytes
    if planned.isKept {
      content = weight.values.bytes[job.content]
      source = content
    } else {
      let rowBytes = layouts[job.weight].rowBytes
      let rows = job.content.lowerBound / rowBytes..<ceilDivide(job.content.upperBound, rowBytes)
      let own = ceilDivide(job.content.lowerBound, rowBytes)..<rows.upperBound
      var codes: [UInt8] = []
      if own.lowerBound > rows.lowerBound {  // the rest of a row that the piece before began
        codes = try quantize(weight, rows.lowerBound..<own.lowerBound, planned).values
      }
      let result = try quantize(weight, own, planned)
      codes += result.values
      scales = result.scales
      inexact = result.report.inexactValues
      let first = rows.lowerBound * rowBytes
      content = Bytes(codes)[job.content.lowerBound - first..<job.content.upperBound - first]
      source = weight.values.bytes[sliceBytes(weight.values.bytes.count, rows: own, of: weight.rows)]
    }
    let form = try form(job, content, planned, weight)
    let chunks = try stride(from: 0, to: content.count, by: FrameCodec.chunkBytes).map { start in
      try FrameCodec.encode(content[start..<min(content.count, start + FrameCodec.chunkBytes)], form)
    }
    return ConvertedPiece(
      job: job, form: form, chunks: chunks, scales: scales, inexactValues: inexact, source: source)
  }

  private func quantize(_ weight: Weight, _ rows: Range<Int>, _ planned: PlannedWeight) throws
    -> QuantizedRows
  {
    let decision = try options.recipe.decide(
      planned.stored.spec, source: weight.encoding, statistics: options.statistics)
    return try decision.scheme.quantize(weight, rows: rows, options: decision.options)
  }

  /// How the weight's codes are stored: decided by its first chunk, whichever job needs to know first.
  private func form(_ job: ConvertJob, _ content: Bytes, _ planned: PlannedWeight, _ weight: Weight) throws
    -> FrameForm
  {
    guard options.compression != .none else { return .raw }
    let dtype = layouts[job.weight].parts[0].dtype
    return try forms[job.weight].value.withLock { known in
      if let known { return known }
      var sample = content
      if !job.isFirst {
        let rowBytes = layouts[job.weight].rowBytes
        sample =
          planned.isKept
          ? weight.values.bytes
          : Bytes(
            try quantize(
              weight, 0..<min(weight.rows, ceilDivide(FrameCodec.chunkBytes, rowBytes)), planned
            ).values)
      }
      let form = try FrameCodec.choose(content: sample, dtype: dtype, compression: options.compression)
      known = form
      return form
    }
  }

  /// Writes the parts after the codes: the scales that the pieces brought, or the source's own.
  func writeScales(
    _ scales: [UInt8], _ planned: PlannedWeight, _ layout: ResultLayout, _ writer: inout IngotWriter
  ) throws {
    for part in layout.parts.dropFirst() {
      let bytes =
        planned.isKept
        ? try model.weights.weight(planned.stored.spec.name).part(part.name)?.bytes ?? Bytes([])
        : Bytes(scales)
      let form = try FrameCodec.choose(content: bytes, dtype: part.dtype, compression: options.compression)
      try writer.beginPart(part.name, dtype: part.dtype, shape: part.shape, form: form)
      for index in 0..<FrameCodec.chunkCount(bytes.count) {
        try writer.append(try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form))
      }
      try writer.endPart()
    }
  }
}

/// A frame's form, found out once; a lock that an array can hold.
private final class FormBox: Sendable {
  let value = Mutex<FrameForm?>(nil)
}

/// Sixteen hexadecimal digits.
func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}

/// What the ingot says about its origin. Nothing in it depends on the time, the machine or the number of threads.
private func provenance(_ model: Model, _ options: ConvertOptions) throws -> JSON {
  var source: [(String, JSON)] = [("container", JSON(model.containerName))]
  switch model.container {
  case .checkpoint(let checkpoint):
    source.append(("dialect", JSON(checkpoint.dialect)))
    source.append(
      (
        "files",
        JSON(checkpoint.source.files.map { ["name": JSON(fileName($0.path)), "bytes": JSON($0.byteCount)] })
      ))
  case .ingot(let ingot): source.append(("content_hash", JSON(ingot.file.contentHash)))
  }
  return [
    "format": "smelt.ingot/1", "tool": JSON("smelt \(smeltVersion)"), "family": JSON(model.family.modelType),
    "source": JSON(members: source), "recipe": options.recipe.json,
    "statistics": options.statistics.map { JSON(members: $0.metadata.map { ($0.key, JSON($0.value)) }) }
      ?? JSON(.null),
  ]
}

extension IngotWriter {
  /// Adds config, tokenizer and the model's other small files, and the ledger.
  mutating func addSmallFiles(of model: Model, ledger: [LedgerEntry]) throws {
    for (name, bytes) in try model.smallFiles() where name != Model.ledgerName {
      try addFile(name: name, bytes: bytes, compression: .auto)
    }
    let text = JSON(members: [("schema", "smelt.ledger/1"), ("ledger", JSON(ledger.map(\.json)))]).text(
      indented: false)
    try addFile(name: Model.ledgerName, bytes: Bytes(Array(text.utf8)), compression: .auto)
  }
}

extension Model {
  /// The ledger's name among an ingot's files.
  static let ledgerName = "ledger.json"

  /// The small files that came with the model, by name.
  func smallFiles() throws -> [(name: String, bytes: Bytes)] {
    switch container {
    case .checkpoint(let checkpoint): try checkpoint.smallFiles()
    case .ingot(let ingot):
      try ingot.file.fileNames.map { ($0, try ingot.file.file($0) ?? Bytes([])) }
    }
  }

  /// The parts of a weight as they are stored.
  func partsOf(_ name: WeightName) throws -> [ResultPart] {
    switch container {
    case .checkpoint(let checkpoint):
      checkpoint.stored(name).parts.map {
        ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.byteCount)
      }
    case .ingot(let ingot):
      (ingot.file.entry(name.description)?.parts ?? []).map {
        ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.frame.contentLength)
      }
    }
  }
}

/// The version of this program.
public let smeltVersion = "0.1.0"

// A GGUF model written by many machines: of a split one, each unit is a part; of one in a single file, a run of its bytes. Joined, the
// parts get a second name, and the runs are put one behind another.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

extension GGUFResult: SharedTarget {
  /// Each part is a unit; of a model in one file, each run of tensors.
  package func unitWork(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any UnitWork
  {
    let (layout, warnings) = try planned(path, plan, model, options)
    return try GGUFUnits(path, layout, plan, model, warnings, options)
  }
}

/// The units of a GGUF model.
struct GGUFUnits: UnitWork {
  let path: String
  let plan: Plan
  let model: Model
  let options: ConvertOptions
  let layout: GGUFPlan
  let warnings: [String]
  let units: UnitPlan

  init(
    _ path: String, _ layout: GGUFPlan, _ plan: Plan, _ model: Model, _ warnings: [String],
    _ options: ConvertOptions
  ) throws {
    (self.path, self.plan, self.model, self.options) = (path, plan, model, options)
    (self.layout, self.warnings) = (layout, warnings)
    let places = try GGUFResult.layout(layout, path, plan, model.family)
    if layout.parts.count > 1 {
      units = UnitPlan(plan, places)
    } else {
      let names = try plan.slabs.map { try GGUFResult.name(of: $0, plan, model.family) }
      let runs = UnitPlan.runs(plan, limit: options.unitBytes ?? UnitPlan.usualBytes(plan)) {
        names[$0] != names[$0 - 1]
      }
      units = UnitPlan(plan, runs, files: places.names, layout: places.hash) { unit, _ in
        "\(places.names[0]).unit-\(unit + 1)-of-\(runs.count)"
      }
    }
  }

  func sink(_ unit: ResultUnit, _ path: String) throws -> any UnitSink {
    // A file begins with its header.
    let isFirst = unit.number == 0 || layout.parts.count > 1
    return try GGUFUnitSink(
      path, layout, file: isFirst ? unit.resultFile : nil, GGUFAssembler(plan, model))
  }

  func join(_ parts: [UnitFile], ledger: [LedgerEntry]) throws -> ResultSummary {
    let replacement = Replacement(overwrite: options.overwrite, .gguf)
    try GGUFResult().requirePlace(path, overwrite: options.overwrite)
    if layout.parts.count > 1 {
      try options.run.parallel.ordered(parts.count) {
        try parts[$0].check()
      } consume: {
        options.run.progress.advance(1)
      }
      try GGUFWriter(adopting: parts.map(\.path), path: path, plan: layout, replacing: replacement).commit()
    } else {
      var writer = try FileWriter(path: path, replacing: replacement)
      for part in parts {
        // One that is not there is looked for first: what fails to open is the disk's fault.
        let isThere = pathKind(part.path) == .file
        let found = isThere ? try writer.append(contentsOf: part.path, sum: .xxh64) : nil
        guard let found, found.byteCount == part.byteCount, found.sum == part.sum else {
          throw part.refusal
        }
        options.run.progress.advance(1)
      }
      guard writer.position == layout.byteCount else {
        throw FormatError(
          .unitMismatch, file: path, "the parts have \(writer.position) bytes, expected \(layout.byteCount)")
      }
      try writer.commit()
    }
    return ResultSummary(byteCount: layout.byteCount, files: layout.paths(path), warnings: warnings)
  }
}

/// A part of a GGUF model, or a run of its bytes, being written.
private final class GGUFUnitSink: UnitSink {
  private var writer: FileWriter?
  private let assembler: GGUFAssembler
  private let alignment: Int
  private let sizes: [String: Int]
  /// Bytes of each tensor so far.
  private var filled: [String: Int] = [:]

  /// - Parameter file: the file of the model that the unit begins; nil where it goes on with one.
  init(_ path: String, _ layout: GGUFPlan, file: Int?, _ assembler: GGUFAssembler) throws {
    self.assembler = assembler
    alignment = layout.alignment
    sizes = Dictionary(
      layout.places.map { ($0.tensor.name, $0.tensor.byteCount) }, uniquingKeysWith: { first, _ in first })
    writer = try FileWriter(path: path, replacing: .sameBytes, sum: .xxh64)
    guard let file else { return }
    try writer?.write(layout.header(ofFile: file))
    if layout.parts[..<file].allSatisfy({ $0.tensors.isEmpty }), !layout.parts[file].tensors.isEmpty {
      try assembler.factors { try write($0, $1) }
    }
  }

  private func write(_ name: String, _ bytes: Bytes) throws {
    try bytes.withUnsafeBytes { try writer?.write($0) }
    filled[name, default: 0] += bytes.count
    if filled[name] == sizes[name] { try writer?.pad(to: alignment) }
  }

  func begin(_ slab: OutputMatrix, form: ChunkForm) throws { try assembler.begin(slab) }

  func append(_ piece: ConvertedPiece) throws { try assembler.append(piece) { try write($0, $1) } }

  func end(_ slab: OutputMatrix, others: [(part: ResultPart, bytes: Bytes)]) throws {
    try assembler.end(slab) { try write($0, $1) }
  }

  func finish() throws -> (byteCount: Int, sum: UInt64, counts: [Int]) {
    guard let writer = writer.take() else { preconditionFailure("a unit is finished once") }
    let written = try writer.commit()
    return (written.byteCount, written.sum ?? 0, [])
  }
}

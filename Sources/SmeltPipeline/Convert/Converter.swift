// Carries out the jobs of a conversion, from any thread.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// Makes pieces; used from any thread.
final class Converter: Sendable {
  let arranged: ArrangedWeights
  private let plan: Plan
  private let options: ConvertOptions
  private let forms: [FormBox]
  private let surveys: Surveys
  /// The slab of each weight that is rounded.
  private let slabs: [WeightName: Int]

  init(_ model: Model, _ plan: Plan, _ options: ConvertOptions) {
    arranged = ArrangedWeights(model, plan)
    self.plan = plan
    self.options = options
    forms = plan.slabs.map { _ in FormBox() }
    var slabs: [WeightName: Int] = [:]
    surveys = Surveys(
      plan.slabs.enumerated().compactMap { place, slab in
        let planned = plan.weights[slab.weight]
        guard !slab.isKept, slab.ownScheme == nil, planned.stored.prepared == nil else { return nil }
        slabs[planned.stored.spec.name] = place
        return (planned.stored.spec, planned.decision.scheme)
      })
    self.slabs = slabs
  }

  /// Carries out one job.
  func piece(_ job: ConvertJob) throws -> ConvertedPiece {
    let slab = plan.slabs[job.slab]
    let weight = try arranged.weight(slab)
    let content: Bytes
    var (scales, global): ([UInt8], [UInt8]) = ([], [])
    var inexact = 0
    var source: Bytes
    if slab.isKept {
      content = weight.values.bytes[job.content]
      source = content
    } else {
      // Pieces are cut between bytes; whole rows, or whole blocks of rows, are quantized for them.
      let block = plan.scheme(slab).rowBlock
      let unit = slab.rowBytes * block
      func row(_ unit: Int) -> Int { min(weight.rows, unit * block) }
      let last = row(ceilDivide(job.content.upperBound, unit))
      let rows = row(job.content.lowerBound / unit)..<last
      let own = row(ceilDivide(job.content.lowerBound, unit))..<last
      var codes: [UInt8] = []
      if own.lowerBound > rows.lowerBound {  // the rest of a row that the piece before began
        codes = try quantize(weight, rows.lowerBound..<own.lowerBound, slab, job.slab).values
      }
      let result = try quantize(weight, own, slab, job.slab)
      let isWhole = codes.isEmpty
      codes += result.values
      (scales, global) = (result.scales, result.global)
      inexact = result.report.inexactValues
      let first = rows.lowerBound * slab.rowBytes
      let made = Bytes(codes)
      try Converter.scan(
        isWhole ? made : Bytes(result.values), result, Shape([own.count, slab.shape.columns]), slab)
      content = made[job.content.lowerBound - first..<job.content.upperBound - first]
      source = weight.values.bytes[sliceBytes(weight.values.bytes.count, rows: own, of: weight.rows)]
    }
    let form = try form(job, content, slab, weight)
    var chunks: [EncodedChunk] = []
    if options.target.compression != nil {
      chunks = try stride(from: 0, to: content.count, by: FrameCodec.chunkBytes).map { start in
        try FrameCodec.encode(content[start..<min(content.count, start + FrameCodec.chunkBytes)], form)
      }
    }
    return ConvertedPiece(
      job: job, content: content, form: form, chunks: chunks, scales: scales, global: global,
      inexactValues: inexact, source: source,
      sourceHash: job.isFirst && job.content.upperBound == slab.parts[0].byteCount
        ? source.withUnsafeBytes { xxh64($0) } : nil)
  }

  /// What is written is read as any source is: every code legal, every scale a finite number above zero.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `Q_BLOCK`: a scheme is wrong, or memory is.
  private static func scan(_ codes: Bytes, _ rows: QuantizedRows, _ shape: Shape, _ slab: OutputMatrix) throws
  {
    guard shape.rows > 0, !(slab.encoding is Plain) else { return }
    let parts = try slab.encoding.layout(of: shape, name: slab.name).map { layout -> Part? in
      let dtype = slab.parts.first { $0.name == layout.name }?.dtype ?? layout.dtypes[0]
      let bytes =
        layout.name == .values ? codes : Bytes(layout.name == .globalScale ? rows.global : rows.scales)
      // A number of the whole weight comes with its first rows only.
      guard dtype.byteCount(layout.shape.count) == bytes.count else { return nil }
      return Part(layout.name, dtype: dtype, shape: layout.shape, bytes: bytes)
    }
    guard !parts.contains(where: { $0 == nil }) else { return }
    try Weight(name: slab.name, shape: shape, encoding: slab.encoding, parts: parts.compactMap { $0 })
      .validate()
  }

  private func quantize(_ weight: Weight, _ rows: Range<Int>, _ slab: OutputMatrix, _ place: Int) throws
    -> QuantizedRows
  {
    let planned = plan.weights[slab.weight]
    let scheme = plan.scheme(slab)
    var quantizing = try quantizeOptions(planned, weight)
    if slab.ownScheme != nil {
      // A tensor with a scheme of its own shares no number with others.
      quantizing.surveyed = try scheme.survey(weight, options: quantizing)
      return try scheme.quantize(weight, rows: rows, options: quantizing)
    }
    quantizing.surveyed = try surveys.number(planned.stored.spec.name, scheme) { name in
      guard let other = slabs[name], other != place else { return SurveyPart(weight, quantizing) }
      let part = try arranged.weight(plan.slabs[other])
      return SurveyPart(part, try quantizeOptions(plan.weights[plan.slabs[other].weight], part))
    }
    return try scheme.quantize(weight, rows: rows, options: quantizing)
  }

  /// How a weight's scales are chosen, its importance included: that is read when its turn comes, so that a plan stays small.
  private func quantizeOptions(_ planned: PlannedWeight, _ weight: Weight) throws -> QuantizeOptions {
    var quantizing = planned.decision.options
    let spec = planned.stored.spec
    if planned.usesImportance, weight.columns == spec.shape.columns {
      quantizing.importance = try options.recipe.decide(
        spec, source: planned.stored.encoding, statistics: options.statistics
      ).options.importance
    }
    return quantizing
  }

  /// How the slab's codes are stored: decided by its first chunk, whichever job needs to know first.
  private func form(_ job: ConvertJob, _ content: Bytes, _ slab: OutputMatrix, _ weight: Weight) throws
    -> ChunkForm
  {
    guard let compression = options.target.compression, compression != .raw else { return .raw }
    return try forms[job.slab].value.withLock { known in
      if let known { return known }
      var sample = content
      if !job.isFirst {
        let block = plan.scheme(slab).rowBlock
        let rows = 0..<min(weight.rows, ceilDivide(FrameCodec.sampleBytes, slab.rowBytes * block) * block)
        sample = slab.isKept ? weight.values.bytes : Bytes(try quantize(weight, rows, slab, job.slab).values)
      }
      let form = try FrameCodec.choose(
        content: sample, dtype: slab.parts[0].dtype, mode: slab.mode(compression))
      known = form
      return form
    }
  }

  /// The parts after the codes: the scales that the pieces brought, or the source's own.
  func others(_ slab: OutputMatrix, _ scales: [UInt8], _ global: [UInt8]) throws -> [(
    part: ResultPart, bytes: Bytes
  )] {
    guard slab.parts.count > 1 else { return [] }
    let weight = slab.isKept ? try arranged.weight(slab) : nil
    return slab.parts.dropFirst().map {
      ($0, weight?.part($0.name)?.bytes ?? Bytes($0.name == .globalScale ? global : scales))
    }
  }
}

/// A frame's form, found out once; a lock that an array can hold.
private final class FormBox: Sendable {
  let value = Mutex<ChunkForm?>(nil)
}

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
  private let states: [SlabState]
  private let pool = BufferPool()
  private let surveys: Surveys
  /// The slab of each weight that is rounded.
  private let slabs: [WeightName: Int]
  private let source: any ModelSource
  /// Whether the source is fetched from elsewhere.
  private let isFetched: Bool
  /// The first job whose source was not asked for ahead.
  private let ahead = Mutex(0)

  init(_ model: Model, _ plan: Plan, _ options: ConvertOptions) {
    arranged = ArrangedWeights(model, plan)
    source = model.source
    isFetched = RemoteModels.isRemote(model.path)
    self.plan = plan
    self.options = options
    states = plan.slabs.map { _ in SlabState() }
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

  /// Carries out one job. Its rows are walked once, as many at a time as lie in the processor's cache while they are hashed, looked
  /// at, rounded, held against the format and packed.
  func piece(_ job: ConvertJob) throws -> ConvertedPiece {
    let slab = plan.slabs[job.slab]
    let whole = try arranged.weight(slab)
    // Of what is fetched, this piece alone has to be in memory.
    let weight = try whole.window(
      slab.isKept
        ? job.content
        : sliceBytes(whole.values.bytes.count, rows: rows(job, slab, whole.rows).all, of: whole.rows))
    let line = ChunkLine(job, options.target.compression == nil ? nil : pool) { content in
      try self.form(job, content, slab, whole)
    }
    var piece = ConvertedPiece(job)
    var hash = hashesRows(slab) ? states[job.slab].hash.claim(job.content.lowerBound) : nil
    piece.isHashed = hash != nil || !hashesRows(slab)
    if slab.isKept {
      piece.content = weight.values.bytes[job.content]
      piece.source = piece.content
      try walk(weight, job, line, &hash)
    } else {
      try round(weight, slab, try quantizeOptions(whole, slab, job.slab), line, &piece, &hash)
    }
    piece.form = try line.finish(piece.content)
    piece.chunks = line.chunks
    if let hash { states[job.slab].hash.giveBack(hash, job.content.upperBound) }
    return piece
  }

  /// Whether a slab's rows are those of the source as it is stored, whose hash the ledger has.
  private func hashesRows(_ slab: OutputMatrix) -> Bool {
    slab.steps.isEmpty && plan.weights[slab.weight].stored.prepared == nil
  }

  /// Adds the source of a piece that comes behind all others of its slab, unless that was done where it was made.
  func hash(_ piece: ConvertedPiece) {
    guard !piece.isHashed else { return }
    let line = states[piece.job.slab].hash
    guard var hash = line.claim(piece.job.content.lowerBound) else {
      preconditionFailure("the pieces of a slab come one after another")
    }
    piece.source.withUnsafeBytes { hash.update($0) }
    line.giveBack(hash, piece.job.content.upperBound)
  }

  /// The hashes of a slab's sources, once all of its pieces are there.
  /// - Throws: refusals of the source.
  func sourceHashes(_ place: Int, _ model: Model) throws -> [String] {
    let slab = plan.slabs[place]
    return try [slab.weight, slab.other].compactMap { $0 }.map { weight in
      let stored = plan.weights[weight].stored
      guard !slab.steps.isEmpty || stored.prepared != nil else {
        return hexadecimal(states[place].hash.value)
      }
      return hexadecimal(
        try model.source.weight(stored.spec.name).values.bytes.withUnsafeBytes { xxh64($0) })
    }
  }

  /// Bytes that are kept: looked at where nobody has, and hashed.
  private func walk(_ weight: Weight, _ job: ConvertJob, _ line: ChunkLine, _ hash: inout XXH64?) throws {
    let content = weight.values.bytes
    let plain = weight.encoding as? Plain
    for start in stride(from: job.content.lowerBound, to: job.content.upperBound, by: FrameCodec.chunkBytes) {
      let range = start..<min(job.content.upperBound, start + FrameCodec.chunkBytes)
      try plain?.validate(weight, bytes: range)
      content[range].withUnsafeBytes { bytes in
        if line.isRaw { hash?.update(bytes) } else if let own = hash?.updateTwice(bytes) { line.know(own) }
      }
      try line.advance(content[job.content.lowerBound..<range.upperBound], sample: content[job.content])
    }
  }

  /// The rows that a job rounds, and those of them that begin in its piece.
  private func rows(_ job: ConvertJob, _ slab: OutputMatrix, _ count: Int) -> (
    all: Range<Int>, own: Range<Int>
  ) {
    let block = plan.scheme(slab).rowBlock
    let unit = slab.rowBytes * block
    func row(_ unit: Int) -> Int { min(count, unit * block) }
    let last = unit > 0 ? row(ceilDivide(job.content.upperBound, unit)) : count
    return (
      (unit > 0 ? row(job.content.lowerBound / unit) : 0)..<last,
      (unit > 0 ? row(ceilDivide(job.content.lowerBound, unit)) : 0)..<last
    )
  }

  /// Begins to fetch what the jobs behind one will read, where the source is fetched: as much as there is room for.
  func fetchAhead(_ jobs: [ConvertJob], _ place: Int) {
    guard isFetched else { return }
    let limit = RemoteModels.aheadBytes
    let next = ahead.withLock { ahead in
      let first = max(ahead, place)
      var room = limit - (place..<first).reduce(0) { $0 + fetched(jobs[$1]) }
      var end = first
      while end < min(jobs.count, place + 1 + Converter.jobsAhead) {
        room -= fetched(jobs[end])
        // What has no room now is asked for later, and not left to whoever needs it.
        guard room >= 0 || end <= place + 1 else { break }
        end += 1
      }
      ahead = max(ahead, end)
      return first..<end
    }
    for job in jobs[next] {
      let range = codes(of: job)
      guard !range.isEmpty else { continue }
      source.willNeed(plan.weights[plan.slabs[job.slab].weight].stored.spec.name, codes: range)
    }
  }

  /// The codes of its weight that a job is the first to read; none of what a method prepared.
  private func codes(of job: ConvertJob) -> Range<Int> {
    let slab = plan.slabs[job.slab]
    let stored = plan.weights[slab.weight].stored
    guard stored.prepared == nil else { return 0..<0 }
    let count = stored.contentBytes
    // Codes of a plain weight lie row after row, one that is kept is copied; of others the first piece takes all.
    if slab.steps.isEmpty, slab.isKept { return job.content }
    guard slab.steps.isEmpty, stored.encoding is Plain else { return 0..<(job.isFirst ? count : 0) }
    return sliceBytes(
      count, rows: rows(job, slab, stored.spec.shape.rows).all, of: stored.spec.shape.rows)
  }

  /// Bytes that are fetched for a job at most: requests begin and end between its weight's.
  private func fetched(_ job: ConvertJob) -> Int { codes(of: job).count + 2 * FetchedFile.cellBytes }

  /// Jobs whose source is fetched ahead: of many small weights as many as several connections have to do with.
  private static let jobsAhead = 32

  /// Rows that are rounded. Pieces are cut between bytes; whole rows, or whole blocks of rows, are quantized for them.
  private func round(
    _ weight: Weight, _ slab: OutputMatrix, _ quantizing: QuantizeOptions, _ line: ChunkLine,
    _ piece: inout ConvertedPiece, _ hash: inout XXH64?
  ) throws {
    let job = piece.job
    let scheme = plan.scheme(slab)
    let block = scheme.rowBlock
    let (rows, own) = rows(job, slab, weight.rows)
    let target = try PieceTarget(scheme.resultParts(of: weight), rows, of: weight.rows, block, pool)
    if own.lowerBound > rows.lowerBound {  // the rest of a row that the piece before began
      _ = try scheme.quantize(
        weight, rows: rows.lowerBound..<own.lowerBound, options: quantizing,
        into: target.target(rows.lowerBound..<own.lowerBound))
    }
    let first = rows.lowerBound * slab.rowBytes
    let content = job.content.lowerBound - first..<job.content.upperBound - first
    let source = weight.values.bytes
    let step = max(1, Converter.walkBytes / max(1, source.count / max(1, weight.rows)) / block) * block
    var start = own.lowerBound
    repeat {
      let some = start..<min(own.upperBound, start + step)
      if hash != nil {
        source[sliceBytes(source.count, rows: some, of: weight.rows)].withUnsafeBytes { hash?.update($0) }
      }
      // A piece may hold the rest of a block and nothing else; a weight without rows still has its number of the whole.
      if !some.isEmpty || some.lowerBound == 0 {
        piece.inexactValues +=
          try scheme.quantize(weight, rows: some, options: quantizing, into: target.target(some))
          .inexactValues
        try Converter.scan(target, some, Shape([some.count, slab.shape.columns]), slab)
      }
      let end = max(content.lowerBound, min(content.upperBound, target.end(of: some)))
      try line.advance(target.bytes(.values, content.lowerBound..<end))
      start = some.upperBound
    } while start < own.upperBound
    piece.content = target.bytes(.values, content)
    piece.scales = target.array(.scales, own)
    piece.global = target.array(.globalScale, own)
    piece.zeroPoints = target.array(.zeroPoints, own)
    piece.source = source[sliceBytes(source.count, rows: own, of: weight.rows)]
  }

  /// Bytes of the source that are walked at a time: with the codes they become, less than a second-level cache.
  private static let walkBytes = 512 << 10

  /// What is written is read as any source is: every code legal, every scale a finite number above zero.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `Q_BLOCK`: a scheme is wrong, or memory is.
  private static func scan(_ target: PieceTarget, _ rows: Range<Int>, _ shape: Shape, _ slab: OutputMatrix)
    throws
  {
    guard shape.rows > 0, !(slab.encoding is Plain) else { return }
    let parts = try slab.encoding.layout(of: shape, name: slab.name).map { layout -> Part? in
      let dtype = slab.parts.first { $0.name == layout.name }?.dtype ?? layout.dtypes[0]
      guard let bytes = target.bytes(layout.name, of: rows),
        // A number of the whole weight comes with its first rows only.
        dtype.byteCount(layout.shape.count) == bytes.count
      else { return nil }
      return Part(layout.name, dtype: dtype, shape: layout.shape, bytes: bytes)
    }
    guard !parts.contains(where: { $0 == nil }) else { return }
    try Weight(name: slab.name, shape: shape, encoding: slab.encoding, parts: parts.compactMap { $0 })
      .validate()
  }

  /// How some rows are rounded, with the number that they need to know of the whole weight.
  private func quantizeOptions(_ weight: Weight, _ slab: OutputMatrix, _ place: Int) throws -> QuantizeOptions
  {
    let planned = plan.weights[slab.weight]
    let scheme = plan.scheme(slab)
    var quantizing = try quantizeOptions(planned, weight)
    if slab.ownScheme != nil {
      // A tensor with a scheme of its own shares no number with others.
      quantizing.surveyed = try scheme.survey(weight, options: quantizing)
      return quantizing
    }
    quantizing.surveyed = try surveys.number(planned.stored.spec.name, scheme) { name in
      guard let other = slabs[name], other != place else { return SurveyPart(weight, quantizing) }
      let part = try arranged.weight(plan.slabs[other])
      return SurveyPart(part, try quantizeOptions(plan.weights[plan.slabs[other].weight], part))
    }
    return quantizing
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

  /// How the slab's codes are stored: decided by its first chunks, whichever job needs to know first.
  private func form(_ job: ConvertJob, _ content: Bytes, _ slab: OutputMatrix, _ weight: Weight) throws
    -> ChunkForm
  {
    guard let compression = options.target.compression, compression != .raw else { return .raw }
    return try states[job.slab].form.withLock { known in
      if let known { return known }
      var sample = content
      if !job.isFirst {
        let block = plan.scheme(slab).rowBlock
        let rows = 0..<min(weight.rows, ceilDivide(FrameCodec.sampleBytes, slab.rowBytes * block) * block)
        sample =
          slab.isKept
          ? weight.values.bytes
          : Bytes(
            try plan.scheme(slab).quantize(
              weight.window(sliceBytes(weight.values.bytes.count, rows: rows, of: weight.rows)), rows: rows,
              options: try quantizeOptions(weight, slab, job.slab)
            ).values)
      }
      let form = try FrameCodec.choose(
        content: sample, dtype: slab.parts[0].dtype, mode: slab.mode(compression))
      known = form
      return form
    }
  }

  /// The parts after the codes: the scales that the pieces brought, or the source's own.
  func others(_ slab: OutputMatrix, _ scales: [UInt8], _ global: [UInt8], _ zeros: [UInt8]) throws -> [(
    part: ResultPart, bytes: Bytes
  )] {
    guard slab.parts.count > 1 else { return [] }
    let weight = slab.isKept ? try arranged.weight(slab) : nil
    return slab.parts.dropFirst().map { part in
      let made = part.name == .globalScale ? global : part.name == .zeroPoints ? zeros : scales
      return (part, weight?.part(part.name)?.bytes ?? Bytes(made))
    }
  }
}

/// What the jobs of one slab share.
private final class SlabState: Sendable {
  /// The form of its codes, found out once.
  let form = Mutex<ChunkForm?>(nil)
  /// The hash of its source.
  let hash = HashLine()
}

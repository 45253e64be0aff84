// The work itself: threads carry out jobs in any order, one consumer hands what they made to the result in the plan's order.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension Converter {
  /// Carries out the jobs of all slabs that a result does not have yet.
  /// - Parameters:
  ///   - only: the slabs that are meant, by their places in the plan; nil: all.
  ///   - facts: gets what reading the source tells.
  /// - Throws: refusals of the source; unsupported where no number may change and one would; what the sink throws; interrupted.
  func carryOut(
    _ model: Model, _ plan: Plan, _ options: ConvertOptions, only: [Range<Int>]? = nil,
    into sink: any ResultSink, _ facts: inout LedgerFacts
  ) throws {
    var isOwn = [Bool](repeating: only == nil, count: plan.slabs.count)
    for range in only ?? [] { for slab in range { isOwn[slab] = true } }
    let done = sink.done
    let jobs = ConvertJob.all(plan.slabs).filter { isOwn[$0.slab] && done[plan.slabs[$0.slab].name] == nil }
    for slab in plan.slabs {
      guard let known = done[slab.name] else { continue }
      options.run.progress.advance(slab.parts[0].byteCount)
      if known.inexactValues > 0 { try options.requireExact(slab) }
      facts.add(known, of: slab)
    }
    var (scales, global, zeros): ([UInt8], [UInt8], [UInt8]) = ([], [], [])
    var inexact = 0
    try options.run.parallel.ordered(jobs.count) {
      self.fetchAhead(jobs, $0)
      return try self.piece(jobs[$0])
    } consume: { piece in
      try Interrupt.check()
      let slab = plan.slabs[piece.job.slab]
      if piece.job.isFirst {
        try sink.begin(slab, form: piece.form)
        (scales, global, zeros, inexact) = ([], [], [], 0)
      }
      try sink.append(piece)
      self.hash(piece)
      piece.source.evict()
      scales += piece.scales
      global += piece.global
      zeros += piece.zeroPoints
      inexact += piece.inexactValues
      if inexact > 0 { try options.requireExact(slab) }
      if piece.job.content.upperBound == slab.parts[0].byteCount {
        try sink.end(slab, others: try self.others(slab, scales, global, zeros))
        let found = SlabFacts(
          inexactValues: inexact, sourceHashes: try self.sourceHashes(piece.job.slab, model))
        facts.add(found, of: slab)
        try sink.ended(slab, found)
        self.arranged.finished(slab)
      }
      options.run.progress.advance(piece.job.content.count)
    }
  }
}

// `plan`: what a conversion will do, from headers alone. The same plan is what `convert` carries out.

import SmeltContainers
import SmeltModels
import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// A conversion before it begins.
package struct Plan: Sendable {
  /// The weights in the order of the family's table.
  package let weights: [PlannedWeight]
  /// The matrices of the result, in the order in which they will be written.
  package let slabs: [OutputMatrix]
  /// The ledger, without what only reading the data can tell.
  package let ledger: [LedgerEntry]
  /// Bytes of all source tensors.
  package let bytesIn: Int
  /// Bytes of the result's weights, before compression.
  package let bytesOut: Int
  /// What the conversion will hold in memory.
  package let peakMemoryBytes: Int
  /// Things worth saying about the source.
  package let warnings: [String]

  /// Tensors left out by named rules, by rule.
  package let leftOut: [LeftOut]
  /// Files beside the source's weights that the result does not take.
  package private(set) var leftFiles: [LeftFile] = []

  /// Whether a weight's numbers are stored in another way than the source's.
  var changesWeights: Bool { weights.contains { !$0.isKept || $0.stored.prepared != nil } }

  /// Whether blocks that draft tokens are among the weights.
  var holdsDrafts: Bool { keepsDraftKeys || weights.contains { $0.stored.spec.isDraft } }
  /// Whether keys of the configuration that count drafts are left alone: no family says which weights they mean.
  private let keepsDraftKeys: Bool

  /// Tensors left out by named rules.
  package var dropped: Int { ledger.count { $0.fate == .dropped } }

  /// Plans a conversion of a model.
  /// - Throws: `RequestError` when the recipe and the model do not fit, a lossy step meets `exactOnly`, or the result's
  ///   container cannot hold what the recipe asks for.
  package init(_ model: Model, _ options: ConvertOptions) throws {
    try options.drafts.check(model)
    keepsDraftKeys = model.family is UnknownArchitecture && !model.family.weights.contains { $0.isDraft }
    var stored: [StoredWeight] = []
    var beside: [(weight: StoredWeight, rule: LeftOut)] = []
    for weight in try model.storedWeights() {
      if let rule = options.drafts.leaves(weight.spec) ?? options.target.leaves(weight.spec, model) {
        beside.append((weight, rule))
      } else {
        stored.append(weight)
      }
    }
    let sources = Dictionary(uniqueKeysWithValues: stored.map { ($0.spec.name, $0.encoding) })
    let free = options.drafts == .keep ? stored.filter { !$0.spec.isDraft } : stored
    try options.recipe.check(free.map(\.spec)) { sources[$0.name] ?? Plain.f32 }
    func asked(_ stored: StoredWeight) throws -> QuantizeDecision {
      let draft = options.drafts.decision(stored.spec)
      var decision =
        try stored.prepared.map { PreparedScheme.decision($0) } ?? draft
        ?? options.recipe.decide(stored.spec, source: stored.encoding, statistics: options.statistics)
      if draft == nil {
        decision.activations = options.recipe.activations(for: stored.spec, source: stored.encoding)
      }
      return decision
    }
    var weights = try stored.map { try Plan.weight($0, asked($0), nil, model, options) }
    var levelled: [String] = []
    if options.target.isLoadedFused {
      let levelling = try Levelling(weights, isStrict: options.isStrict) { place, word, reason in
        let (stored, scheme) = (stored[place], word.scheme)
        // A method has chosen its codes: they have no other form.
        guard stored.prepared == nil else { return weights[place] }
        var decision = try asked(stored)
        decision.activations = word.activations
        let other = scheme.fallback(for: stored.encoding, shape: stored.spec.shape)
        decision.scheme = other?.scheme ?? scheme
        decision.note = other?.why ?? scheme.note(for: stored.encoding, shape: stored.spec.shape)
        return try Plan.weight(stored, decision, reason, model, options)
      }
      for (place, change) in levelling.changes { weights[place] = change.planned }
      levelled = levelling.warnings
    }
    self.weights = weights
    slabs = try options.target.slabs(weights, model)
    var bytesOut = [Int](repeating: 0, count: weights.count)
    for slab in slabs {
      let share = slab.other == nil ? slab.byteCount : slab.byteCount / 2
      bytesOut[slab.weight] += share
      if let other = slab.other { bytesOut[other] += slab.byteCount - share }
    }
    let taken = try options.target.takenScales(weights, model)
    ledger =
      Plan.ledger(weights, bytesOut, model, taken)
      + beside.flatMap { weight, rule in
        weight.tensors.map {
          LedgerEntry(
            source: $0.name, fate: .dropped, rule: rule.rule, bytesIn: $0.byteCount, bytesOut: 0,
            note: rule.reason)
        }
      }
    bytesIn = ledger.reduce(0) { $0 + $1.bytesIn }
    self.bytesOut = ledger.reduce(0) { $0 + $1.bytesOut }
    peakMemoryBytes = Plan.memory(weights, slabs, model, options)
    warnings =
      try model.warnings + options.remarks + levelled + options.target.remarks(weights, model, options)
    var leftOut = model.leftOut(besides: taken)
    for (weight, rule) in beside {
      let place = leftOut.firstIndex { $0.rule == rule.rule } ?? leftOut.count
      if place == leftOut.count { leftOut.append(rule) }
      leftOut[place].tensors += weight.tensors.count
      leftOut[place].bytes += weight.byteCount
    }
    self.leftOut = leftOut
    leftFiles = try model.leftFiles + options.target.leftFiles(self, model)
  }

  /// One weight as the result will hold it.
  private static func weight(
    _ stored: StoredWeight, _ asked: QuantizeDecision, _ why: String?, _ model: Model,
    _ options: ConvertOptions
  ) throws -> PlannedWeight {
    if asked.scheme.isEntropyCoded, options.target.compression ?? .raw == .raw {
      throw RequestError(
        .unsupported,
        "'\(stored.spec.name)' would be \(asked.scheme.name), which only a compressed .ingot stores in fewer bits",
        help: "choose int8-channel, or an .ingot as the result")
    }
    var (decision, reason) = try options.target.adapt(asked, stored, model)
    let usesImportance = decision.options.importance != nil
    decision.options.importance = nil
    let parts = stored.prepared == nil ? try Plan.parts(stored, decision, model, options) : [:]
    if !parts.isEmpty {
      decision.add(
        note: parts.keys.sorted().map { "\($0): \(parts[$0]?.name ?? "")" }.joined(separator: ", "))
    }
    let planned = PlannedWeight(
      stored: stored, decision: decision, usesImportance: usesImportance,
      reason: why ?? reason ?? options.drafts.reason(stored.spec)
        ?? options.recipe.reason(for: stored.spec, source: stored.encoding), parts: parts)
    if options.exactOnly, planned.step == .rounded {
      throw RequestError(
        .usage,
        "'\(stored.spec.name)' would be rounded by '\(decision.scheme.name)', and --exact-only allows no such step",
        help: "leave --exact-only away, or keep the weight by a recipe")
    }
    return planned
  }

  /// The schemes of the tensors that hold a weight, where the recipe and the container give them others than the weight's.
  private static func parts(
    _ stored: StoredWeight, _ decision: QuantizeDecision, _ model: Model, _ options: ConvertOptions
  ) throws -> [String: any Scheme] {
    var schemes: [String: any Scheme] = [:]
    for part in options.target.parts(of: stored.spec, model) {
      guard
        let asked = options.recipe.scheme(
          ofPart: part.tensor, part.shape, part.role, of: stored.spec, source: stored.encoding)
      else { continue }
      var own = decision
      own.scheme = asked
      let settled = try options.target.adapt(own, stored, model).decision.scheme
      if settled.name != decision.scheme.name { schemes[part.tensor] = settled }
    }
    return schemes
  }

  /// The scheme that rounds a slab.
  func scheme(_ slab: OutputMatrix) -> any Scheme { slab.ownScheme ?? weights[slab.weight].decision.scheme }

  private static func memory(
    _ weights: [PlannedWeight], _ slabs: [OutputMatrix], _ model: Model, _ options: ConvertOptions
  ) -> Int {
    let threads = options.run.parallel.threads
    let widest = weights.map { $0.stored.spec.shape.columns * 8 }.max() ?? 0
    let builtBytes = model.source.builtBytes(threads: threads)
    // An arranged weight is there decoded and in its new order, at most.
    let arranged =
      slabs.lazy.filter { !$0.steps.allSatisfy { $0 == .copied } }.map { $0.shape.count * 8 }.max() ?? 0
    let tables = tableBytes * weights.count + statisticsBytes * (options.statistics?.tensors.count ?? 0)
    let blocks = slabs.lazy.map {
      $0.isKept ? 0 : $0.rowBytes * ($0.ownScheme ?? weights[$0.weight].decision.scheme).rowBlock
    }
    .max()
    return (47 << 20) + tables + builtBytes + (threads > 1 ? 2 : 1) * arranged + 2 * threads * (blocks ?? 0)
      + 2 * threads * (3 * ConvertJob.contentLimit + widest)
      + (weights.map { $0.stored.spec.shape.rows * 4 }.max() ?? 0)
  }

  /// What the tables of names take for each weight (headers, table, plan, ledger, index) and each tensor of the
  /// statistics; measured with 72 thousand weights.
  private static let tableBytes = 5 << 10
  private static let statisticsBytes = 640

  private static func ledger(
    _ weights: [PlannedWeight], _ bytesOut: [Int], _ model: Model, _ taken: Set<String>
  ) -> [LedgerEntry] {
    var ledger: [LedgerEntry] = []
    for (place, weight) in weights.enumerated() {
      let spec = weight.stored.spec
      let (codes, others) = (weight.stored.tensors[0], weight.stored.tensors.dropFirst())
      // Without a pass nothing stands beside it: all weights are the model.
      let kept: LedgerEntry.Fate = spec.isCarried && model.family.hasForwardPass ? .carried : .copied
      ledger.append(
        LedgerEntry(
          source: codes.name, fate: weight.isKept && weight.stored.prepared == nil ? kept : .converted,
          rule: weight.reason, weight: spec.name.description, role: spec.role.rawValue,
          scheme: weight.decision.scheme.name, bytesIn: codes.byteCount, bytesOut: bytesOut[place],
          note: weight.decision.note, step: weight.step))
      for other in others {
        ledger.append(
          LedgerEntry(
            source: other.name, fate: .joined, rule: "belongs to '\(codes.name)'",
            weight: spec.name.description, role: spec.role.rawValue,
            scheme: weight.decision.scheme.name, bytesIn: other.byteCount, bytesOut: 0))
      }
    }
    for tensor in model.source.droppedTensors {
      guard !taken.contains(tensor.name) else {
        ledger.append(
          LedgerEntry(
            source: tensor.name, fate: .joined,
            rule: "a scale of activations or caches that the result gives",
            bytesIn: tensor.byteCount, bytesOut: tensor.byteCount))
        continue
      }
      ledger.append(
        LedgerEntry(
          source: tensor.name, fate: .dropped, rule: tensor.rule.name, bytesIn: tensor.byteCount, bytesOut: 0,
          note: tensor.rule.reason))
    }
    return ledger
  }

  /// The contract's JSON. What no rule explains is refused before there is a plan, so `unknown` is empty.
  package var json: JSON {
    [
      "schema": "smelt.plan/1", "ledger": JSON(ledger.map(\.json)), "bytes_in": JSON(bytesIn),
      "bytes_out": JSON(bytesOut),
      "peak_memory_bytes": JSON(peakMemoryBytes), "dropped": JSON(dropped), "unknown": JSON(0),
      "warnings": JSON(warnings.map { JSON($0) }),
      "left_out": JSON(leftOut.map(\.json)), "left_files": JSON(leftFiles.map(\.json)),
    ]
  }

  /// What a person reads: fates, roles and schemes, counted.
  package var text: String {
    var table = Table(["fate", "role", "scheme", "tensors", "bytes in", "bytes out"])
    var groups: [(key: [String], count: Int, bytesIn: Int, bytesOut: Int)] = []
    for entry in ledger {
      let role = entry.fate == .joined ? "" : entry.role ?? ""
      let key = [entry.fate.rawValue, role, entry.scheme ?? entry.rule]
      if let place = groups.firstIndex(where: { $0.key == key }) {
        groups[place].count += 1
        groups[place].bytesIn += entry.bytesIn
        groups[place].bytesOut += entry.bytesOut
      } else {
        groups.append((key, 1, entry.bytesIn, entry.bytesOut))
      }
    }
    for group in groups {
      table.add(
        group.key + ["\(group.count)", byteText(group.bytesIn), byteText(group.bytesOut)])
    }
    let left = leftOut.map { "left out: \($0.text)" } + leftFiles.lines
    return ([table.text, summary] + [draftLine].compactMap { $0 } + warnings.map { "warning: \($0)" } + left)
      .joined(separator: "\n")
  }

  /// What becomes of blocks that draft tokens; nil without any.
  private var draftLine: String? {
    let drafts = weights.filter(\.stored.spec.isDraft)
    guard !drafts.isEmpty else { return nil }
    let kept = drafts.count { $0.isKept }
    return
      "MTP: \(drafts.count) weights of blocks that draft tokens are carried, \(kept) kept, \(drafts.count - kept) converted"
  }

  /// One line: sizes, memory, what is left out.
  var summary: String {
    "\(byteText(bytesIn)) in, at most \(byteText(bytesOut)) out, about \(byteText(peakMemoryBytes)) of memory, "
      + "\(dropped) dropped, 0 unknown"
  }
}

// Methods that look at calibration inputs: the pass walks the layers, and each weight is encoded as soon as what it is
// multiplied with is known. `convert` takes these weights as they are. Formats/methods.md.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A weight that a method will encode.
struct MethodTarget: Sendable {
  let spec: WeightSpec
  let decision: QuantizeDecision
  let grid: Grid
}

/// Runs the method over the calibration windows.
/// - Returns: the model with the chosen weights in place of its own.
func prepare(
  _ model: Model, _ windows: Windows, for result: String, _ method: MethodOptions, _ options: ConvertOptions
) throws -> Model {
  model.limitCache(options.run.maxMemory / 8)
  let plan = try Plan(model, options)
  let targets = try methodTargets(plan, options)
  guard !targets.isEmpty else { return model }
  let groups = windows.groups(model.family.dimensions, streams: 2, maxMemory: options.run.maxMemory)
  windows.warnOfLength(model.family.dimensions, streams: 2, options.run)
  let tooLarge = method.needsMoments ? method.tooLarge(targets, maxMemory: options.run.maxMemory) : []
  if let widest = tooLarge.compactMap({ targets[$0]?.spec.shape.columns }).max() {
    options.run.progress.announce(
      "\(grouped(tooLarge.count)) weights are rounded to nearest: the moments of \(grouped(widest)) inputs need \(byteText(2 * method.momentBytes(widest))) of --max-memory"
    )
  }
  let store = try PreparedStore(
    result: result, try identity(model, windows, groups, targets, tooLarge: tooLarge.count, options),
    resume: options.resumesPrepared, overwrite: options.overwrite)
  let preparation = Preparation(
    targets: targets, tooLarge: tooLarge, store: store, method: method, options: options,
    source: model.weights,
    surveys: Surveys(
      plan.weights.compactMap { planned in
        targets[planned.stored.spec.name].map { ($0.spec, $0.decision.scheme) }
      }))
  try store.keepingIfStopped {
    try preparation.run(model.family, model.weights, groups, folder: parentFolder(result))
  }
  var model = model
  model.prepared = store
  return model
}

/// What a method works on: program, model, recipe, statistics, tokens and how they are cut, and which weights it is for.
private func identity(
  _ model: Model, _ windows: Windows, _ groups: [TokenBatch], _ targets: [WeightName: MethodTarget],
  tooLarge: Int, _ options: ConvertOptions
) throws -> JSON {
  var tokens = XXH64()
  for sequence in windows.sequences + [[-1]] { sequence.withUnsafeBytes { tokens.update($0) } }
  var names = XXH64()
  for line in targets.map({ "\($0.key) \($0.value.decision.scheme.name)\n" }).sorted() {
    Array(line.utf8).withUnsafeBytes { names.update($0) }
  }
  var members: [(String, JSON)] = [
    ("schema", "smelt.prepared/1"), ("origin", try provenance(model, options)),
    ("files", try model.identity()), ("tokens_xxh64", JSON(hexadecimal(tokens.value()))),
    ("groups", JSON(groups.map { JSON($0.count) })), ("weights_xxh64", JSON(hexadecimal(names.value()))),
    ("weights", JSON(targets.count)), ("too_large", JSON(tooLarge)),
  ]
  if let bytes = options.budgetBytes { members.append(("budget_bytes", JSON(bytes))) }
  return JSON(members: members)
}

extension PreparedStore {
  /// What is done stays for another run where the work is stopped, and goes where it fails.
  func keepingIfStopped<T>(_ body: () throws -> T) throws -> T {
    do {
      return try body()
    } catch let error as RequestError where [.interrupted, .io, .cannotCreate].contains(error.kind) {
      keep()
      throw canResume ? error.offeringResume : error
    } catch let error as FormatError where error.code == .resumeMismatch {
      keep()  // a refusal touches nothing
      throw error
    }
  }
}

/// A method at work.
struct Preparation: Sendable {
  let targets: [WeightName: MethodTarget]
  /// Targets whose moments do not fit into the memory allowed.
  let tooLarge: Set<WeightName>
  let store: PreparedStore
  let method: MethodOptions
  let options: ConvertOptions
  /// The source's own weights, into which nothing is folded.
  let source: any Weights
  /// What fused weights share.
  let surveys: Surveys

  private var parallel: Parallel { options.run.parallel }

  /// Chooses factors where the method has them, then encodes layer by layer.
  /// - Parameters:
  ///   - groups: the calibration tokens, in groups that fit into memory.
  ///   - folder: where activations wait that do not.
  func run(_ family: some ModelFamily, _ weights: some Weights, _ groups: [TokenBatch], folder: String) throws
  {
    // All weights are there: a run that was stopped later has left them.
    guard store.sections < family.dimensions.layers else { return }
    let folding = try folding(family, weights, groups[0].wholeWindow())
    let folded = FoldedWeights(base: weights, factors: folding.factors)
    if method.needsMoments {
      try walk(family, folded, groups, folder, folding)
    } else {
      try forEachLayer(family) { layer in
        guard layer >= store.sections else { return }
        // What shares a number with a folded weight must be rounded with it.
        for spec in family.weights
        where spec.layer == layer
          && (folding.factors[spec.name] != nil || targets[spec.name] != nil && surveys.isShared(spec.name))
        {
          try Interrupt.check()
          try put(spec, folding, folded)
          folded.finished(spec.name)
        }
        try store.seal()
      }
    }
  }

  private func forEachLayer(_ family: some ModelFamily, _ body: (Int) throws -> Void) throws {
    options.run.progress.begin(
      method.method.rawValue, total: family.dimensions.layers, unit: "layers")
    try LayerPass(family, nil, options.run.progress).run(body)
    options.run.progress.end()
  }

  /// Runs the calibration tokens through the layers, and encodes each layer's weights by what they saw.
  ///
  /// Of one group of tokens, an expert's moments are whole when the layer is done with it. Of several, what the experts
  /// see waits in a file until the layer is over, and each expert runs over all of it, so that the moments of one expert
  /// are there at a time.
  private func walk(
    _ family: some ModelFamily, _ weights: some Weights, _ groups: [TokenBatch], _ folder: String,
    _ folding: Folding
  ) throws {
    var pass = Pass(parallel: parallel)
    pass.keepsExpertInputs = groups.count > 1
    pass.takesOneExpert = true
    let collecting = CollectingWeights(weights, self, folding)
    let tap = RouterTap(collecting, of: family)
    let replayed = OverlaidWeights(base: weights, store: store)
    var stream = try TokenStream(groups, family, weights, folder: folder)
    try forEachLayer(family) { layer in
      guard layer >= store.sections else {
        // A run that was stopped has left its weights: the tokens go through without being watched.
        return try stream.update(pass) { batch, _, x, pass in
          if method.isSequential {
            _ = try family.layer(layer, &x, batch, replayed, pass)
          } else {
            _ = try family.layer(layer, &x, batch, weights, pass)
          }
        }
      }
      let specs = family.weights.filter { $0.layer == layer }
      let inputs = groups.count > 1 ? RoutedInputs(try ScratchFile(in: folder)) : nil
      collecting.leavesExperts = inputs != nil
      func run(_ batch: TokenBatch, _ first: Int, _ x: inout Matrix, _ pass: Pass) throws {
        guard let inputs else {
          _ = try family.layer(layer, &x, batch, collecting, pass)
          return
        }
        let routing = try family.layer(layer, &x, batch, tap, pass)
        let seen = tap.drain()?.inputs
        if let routing, let read = routing.inputs ?? seen { try inputs.add(read, routing, first: first) }
      }
      if method.isSequential {
        try stream.forEach(pass) { batch, first, x, pass in
          var y = x
          try run(batch, first, &y, pass)
        }
      } else {
        try stream.update(pass, run)
      }
      collecting.leavesExperts = false
      if let inputs {
        for (expert, own) in specs.byExpert {
          try Interrupt.check()
          try collecting.keepingOpen {
            try inputs.forEach(expert) { _ = try family.expert(expert, layer: layer, $0, collecting, pass) }
          }
          try collecting.finish(own)
        }
      }
      try collecting.finish(specs)
      collecting.forget()
      try store.seal()
      if method.isSequential {
        try stream.update(pass) { batch, _, x, pass in
          _ = try family.layer(layer, &x, batch, replayed, pass)
        }
      }
    }
  }

  /// What folding changes, and what is said about it.
  struct Folding: Sendable {
    var factors: [WeightName: FoldFactors] = [:]
    var notes: [WeightName: String] = [:]
  }

  private func folding(
    _ family: some ModelFamily, _ weights: some Weights, _ tokens: TokenBatch
  ) throws -> Folding {
    var folding = Folding()
    guard method.method == .awq || method.method == .smooth, let statistics = options.statistics else {
      return folding
    }
    let chooser = FoldChooser(
      family: family, weights: weights, targets: targets, statistics: statistics, recipe: options.recipe,
      parallel: parallel)
    let pass = Pass(parallel: parallel)
    let batch = method.method == .awq ? tokens : TokenBatch([])
    var x = try family.embed(batch, weights)
    for layer in 0..<family.dimensions.layers {
      try Interrupt.check()
      let sites = FoldSite.all(family.weights.filter { $0.layer == layer && !$0.isCarried })
      let watched = SiteWeights(weights, sites)
      let before = x
      if batch.count > 0 { _ = try family.layer(layer, &x, batch, watched, pass) }
      try watched.take { moments in
        var chosen = try chooser.choose(method.method, layer: layer, moments)
        if method.method == .awq {
          chosen = try helpful(chosen, family, weights, layer, batch, before: before, after: x)
        }
        folding.factors.merge(FoldFactors.all(chosen.map { ($0.site, $0.factors) })) { _, new in new }
        for (site, _, note) in chosen {
          for name in [site.giver] + site.readers {
            folding.notes[name] = folding.notes[name].map { "\($0); \(note)" } ?? note
          }
        }
      }
    }
    return folding
  }

  /// The sites, one after another, whose factors bring the layer's rounded output nearer to the source's.
  private func helpful(
    _ chosen: [(site: FoldSite, factors: [Float], note: String)], _ family: some ModelFamily,
    _ weights: some Weights, _ layer: Int, _ batch: TokenBatch, before: Matrix, after: Matrix
  ) throws -> [(site: FoldSite, factors: [Float], note: String)] {
    var sequences = 1
    while sequences < batch.sequenceCount, batch.starts[sequences + 1] <= Preparation.judgedTokens {
      sequences += 1
    }
    let rows = 0..<batch.starts[sequences]
    let few = batch.first(sequences: sequences)
    let (input, output) = (before[rows], after[rows])
    let specs = targets.filter { $0.value.spec.layer == layer }.mapValues(\.spec)
    func error(_ sites: [(site: FoldSite, factors: [Float], note: String)]) throws -> Double {
      let factors = FoldFactors.all(sites.map { ($0.site, $0.factors) })
      let rounded = RoundedWeights(
        base: FoldedWeights(base: weights, factors: factors), specs: specs, recipe: options.recipe,
        statistics: options.statistics, parallel: parallel, factors: factors)
      var z = input
      _ = try family.layer(layer, &z, few, rounded, Pass(parallel: parallel))
      return zip(output.values, z.values).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    }
    var taken: [(site: FoldSite, factors: [Float], note: String)] = []
    var least = try error([])
    for choice in chosen {
      try Interrupt.check()
      let found = try error(taken + [choice])
      guard found < least else { continue }
      (taken, least) = (taken + [choice], found)
    }
    return taken
  }

  /// Tokens by which the factors of a site are judged.
  private static let judgedTokens = 4096

  /// Stores a folded weight: rounded where the recipe says so, else as it was stored if that holds it, else in float32.
  func put(_ spec: WeightSpec, _ folding: Folding, _ weights: some Weights) throws {
    if let target = targets[spec.name] { return try encode(target, nil, folding, weights) }
    let folded = try weights.weight(spec.name)
    let note = folding.notes[spec.name] ?? "as it is"
    for scheme in [PlainFloat.bf16, .f16] {
      let (result, report) = try scheme.quantize(folded, parallel: parallel)
      if report.inexactValues == 0 {
        return try store.put(
          spec.name, result, scheme: scheme.name, note: note, inexactValues: spec.shape.count,
          errors: try errors(spec.name, result))
      }
    }
    try store.put(
      spec.name, folded, scheme: PlainFloat.f32.name, note: note, inexactValues: spec.shape.count,
      errors: try errors(spec.name, folded))
  }

  /// Encodes a weight by the moments of its inputs, or to nearest where there are too few.
  /// - Parameter weights: the weights with what is folded into them.
  func encode(_ target: MethodTarget, _ moments: Moments?, _ folding: Folding, _ weights: some Weights) throws
  {
    let (scheme, name) = (target.decision.scheme, target.spec.name)
    let weight = try weights.weight(name)
    var decision = try decision(target, weight, folding)
    decision.options.surveyed = try surveys.number(name, scheme) { other in
      guard other != name, let target = targets[other] else { return SurveyPart(weight, decision.options) }
      let part = try weights.weight(other)
      return SurveyPart(part, try self.decision(target, part, folding).options)
    }
    var grid = target.grid
    if let coded = scheme as? Int8Coded {
      grid = grid.with(decision.options.surveyed.map { CodedScales(step: $0, group: coded.group) })
    }
    if scheme is NVFP4Scheme, let global = decision.options.surveyed { grid = grid.with(global: global) }
    let plain = try scheme.quantize(weight, options: decision.options, parallel: parallel)
    let tokens = moments?.tokens ?? 0
    var result = plain.weight
    var notes = [folding.notes[name], decision.note].compactMap { $0 }
    var inexact = plain.report.inexactValues
    if inexact > 0, tooLarge.contains(name) {
      notes.append(
        "rounded to nearest: \(method.method.rawValue) needs \(byteText(2 * method.momentBytes(weight.columns))) of --max-memory"
      )
    } else if inexact > 0, method.needsMoments, tokens < method.minTokens {
      notes.append(
        "rounded to nearest: \(tokens) tokens, \(method.method.rawValue) needs \(method.minTokens)")
    } else if inexact > 0, let moments {
      if method.method == .gptq,
        let outcome = try method.gptq.quantize(weight, to: grid, moments.all(), parallel: parallel)
      {
        result = outcome.weight
        inexact = outcome.report.inexactValues
        notes.append("gptq: \(tokens) tokens")
      }
      if method.distillRounds > 0 {
        let outcome = try Refinement(rounds: method.distillRounds, damping: method.gptq.damping(on: grid))
          .refine(
            weight, result, grid, seen: moments.seen, heldOut: moments.heldOut, parallel: parallel)
        result = outcome.weight
        let share = outcome.heldOut.after / max(outcome.heldOut.before, .leastNormalMagnitude)
        notes.append("distilled: held-out error × \(fixed(share, 3)), \(outcome.changedRows) rows")
      }
    }
    if notes.isEmpty { notes = [inexact == 0 ? "exact" : "rounded to nearest"] }
    try store.put(
      name, result, scheme: scheme.name, note: notes.joined(separator: "; "), inexactValues: inexact,
      errors: folding.factors[name] == nil
        ? WeightErrors.entry(weight, result, parallel) : try errors(name, result))
  }

  private func decision(_ target: MethodTarget, _ weight: Weight, _ folding: Folding) throws
    -> QuantizeDecision
  {
    var decision = try options.recipe.decide(
      target.spec, source: weight.encoding, statistics: options.statistics)
    if let multipliers = folding.factors[target.spec.name]?.multipliers {
      decision.options.importance = decision.options.importance?.divided(bySquaresOf: multipliers)
    }
    return decision
  }

  /// How far a weight's rows are from the source's own.
  private func errors(_ name: WeightName, _ result: Weight) throws -> WeightErrors.Entry {
    let own = try source.weight(name)
    defer { source.finished(name) }
    return WeightErrors.entry(own, result, parallel)
  }
}

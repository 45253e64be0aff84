// GGUF as a result: experts stacked, names, types and keys as llama.cpp's loader wants them. Formats/gguf.md, section 8.

package import SmeltContainers
package import SmeltModels
package import SmeltQuantization
package import SmeltStorage
import SmeltTensors
import SmeltTokenizers

/// Writes a GGUF model.
package struct GGUFResult: ResultTarget {
  /// `gguf`.
  package let name = "gguf"
  private let split: GGUFPlan.Split?
  /// What a recipe of llama.cpp is called, which names the file's type.
  private let recipeName: String?

  /// A GGUF model in one file, or in several.
  package init(split: GGUFPlan.Split? = nil, recipeName: String? = nil) {
    self.split = split
    self.recipeName = recipeName
  }

  /// A GGUF model.
  package var kind: OutputKind? { .gguf }

  /// Blocks are stored as they are.
  package var compression: CodecMode? { nil }

  /// Norms, biases, routers and other small weights become F32; what GGUF has no type for becomes a plain type that holds
  /// it exactly.
  package func adapt(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) throws -> (
    decision: QuantizeDecision, reason: String?
  ) {
    if stored.encoding is IntegerTable { return (decision, nil) }
    if stored.spec.hasSourceName, decision.scheme.keepsBytes, GGUFTensorType.storing(stored.encoding) != nil {
      return (decision, nil)
    }
    var settled = decision
    func stay(_ scheme: any Scheme, _ reason: String) -> (decision: QuantizeDecision, reason: String?) {
      settled.scheme =
        stored.encoding.name == scheme.encoding(for: stored.encoding, shape: stored.spec.shape).name
        ? Keep() : scheme
      settled.options.importance = nil
      return (settled, reason)
    }
    if isSmall(stored.spec, decision.scheme)
      || GGUFArchitectures.of(model.family)?.keepsFloats(stored.spec) == true
    {
      return stay(PlainFloat.f32, "role \(stored.spec.role.rawValue): F32, as llama.cpp wants it")
    }
    if decision.scheme is MXFP4Scheme {
      return stay(GGUFResult.mxfp4, "\(decision.scheme.name): the same numbers in GGUF's order")
    }
    let encoding = decision.scheme.encoding(for: stored.encoding, shape: stored.spec.shape)
    if GGUFTensorType.storing(encoding) != nil { return (decision, nil) }
    if decision.scheme.keepsBytes, GGUFResult.isBlocked(stored, model.family) {
      return (decision, "nvfp4: the same codes and scales in GGUF's order, the global scale beside them")
    }
    guard decision.scheme.keepsBytes else {
      throw RequestError(
        .unsupported, "GGUF has no type for '\(encoding.name)', which '\(decision.scheme.name)' gives",
        help: "choose one of \(GGUFResult.schemeNames)")
    }
    if let scheme = exactScheme(stored) {
      return stay(scheme, "GGUF has no \(stored.encoding.name): \(scheme.name) holds its numbers")
    }
    return stay(PlainFloat.f32, "GGUF has no \(stored.encoding.name): F32 holds its numbers")
  }

  /// Towers and projectors: llama.cpp keeps those in a file of their own. Blocks that draft tokens, where its loader reads none, or
  /// where they are not all of those that the configuration counts.
  package func leaves(_ spec: WeightSpec, _ model: Model) -> LeftOut? {
    guard spec.isCarried, let family = model.family as? CarryingFamily else { return nil }
    if spec.isDraft {
      guard let architecture = GGUFArchitectures.of(family), architecture.readsDrafts(of: family) else {
        let name = GGUFArchitectures.of(family)?.name ?? family.modelType
        return LeftOut(.mtp("llama.cpp reads no blocks that draft tokens in '\(name)'"))
      }
      let isWhole = [0, family.draftBlocks].contains(family.drafts.declared)
      guard !spec.hasSourceName, isWhole else {
        return LeftOut(
          .mtp("the blocks that draft tokens are not those that config.json counts, all of them and whole"))
      }
      return nil
    }
    return LeftOut(
      rule: "beside-the-text-model", reason: "a GGUF file of a text model holds nothing else", tensors: 0,
      bytes: 0)
  }

  /// Whether `nvfp4` that is kept becomes blocks beside a global scale, as llama.cpp has it.
  static func isBlocked(_ stored: StoredWeight, _ family: any ModelFamily) -> Bool {
    guard stored.encoding.name == NVFP4.multiplied.name, stored.prepared == nil,
      stored.spec.shape.columns % GGUFBlock(.nvfp4).elements == 0
    else { return false }
    guard let architecture = GGUFArchitectures.of(family) else { return true }
    let place = architecture.place(of: stored.spec, in: family)
    return architecture.takesScale(stored.spec)
      && place.arrangements.allSatisfy { $0.steps.encoding(of: GGUFBlock(.nvfp4)) is GGUFBlock }
  }

  /// The schemes whose results GGUF holds.
  static var schemeNames: String {
    Schemes.all.filter { scheme in
      !scheme.keepsBytes
        && GGUFTensorType.storing(scheme.encoding(for: Plain.f32, shape: [256, 256])) != nil
    }.map(\.name).joined(separator: ", ")
  }

  /// What llama.cpp's loader multiplies or adds in float32.
  private func isSmall(_ spec: WeightSpec, _ scheme: any Scheme) -> Bool {
    if spec.shape.rank < 2 { return true }
    switch spec.role {
    case .norm, .selectionBias, .router, .convolution: return true
    // llama-quantize makes blocks of such matrices.
    case .bias, .sink, .hyperConnection: return !(scheme is GGUFScheme)
    default: return false
    }
  }

  /// A scheme narrower than F32 that holds every number of a weight.
  private func exactScheme(_ stored: StoredWeight) -> (any Scheme)? {
    if stored.encoding is FP4 { return GGUFResult.mxfp4 }
    // Four significant bits times a power of two.
    if stored.encoding is FP8, stored.hasPowerScales { return PlainFloat.bf16 }
    return nil
  }

  private static var mxfp4: any Scheme { GGUFScheme.of(.mxfp4) }

  /// The tensors in the order of the family's table, the experts of a stack side by side.
  package func slabs(_ weights: [PlannedWeight], _ model: Model) throws -> [OutputMatrix] {
    var order: [String] = []
    var stacks: [String: [OutputMatrix]] = [:]
    for (place, planned) in weights.enumerated() {
      for (tensor, steps) in try GGUFResult.tensors(planned, model.family) {
        if stacks[tensor] == nil { order.append(tensor) }
        stacks[tensor, default: []].append(
          try slab(
            place, planned, steps, model, suffix: steps.isEmpty ? "" : " in \(tensor)",
            scheme: planned.parts[tensor]))
      }
    }
    return order.flatMap { stacks[$0] ?? [] }
  }

  /// The tensors that hold a weight, and how it lies in them.
  static func tensors(_ planned: PlannedWeight, _ family: any ModelFamily) throws -> [(String, [Arrangement])]
  {
    if GGUFResult.isGeneric(family) { return [(planned.stored.spec.name.description, [])] }
    guard let architecture = GGUFArchitectures.of(family) else {
      let why = (family.core as? UnknownArchitecture).map { ": \($0.noForwardPass.problem)" } ?? ""
      throw RequestError(.unsupported, "llama.cpp has no architecture for '\(family.modelType)'\(why)")
    }
    let place = architecture.place(of: planned.stored.spec, in: family)
    let first: [Arrangement] = planned.isKept && isBlocked(planned.stored, family) ? [.blockedNVFP4] : []
    let isTable = planned.stored.encoding.name == IntegerTable.i64.name
    let pieces: [(String, [Arrangement])] = place.arrangements.map {
      ($0.tensor, isTable ? [.integers32] : first + $0.steps)
    }
    guard isCopied(planned.stored.spec, family) else { return pieces }
    let scheme = planned.parts[head]
    let keeps = planned.isKept(by: scheme)
    return pieces + [(head, (keeps && isBlocked(planned.stored, family) ? [.blockedNVFP4] : []) + [.copied])]
  }

  /// The tensors of a weight in several, and the head that llama.cpp wants of tied embeddings.
  package func parts(of spec: WeightSpec, _ model: Model) -> [WeightPart] {
    guard let architecture = GGUFArchitectures.of(model.family), !GGUFResult.isGeneric(model.family) else {
      return []
    }
    let pieces = architecture.place(of: spec, in: model.family).arrangements
    let own =
      pieces.count < 2 ? [] : pieces.map { WeightPart($0.tensor, $0.steps.shape(spec.shape), spec.role) }
    guard GGUFResult.isCopied(spec, model.family) else { return own }
    return own + [WeightPart(GGUFResult.head, spec.shape, .outputHead)]
  }

  /// The output head's tensor.
  private static let head = "output.weight"

  /// Whether a weight is the embeddings, which are the output head too, of a model whose architecture has no tied ones in llama.cpp.
  private static func isCopied(_ spec: WeightSpec, _ family: any ModelFamily) -> Bool {
    guard spec.role == .embedding, spec.name.base == "token_embd.weight",
      let architecture = GGUFArchitectures.of(family), LlamaCpp.needsHead(architecture.name)
    else { return false }
    return !family.weights.contains { $0.role == .outputHead && !$0.isDraft }
  }

  /// Whether a family is of GGUF's own names and nothing else is known of it.
  static func isGeneric(_ family: any ModelFamily) -> Bool {
    family is UnknownArchitecture && family.dialects == [UnknownGGUF.dialect]
  }

  /// Refuses a result that exists, in one file or in several.
  package func requirePlace(_ path: String, overwrite: Bool) throws {
    try requirePlace(path, overwrite: overwrite, isSplit: split != nil, ending: ".gguf")
  }

  /// Everything but the configuration and the tokenizer, which its keys stand for.
  package func leftFiles(_ plan: Plan, _ model: Model) throws -> [LeftFile] {
    let tokenizer = try model.tokenizerFiles()?.file
    return try model.source.smallFileSizes().filter { !GGUFHeaderKeys.holds($0.name) && $0.name != tokenizer }
      .map {
        LeftFile($0.name, "GGUF has no place for it", bytes: $0.bytes)
      }
  }

  /// What the source says of activations and caches, for which no tensor and no key is read.
  /// - Throws: `RequestError` usage where `exactOnly` allows no such loss.
  package func remarks(_ weights: [PlannedWeight], _ model: Model, _ options: ConvertOptions) throws
    -> [String]
  {
    guard let lost = try model.declaredScales().summary else { return [] }
    guard !options.exactOnly else {
      throw RequestError(
        .usage,
        "a GGUF file has no place for what the source declares, \(lost), and --exact-only allows no loss",
        help: "leave --exact-only away, or write a directory or an .ingot, which keep it")
    }
    return [
      "GGUF has no place for what the source declares, \(lost): engines choose for themselves how to round activations and caches of the result"
    ]
  }

  /// Starts the files.
  package func sink(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any ResultSink
  {
    let (layout, warnings) = try planned(path, plan, model, options)
    try ResultTooLarge.check(layout.byteCount, options)
    return try GGUFSink(path, layout, plan, model, warnings, options, self)
  }

  /// The files as they will be, and what llama.cpp will do otherwise.
  func planned(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws -> (
    layout: GGUFPlan, warnings: [String]
  ) {
    let tensors = try GGUFResult.declarations(plan, model.family)
    let (keys, warnings) = try keys(path, plan, model, tensors, options)
    func text(_ key: String) -> String? {
      if case .string(let text)? = keys.first(where: { $0.key == key })?.value { text } else { nil }
    }
    if !GGUFResult.isGeneric(model.family), let name = text("general.name"),
      let size = text("general.size_label")
    {
      let type = (recipeName ?? GGUFFileType.name(tensors)).uppercased().replacing(":", with: "-")
      options.run.progress.announce("hubs know such a file as \(name)-\(size)-\(type).gguf")
    }
    return (try GGUFPlan(tensors: tensors, metadata: keys, split: split), warnings)
  }

  /// The keys in the order of the file, and what llama.cpp will do otherwise.
  func keys(
    _ path: String, _ plan: Plan, _ model: Model, _ tensors: [GGUFPlan.Tensor], _ options: ConvertOptions
  ) throws -> (keys: [(key: String, value: GGUFValue)], warnings: [String]) {
    let type = GGUFFileType.of(recipeName, tensors)
    if GGUFResult.isGeneric(model.family) {
      return (try UnknownGGUF.keys(model, fileType: plan.changesWeights ? type : nil), [])
    }
    let (metadata, warnings) = try GGUFHeaderKeys.make(
      model, plan, options, path: path, fileType: type, tensors: tensors)
    return (metadata.values, warnings)
  }

  /// The tensors of factors, which come first.
  private static func factors(of family: any ModelFamily) -> [GGUFPlan.Tensor] {
    guard let type = GGUFTensorType.storing(Plain.f32) else { return [] }
    return (GGUFArchitectures.of(family)?.factors(of: family) ?? []).map {
      GGUFPlan.Tensor($0.name, type, [$0.values.count])
    }
  }

  /// What each tensor will be.
  static func declarations(_ plan: Plan, _ family: any ModelFamily) throws -> [GGUFPlan.Tensor] {
    var tensors = GGUFResult.factors(of: family)
    for slab in plan.slabs {
      let spec = plan.weights[slab.weight].stored.spec
      guard let type = GGUFTensorType.storing(slab.encoding),
        let name = try GGUFResult.name(of: slab, plan, family)
      else { preconditionFailure("'\(slab.name)' was settled") }
      if tensors.suffix(2).contains(where: { $0.name == name }) { continue }
      var dimensions = slab.shape.dimensions
      if spec.name.expert != nil { dimensions.insert(family.dimensions.experts, at: 0) }
      if spec.role == .convolution, !spec.hasSourceName { dimensions.removeAll { $0 == 1 } }
      if spec.name.expert == nil, spec.shape.rank == 2, spec.shape.rows == 1, !spec.hasSourceName {
        dimensions.removeFirst()
      }
      tensors.append(GGUFPlan.Tensor(name, type, Shape(dimensions)))
      if slab.steps.first == .blockedNVFP4, let scale = GGUFTensorType.named("F32") {
        let count = spec.name.expert == nil ? 1 : family.dimensions.experts
        tensors.append(GGUFPlan.Tensor(GGUFScale.name(of: name), scale, [count]))
      }
    }
    return tensors
  }

  /// The tensor that a slab is a part of.
  static func name(of slab: OutputMatrix, _ plan: Plan, _ family: any ModelFamily) throws -> String? {
    try tensors(plan.weights[slab.weight], family).first { $0.1 == slab.steps }?.0
  }
}

/// `general.file_type`: what most of a file's numbers are stored as. Source: llama.cpp's `llama_ftype`.
enum GGUFFileType {
  private static let numbers: [String: Int] = [
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 11,
    "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k": 14, "q4_k_s": 14, "q4_k_m": 15, "q5_k": 16,
    "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq2_xxs": 19, "iq2_xs": 20, "q2_k_s": 21, "iq3_xs": 22,
    "iq3_xxs": 23, "iq1_s": 24, "iq4_nl": 25, "iq3_s": 26, "iq3_m": 27, "iq2_s": 28, "iq2_m": 29,
    "iq4_xs": 30, "iq1_m": 31, "bf16": 32, "tq1_0": 36, "tq2_0": 37, "mxfp4": 38, "mxfp4_moe": 38,
    "nvfp4": 39, "q1_0": 40, "q2_0": 41,
  ]

  /// By the recipe's name, else by the type that holds most numbers.
  static func of(_ recipe: String?, _ tensors: [GGUFPlan.Tensor]) -> Int {
    if let recipe {
      let (name, keepsHead) = Recipe.parts(of: recipe)
      if let number = numbers[keepsHead ? name : Recipe.llamaName(name)] { return number }
    }
    return numbers[name(tensors)] ?? 0
  }

  /// The type that holds most numbers.
  static func name(_ tensors: [GGUFPlan.Tensor]) -> String {
    var counts: [String: Int] = [:]
    for tensor in tensors { counts[tensor.type.name.lowercased(), default: 0] += tensor.shape.count }
    let most = counts.max { ($0.value, $1.key) < ($1.value, $0.key) }
    return most?.key ?? "f32"
  }
}

// A directory of safetensors as a result: the family's published names, shards with an index, config.json and the other
// small files. Formats/layouts.md says how each encoding lies in tensors.

package import SmeltContainers
import SmeltModels
package import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// Writes a directory of safetensors.
package struct SafetensorsResult: ResultTarget {
  /// `safetensors`.
  package let name = "safetensors"
  let shardBytes: Int
  let layout: CompressedLayout

  /// The bytes of tensors in one shard unless the user says otherwise.
  package static let usualShardBytes = 5_000_000_000

  /// A directory whose shards have at most so many bytes of tensors; a larger tensor has a shard for itself.
  /// - Parameter schemeWord: the scheme as the user spelled it: `W8A16` and `W8A8` are one scheme, but tell engines
  ///   different things about activations; `FP8_BLOCK` asks for compressed-tensors where `fp8-block` is DeepSeek's.
  package init(shardBytes: Int = SafetensorsResult.usualShardBytes, schemeWord: String? = nil) {
    self.init(shardBytes: shardBytes, layout: CompressedLayout(schemeWord: schemeWord))
  }

  init(shardBytes: Int = SafetensorsResult.usualShardBytes, layout: CompressedLayout) {
    self.shardBytes = shardBytes
    self.layout = layout
  }

  /// vLLM and SGLang make one matrix of several weights.
  package var isLoadedFused = true

  /// A folder, which has a list of its files.
  package var kind: OutputKind? { nil }

  /// Tensors are stored as they are.
  package var compression: CodecMode? { nil }

  /// What brings numbers back to the type they had.
  private static func scheme(ofSource type: String) -> (any Scheme)? {
    if let encoding = Encodings.named(type) {
      if TensorNaming.isMX(encoding) { return BlockScheme.mxfp8 }
      if let side = TensorNaming.square(encoding), BlockScheme.sizes.contains(side) {
        return BlockScheme.square(side, isPower: true)
      }
    }
    return [PlainFloat.bf16, .f16, .f32].first { $0.name == type }
  }

  /// Numbers that a GGUF file widened go back to the type they had; blocks of GGUF have no place here but FP4.
  /// - Throws: `RequestError` unsupported.
  package func adapt(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) throws -> (
    decision: QuantizeDecision, reason: String?
  ) {
    var settled = decision
    var reason: String?
    if let published = try published(decision, stored, model) { return published }
    if decision.scheme.keepsBytes {
      if stored.encoding.isBlockFP4, holds(FP4.mxfp4, stored.spec, model) {
        return (decision, "the same FP4 codes and scales in the order of safetensors")
      }
      if stored.encoding is Plain, let type = stored.sourceType, type != stored.encoding.name,
        let scheme = SafetensorsResult.scheme(ofSource: type)
      {
        settled.scheme = scheme
        reason = "\(SmeltKey.dtypes): was \(type) in the source"
      }
    }
    let encoding = settled.scheme.encoding(for: stored.encoding, shape: stored.spec.shape)
    if encoding is IntegerTable, stored.spec.isCarried || encoding.name == IntegerTable.i32.name {
      return (settled, reason)
    }
    if TensorNaming.isDeepSeekV4(model.family), !layout.isAsked, let scheme = settled.scheme as? BlockScheme,
      !scheme.isPower
    {
      settled.scheme = scheme.withPowers
      return (settled, "DeepSeek-V4 has power-of-two scales")
    }
    if layout.activations == .fixed, stored.spec.isCarried, !settled.scheme.keepsBytes,
      CompressedLayout.takesStatic(encoding)
    {
      settled.scheme = Keep()
      settled.options.importance = nil
      return (settled, "kept: calibration does not run it, so that its activations have no range")
    }
    guard holds(encoding, stored.spec, model) else {
      if stored.spec.isCarried, !decision.scheme.keepsBytes,
        holds(Keep().encoding(for: stored.encoding, shape: stored.spec.shape), stored.spec, model)
      {
        settled.scheme = Keep()
        settled.options.importance = nil
        return (settled, "kept: engines read \(encoding.name) of single matrices named NAME.weight only")
      }
      throw SafetensorsRefusal.unsupported(encoding, stored.spec, package: layout.package)
    }
    return (settled, reason)
  }

  /// What the word for a whole model means where makers or engines have a weight plain.
  private func published(_ decision: QuantizeDecision, _ stored: StoredWeight, _ model: Model) throws -> (
    decision: QuantizeDecision, reason: String?
  )? {
    guard let scheme = layout.scheme, !scheme.keepsBytes, stored.prepared == nil else { return nil }
    var settled = decision
    var reason: String?
    if model.family.core is GPTOSS, scheme is MXFP4Scheme, layout.word == nil,
      !stored.spec.role.isRouted, !decision.scheme.keepsBytes
    {
      settled = QuantizeDecision(scheme: Keep(), options: QuantizeOptions(), note: nil)
      reason = "kept: gpt-oss's makers have experts in MXFP4 and all else plain"
    }
    if TensorNaming.isMiniMaxM3(model.family), scheme.name == BlockScheme.mxfp8.name,
      layout.word == nil, stored.spec.role == .indexer, !decision.scheme.keepsBytes
    {
      settled = QuantizeDecision(scheme: Keep(), options: QuantizeOptions(), note: nil)
      reason = "kept: MiniMax-M3's makers have the indexer plain"
    }
    if settled.scheme.keepsBytes, stored.encoding is GGUFBlock,
      !(stored.encoding.isBlockFP4 && holds(FP4.mxfp4, stored.spec, model))
    {
      settled = QuantizeDecision(scheme: PlainFloat.bf16, options: QuantizeOptions(), note: nil)
      reason = "bf16: safetensors have no \(stored.encoding.name)"
    }
    return reason.map { (settled, $0) }
  }

  private func holds(_ encoding: any Encoding, _ spec: WeightSpec, _ model: Model) -> Bool {
    TensorNaming.holds(encoding, spec, model)
      || spec.spellings.indices.contains { layout.holds(encoding, spec, column: $0) }
  }

  /// The tensors of the dialect in the order of the family's table; what the dialect stacks or fuses is put together.
  package func slabs(_ weights: [PlannedWeight], _ model: Model) throws -> [OutputMatrix] {
    let naming = try TensorNaming(model, weights, layout)
    var slabs: [OutputMatrix] = []
    for (place, planned) in weights.enumerated() {
      guard let (steps, other) = naming.steps(place, weights) else { continue }
      slabs.append(
        try slab(
          place, planned, steps, model, other: other, suffix: steps.isEmpty ? "" : " in safetensors"))
    }
    return naming.inOrder(slabs, weights)
  }

  /// Descriptions of other codes than the result's, and names that a file system without case takes for the result's own.
  package func leftFiles(_ plan: Plan, _ model: Model) throws -> [LeftFile] {
    // Another layout of the same codes needs another description too.
    let section = QuantizationSection(plan, try TensorNaming(model, plan.weights, layout))
    var isDescribed = !plan.changesWeights
    if isDescribed, let config = try model.smallFile("config.json") {
      let text = try ResultConfig.text(config, holdsDrafts: plan.holdsDrafts)
      isDescribed = try section.config(text) == text.array
    }
    let own =
      ["config.json", "model.safetensors.index.json"] + (plan.changesWeights ? [ModelCard.fileName] : [])
      + (section.sidecar == nil ? [] : [QuantizationConfig.sidecarName])
    let reserved = Set(own.map { $0.lowercased() })
    return try model.source.smallFileSizes().compactMap { name, bytes in
      if !isDescribed, QuantizationSection.sidecars.contains(name) {
        return LeftFile(name, "describes the source's codes, not the result's", bytes: bytes)
      }
      if name == WeightErrors.fileName {
        return LeftFile(name, "describes an earlier conversion, not this one", bytes: bytes)
      }
      if name.split(separator: "/").contains(where: {
        CarriedFiles.tools(String($0)) != nil || CarriedFiles.weights(String($0)) != nil
      }) {
        return LeftFile(name, "has the name of weights or of a tool's own file", bytes: bytes)
      }
      guard let first = name.split(separator: "/").first.map({ $0.lowercased() }), reserved.contains(first),
        name != "config.json", name != ModelCard.fileName
      else { return nil }
      return LeftFile(name, "its name differs from one of the result's own by case alone", bytes: bytes)
    }
  }

  /// The result is a folder.
  package func requirePlace(_ path: String, overwrite: Bool) throws {
    try requireCreatableFolder(path, overwrite: overwrite)
  }

  /// Starts the directory.
  package func sink(_ path: String, _ plan: Plan, _ model: Model, _ options: ConvertOptions) throws
    -> any ResultSink
  {
    try refuseNesting(path, model)
    var naming = try TensorNaming(model, plan.weights, layout)
    try naming.chooseScales(options.statistics, plan.weights, model)
    return try SafetensorsFolderSink(
      path, plan, model, options, naming: naming,
      shardBytes: shardBytes, leftNames: Set(try leftFiles(plan, model).map(\.name)))
  }

  /// A result inside its source, or around it, would change what is being read.
  func refuseNesting(_ path: String, _ model: Model) throws {
    guard let source = resolvedPath(model.path), let parent = resolvedPath(parentFolder(path)) else { return }
    let result = joinPath(parent, fileName(path))
    let isInside = result == source || result.hasPrefix(source + "/")
    guard !isInside, !source.hasPrefix(result + "/") else {
      throw FormatError(
        .outputAliasesInput, file: path,
        "the result and the source '\(model.path)' overlap: one is inside the other")
    }
  }
}

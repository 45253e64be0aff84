// The keys of a GGUF file that is written: what the model is, what its tokenizer is, and what makes a checkpoint of it again.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// Makes the keys.
enum GGUFHeaderKeys {
  /// The keys in the order of the file, and what llama.cpp will do otherwise.
  /// - Parameter tensors: what the file holds.
  static func make(
    _ model: Model, _ plan: Plan, _ options: ConvertOptions, path: String, fileType: Int,
    tensors: [GGUFPlan.Tensor]
  ) throws -> (metadata: Metadata, warnings: [String]) {
    guard let architecture = GGUFArchitectures.of(model.family),
      let sourceConfig = try model.textConfig()
    else { preconditionFailure("a model has a family and a config.json") }
    var configText = try ResultConfig.counting(
      plan.holdsDrafts ? (model.family as? CarryingFamily)?.draftBlocks ?? 0 : 0,
      try ResultConfig.text(sourceConfig, holdsDrafts: plan.holdsDrafts))
    // A head that is rounded otherwise than the embeddings is one of its own.
    if plan.slabs.contains(where: { $0.steps.last == .copied && $0.ownScheme != nil }) {
      configText = try ResultConfig.untied(configText)
    }
    let json = try parseConfig(configText, file: "config.json")
    let config = ConfigReader(json, file: "config.json")
    var metadata = Metadata(file: fileName(path))
    metadata["general.architecture"] = .string(architecture.name)
    metadata["general.type"] = .string("model")
    metadata["general.name"] = .string(try modelName(model))
    metadata["general.size_label"] = .string(sizeLabel(model.family))
    for (key, value) in try architecture.keys(of: model.family, config) { metadata[key] = value }
    metadata["general.file_type"] = .integer(fileType)
    metadata["general.quantization_version"] = .integer(2)
    var warnings = try architecture.differences(of: model.family, config).map {
      "results in llama.cpp will differ: \($0)"
    }
    if let tokenizer = try model.tokenizerFiles() {
      var files = try GGUFTokenizer.Files(
        tokenizer, tokenizerConfig: try model.smallFile(GGUFTokenizer.configFile),
        chatTemplate: try model.smallFile(GGUFTokenizer.templateFile))
      files.processorTemplate = try model.smallFile(GGUFTokenizer.processorTemplateFile)
      files.namedTemplates = try model.source.smallFiles().compactMap { name, bytes in
        GGUFTokenizer.templateName(ofFile: name).map { ($0, bytes) }
      }
      let made = try GGUFTokenizer.entries(for: files, config: json)
      for (key, value) in made.entries { metadata[key] = value }
      warnings += made.notes
    }
    let shapes = Dictionary(tensors.map { ($0.name, $0.shape) }, uniquingKeysWith: { first, _ in first })
    warnings = LlamaCpp.findings(LlamaCppFile(metadata, tensors: shapes)).map(\.sentence) + warnings
    metadata[OutputKind.writerKey] = .string("smelt \(smeltVersion)")
    metadata[SmeltKey.config] = .string(String(decoding: configText.array, as: UTF8.self))
    metadata[SmeltKey.dialect] = .string(model.dialect)
    let dtypes = try storedTypes(plan, model)
    if !dtypes.isEmpty { metadata[SmeltKey.dtypes] = .strings(dtypes) }
    metadata[SmeltKey.provenance] = .string(try provenance(model, options).text())
    if let errors = model.preparedErrors {
      metadata[SmeltKey.errors] = .string(String(decoding: errors, as: UTF8.self))
    }
    return (metadata, warnings)
  }

  /// Whether the keys stand for a file.
  static func holds(_ name: String) -> Bool {
    [
      "config.json", GGUFTokenizer.tokenizerFile, GGUFTokenizer.configFile, GGUFTokenizer.templateFile,
      GGUFTokenizer.processorTemplateFile, GGUFKeys.fileName,
    ].contains(name) || GGUFTokenizer.templateName(ofFile: name) != nil
  }

  /// The name in the source, or that of its folder.
  private static func modelName(_ model: Model) throws -> String {
    let path = model.path.hasSuffix("/") ? String(model.path.dropLast()) : model.path
    let name = fileName(path)
    for ending in [".gguf", ".ingot"] where name.hasSuffix(ending) {
      return String(name.dropLast(ending.count))
    }
    return name
  }

  /// Tensors whose numbers were of another type, for those who want the source back.
  private static func storedTypes(_ plan: Plan, _ model: Model) throws -> [String] {
    var seen: Set<String> = []
    return try plan.slabs.compactMap { slab in
      let stored = plan.weights[slab.weight].stored
      let source = stored.encoding
      // FP8 under powers of two is found again in the BF16 that holds it.
      let isFP8 = source is FP8 && stored.hasPowerScales && slab.encoding.name == Plain.bf16.name
      guard source.name != slab.encoding.name, slab.encoding is Plain || slab.encoding is IntegerTable,
        source is Plain || source is IntegerTable || isFP8,
        let name = try GGUFResult.name(of: slab, plan, model.family), seen.insert(name).inserted
      else { return nil }
      return "\(name)=\(source.name)"
    }
  }

  /// `8x7B`: experts and the numbers of one and of what all share; without experts the numbers alone. Source: gguf-py's
  /// `size_label`.
  static func sizeLabel(_ family: any ModelFamily) -> String {
    let numbers = family.weights.filter { $0.role != .hashTable && !$0.isDraft }
    let routed = numbers.filter { $0.name.expert != nil }.reduce(0) { $0 + $1.shape.count }
    let shared = numbers.reduce(0) { $0 + $1.shape.count } - routed
    let experts = family.dimensions.experts
    guard experts > 0 else { return rounded(shared) }
    return "\(experts)x\(rounded(shared + routed / experts))"
  }

  private static func rounded(_ count: Int) -> String {
    let scales: [(Double, String)] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")]
    let (scale, suffix) = scales.first { Double(count) >= $0.0 } ?? (1e3, "K")
    let value = Double(count) / scale
    let digits = value < 10 ? 1 : 0
    return fixed(value, digits) + suffix
  }
}

extension Metadata {
  /// The keys in the types that llama.cpp reads.
  var values: [(key: String, value: GGUFValue)] {
    entries.map { key, value in
      switch value {
      case .string(let text): (key, .string(text))
      case .integer(let number):
        (key, UInt32(exactly: number).map { .u32($0) } ?? .i64(Int64(number)))
      case .number(let number): (key, .f32(Float(number)))
      case .bool(let flag): (key, .bool(flag))
      case .strings(let list): (key, .array(GGUFArray(strings: list)))
      case .integers(let list):
        // What does not fit into 32 bits is no number that llama.cpp reads.
        (key, .array(GGUFArray(i32: list.map { Int32(clamping: $0) })))
      case .numbers(let list): (key, .array(GGUFArray(f32: list.map { Float($0) })))
      case .bools(let list): (key, .array(GGUFArray(bools: list)))
      }
    }
  }
}

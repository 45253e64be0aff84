// A model as one engine's loader meets it: its weights, the matrices that they become, and what the configuration says of them
// under the names that the engine asks by.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A model, an engine, and what rules ask about the two.
struct EngineView: Sendable {
  let model: Model
  let engine: Engine
  /// The version asked for; the one that was read unless the user names another.
  let version: String
  /// Devices that share each matrix.
  let shards: Int
  /// Whether there is a config.json; a GGUF file has one in its keys.
  let hasConfig: Bool
  /// config.json as it is.
  let config: JSON
  /// The text model's section, or config.json where it has none.
  let text: JSON
  /// The model_type of the configuration and of its text model.
  let types: Set<String>
  let quantization: EngineQuantization
  /// The weights of the text model; all that there are where no family knows it.
  let weights: [EngineWeight]
  /// Weights of blocks that draft tokens.
  let drafts: [EngineWeight]
  /// Fused matrices with more than one part.
  let matrices: [EngineMatrix]
  /// Experts' weights by layer, as places among the weights, layers in order.
  let experts: [(layer: Int, places: [Int])]
  private let renames: [(from: String, to: String)]

  init(_ model: Model, _ engine: Engine, version: String? = nil, shards: Int = 1) throws {
    (self.model, self.engine, self.shards) = (model, engine, shards)
    self.version = version ?? engine.readVersion
    func read(_ name: String) throws -> JSON? {
      guard let bytes = try model.smallFile(name) else { return nil }
      return try parseConfig(bytes, file: name)
    }
    let found = try read("config.json")
    hasConfig = found != nil || model.containerName == "gguf"
    let config = found ?? JSON(members: [])
    let sidecar = try read("hf_quant_config.json")
    self.config = config
    let section = EngineQuantization.section(config, sidecar: nil)
    let text = TextConfig.keys.lazy.compactMap { key in config[key].flatMap { $0.object == nil ? nil : $0 } }
      .first.map { $0["text_config"] ?? $0 }
    self.text = text ?? config
    types = Set([config["model_type"]?.string, text?["model_type"]?.string].compactMap { $0 })
    let architectures = (config["architectures"]?.array ?? []).compactMap(\.string)
    let renames = EngineNames.renames(engine, architectures)
    self.renames = renames
    let stored = try model.storedWeights()
    quantization = EngineQuantization(
      section ?? sidecar, isSidecar: section == nil && sidecar != nil,
      routed: EngineView.routed(engine, types, section, self.text, stored),
      rename: { EngineNames.renamed($0, renames) })
    var uses: [String: Int] = [:]
    for weight in stored { if let codes = weight.tensors.first?.name { uses[codes, default: 0] += 1 } }
    let isKnown = !(model.family.core is UnknownArchitecture)
    var (weights, drafts): ([EngineWeight], [EngineWeight]) = ([], [])
    for weight in stored {
      let found = EngineWeight(
        weight, isStacked: weight.tensors.first.map { uses[$0.name, default: 0] > 1 } ?? false)
      if weight.spec.isDraft {
        drafts.append(found)
      } else if !isKnown || !weight.spec.isCarried {
        weights.append(found)
      }
    }
    (self.weights, self.drafts) = (weights, drafts)
    matrices = FusionGroup.all(weights.map(\.spec)).compactMap { group, all in
      // SGLang keeps the indexer's in a matrix of their own. Source: SGLang 0.5.23, srt/models/minimax_m3.py, index_qkv_proj.
      let places = engine == .sglang ? all.filter { weights[$0].spec.role != .indexer } : all
      guard places.count > 1 else { return nil }
      let module = weights[places[0]].module
      let prefix = module.lastIndex(of: ".").map { String(module[...$0]) } ?? ""
      let matrix = EngineNames.fused(group, part: module, engine)
      return EngineMatrix(
        name: EngineNames.renamed(prefix, renames) + matrix, parts: places,
        isExpert: weights[places[0]].isExpert)
    }
    var byLayer: [Int: [Int]] = [:]
    for (place, weight) in weights.enumerated() where weight.isExpert {
      byLayer[weight.spec.layer ?? -1, default: []].append(place)
    }
    experts = byLayer.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// What DeepSeek-V4's `expert_dtype` says of routed experts: FP4 unless it says fp8 in vLLM, which does not look at the tensors; SGLang
  /// looks. Sources: vLLM 0.33.0, models/deepseek_v4/quant_config.py; SGLang 0.5.23, srt/configs/model_config.py.
  private static func routed(
    _ engine: Engine, _ types: Set<String>, _ section: JSON?, _ text: JSON, _ stored: [StoredWeight]
  ) -> EngineScheme? {
    guard types.contains("deepseek_v4"), section?["quant_method"]?.string == "fp8" else { return nil }
    let isFP4 =
      engine == .vllm
      ? text["expert_dtype"]?.string != "fp8"
      : stored.contains { $0.spec.role.isRouted && $0.encoding is FP4 }
    return isFP4 ? EngineScheme(bits: 4, isFloat: true, strategy: "group", group: FP4.group) : nil
  }

  /// The classes that config.json names.
  var architectures: [String] { (config["architectures"]?.array ?? []).compactMap(\.string) }

  /// A module's name in the engine.
  func name(of weight: EngineWeight) -> String { EngineNames.renamed(weight.module, renames) }

  /// Whether engines build the module as a linear layer or an expert that may be quantized: what a rule on declarations asks.
  func isQuantizable(_ weight: EngineWeight) -> Bool {
    guard weight.spec.shape.rank == 2 else { return false }
    if weight.spec.role == .router { return EngineNames.looksUpRouters(engine, types) }
    return weight.spec.role.isQuantizedByDefault && weight.spec.role != .indexer
  }

  /// What the engine finds for each weight under the names that it asks by; nil for those whose module it keeps plain anyway.
  func found() -> [EngineFound?] {
    var out = [EngineFound?](repeating: nil, count: weights.count)
    var fused: [Int: EngineMatrix] = [:]
    for matrix in matrices where !matrix.isExpert && EngineNames.fuses(matrix.name, engine) {
      for place in matrix.parts { fused[place] = matrix }
    }
    var known: [String: EngineFound] = [:]
    for (place, weight) in weights.enumerated() where !weight.isExpert && isQuantizable(weight) {
      let matrix = fused[place]
      let name = matrix?.name ?? name(of: weight)
      if let found = known[name] {
        out[place] = found
        continue
      }
      // vLLM 0.33.0 knows q/k/v and gate/up of ModelOpt's lists whatever the class says: modelopt.py, fused_projection_shards.
      let isListed =
        EngineNames.lists(name, engine, types) || engine == .vllm && quantization.listsModules
      let found = quantization.linear(
        name,
        parts: (isListed ? matrix?.parts ?? [] : []).filter { weights[$0].spec.role != .indexer }
          .map { self.name(of: weights[$0]) },
        typesFirst: engine == .sglang)
      known[name] = found
      out[place] = found
    }
    for (_, places) in experts {
      guard let module = expertsModule(places) else { continue }
      let probes = EngineNames.probes(engine, types).map { "\(module).0.\($0)" }
      let found = quantization.experts(module, probes: probes)
      // The engine compares what it found and takes one of them for all.
      let first = found.first ?? .plain
      for place in places { out[place] = found.allSatisfy { $0 == first } ? first : .mixed }
    }
    return out
  }

  /// The same of the weights of blocks that draft tokens, which have no fused numbers to tell: their schemes alone.
  func foundDrafts() -> [EngineFound?] {
    var fused: [Int: (name: String, parts: [String])] = [:]
    for (group, places) in FusionGroup.all(drafts.map(\.spec)) where drafts[places[0]].spec.name.expert == nil
    {
      let module = drafts[places[0]].module
      let prefix = module.lastIndex(of: ".").map { String(module[...$0]) } ?? ""
      let matrix = prefix + (group.matrix.split(separator: " ").last.map(String.init) ?? group.matrix)
      guard EngineNames.fuses(matrix, engine) else { continue }
      for place in places { fused[place] = (matrix, places.map { name(of: drafts[$0]) }) }
    }
    return drafts.enumerated().map { place, weight in
      guard isQuantizable(weight) else { return nil }
      if let module = expertsModule(of: weight), weight.isExpert || weight.module.contains(".experts.") {
        let found = quantization.experts(
          module, probes: EngineNames.probes(engine, types).map { "\(module).0.\($0)" })
        return found.first
      }
      let matrix = fused[place]
      return quantization.linear(
        matrix?.name ?? name(of: weight), parts: matrix?.parts ?? [], typesFirst: engine == .sglang)
    }
  }

  /// The module of a layer's experts in the engine: all up to and with the word.
  func expertsModule(_ places: [Int]) -> String? {
    places.first.flatMap { expertsModule(of: weights[$0]) }
  }

  /// The same of one weight; nil where it is no expert's.
  func expertsModule(of weight: EngineWeight) -> String? {
    var words: [Substring] = []
    for word in weight.module.split(separator: ".") {
      words.append(word)
      if word == "experts" { return EngineNames.renamed(words.joined(separator: "."), renames) }
    }
    return nil
  }

  /// The one number of a whole weight: the global scale as it is stored, the scale of FP8 by tensor; nil where a weight has none.
  /// - Throws: refusals of the weight's content.
  func number(_ weight: EngineWeight) throws -> Float? {
    guard weight.kind == .nvfp4 || weight.kind == .fp8Tensor else { return nil }
    let parts = try model.source.unscanned(weight.spec.name)
    guard let part = parts.part(weight.kind == .nvfp4 ? .globalScale : .scales) else { return nil }
    return part.firstFloat
  }
}

extension Part {
  /// The first element of floats.
  var firstFloat: Float? {
    bytes.withUnsafeBytes { bytes in
      // SAFETY: `loadUnaligned` reads inside the buffer: its length is looked at first
      switch dtype {
      case .f32 where bytes.count >= 4:
        Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
      case .bf16 where bytes.count >= 2:
        Float(bitPattern: UInt32(UInt16(littleEndian: bytes.loadUnaligned(as: UInt16.self))) << 16)
      case .f16 where bytes.count >= 2:
        Float(Float16(bitPattern: UInt16(littleEndian: bytes.loadUnaligned(as: UInt16.self))))
      case .f8E8M0 where bytes.count >= 1: E8M0.value(bytes[0])
      default: nil
      }
    }
  }
}

// What config.json says about the quantized weights of a directory: nothing, what the family's makers say, or what
// compressed-tensors says.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The `quantization_config` of a result.
struct QuantizationSection {
  private let plan: Plan
  private let naming: TensorNaming

  /// Files beside config.json in which other tools describe the source's codes.
  static let sidecars: Set<String> = [
    QuantizationConfig.sidecarName, "quantize_config.json", "quant_config.json",
  ]

  init(_ plan: Plan, _ naming: TensorNaming) {
    self.plan = plan
    self.naming = naming
  }

  private var isV4: Bool { TensorNaming.isDeepSeekV4(naming.family) }
  private var hasFP4: Bool { plan.slabs.contains { $0.encoding is FP4 } }
  private var isQuantized: Bool { plan.slabs.contains { CompressedLayout.isQuantized($0.encoding) } }

  /// config.json with a section that is true of the result: the source's bytes where that is so already.
  func config(_ bytes: Bytes) throws -> [UInt8] {
    let config = try parseConfig(bytes, file: "config.json")
    guard let object = config.object else { return bytes.array }
    let keys = ["quantization_config", "compression_config"]
    // A wrapper may say it in the text model's section.
    let holder = ([nil] + QuantizationConfig.wrapperKeys.map { Optional($0) }).first { key in
      keys.contains { name in (key.map { config[$0]?[name] } ?? config[name]).map { !$0.isNull } ?? false }
    }
    let inner = holder.flatMap { $0 }
    let section = keys.lazy.compactMap { name in
      inner.map { config[$0]?[name] } ?? config[name]
    }.first { !$0.isNull }
    let wanted = isQuantized ? (naming.compressed == nil ? makers : engines) : []
    let isTrue =
      naming.compressed == nil && section?["quant_method"]?.string == method
      && (side == nil || section?["weight_block_size"]?.array?.map(\.integer) == [side, side])
      && (chosenPlain.isEmpty
        || section?["modules_to_not_convert"]?.array?.compactMap(\.string) == chosenPlain)
      && (config["expert_dtype"] == nil || config["expert_dtype"]?.string == expertType)
    if isTrue { return bytes.array }
    let dropped = Set(keys + ["expert_dtype"])
    func kept(_ object: JSONObject) -> [(String, JSON)] {
      zip(object.keys, object.values).filter { !dropped.contains($0.0) }.map { ($0.0, $0.1) }
    }
    if let inner {
      let members = kept(object).map { key, value in
        key == inner ? (key, value.object.map { JSON(members: kept($0) + wanted) } ?? value) : (key, value)
      }
      return Array((JSON(members: members).text(indented: true) + "\n").utf8)
    }
    let members = kept(object)
    return Array((JSON(members: members + wanted).text(indented: true) + "\n").utf8)
  }

  /// The makers' `quant_method`; nil where nothing is quantized.
  private var method: String? {
    guard isQuantized else { return nil }
    if naming.hasMakersMXFP8, plan.slabs.contains(where: { TensorNaming.isMX($0.encoding) }) {
      return "mxfp8"
    }
    return hasFP4 && !isV4 ? "mxfp4" : "fp8"
  }

  /// The side of blocks of FP8.
  private var side: Int? { plan.slabs.lazy.compactMap { TensorNaming.square($0.encoding) }.first }

  /// What the makers' own files say.
  private var makers: [(String, JSON)] {
    if method == "mxfp4" {
      return [
        (
          "quantization_config",
          [
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
              "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
            ],
          ]
        )
      ]
    }
    if method == "mxfp8" { return [("quantization_config", mxfp8)] }
    var members: [(String, JSON)] = [
      ("activation_scheme", "dynamic"), ("fmt", "e4m3"), ("quant_method", "fp8"),
    ]
    if isV4 { members.append(("scale_fmt", "ue8m0")) }
    members.append(("weight_block_size", [JSON(side ?? 128), JSON(side ?? 128)]))
    if !chosenPlain.isEmpty {
      members.append(("modules_to_not_convert", JSON(chosenPlain.map { JSON($0) })))
    }
    return (expertType.map { [("expert_dtype", JSON($0))] } ?? [])
      + [("quantization_config", JSON(members: members))]
  }

  /// What DeepSeek-V4's files call the experts' codes; vLLM 0.33 takes them for FP4 where nothing is said.
  private var expertType: String? {
    if hasFP4 { return "fp4" }
    let hasFP8 = plan.slabs.contains {
      plan.weights[$0.weight].stored.spec.role.isRouted && TensorNaming.square($0.encoding) != nil
    }
    return isV4 && hasFP8 ? "fp8" : nil
  }

  /// What MiniMax-M3's files say; `ignored_layers` are the modules that stay plain.
  private var mxfp8: JSON {
    [
      "quant_method": "mxfp8", "activation_scheme": "dynamic", "weight_block_size": [1, JSON(FP4.group)],
      "scale_fmt": "ue8m0", "ignored_layers": JSON(plain.map { JSON($0.module) }),
    ]
  }

  /// What a package of engines says.
  private var engines: [(String, JSON)] {
    [("quantization_config", modelOpt?.section ?? compressed)]
  }

  /// hf_quant_config.json, where the result has one of its own.
  var sidecar: [UInt8]? { isQuantized ? modelOpt?.sidecar : nil }

  private var modelOpt: ModelOptSection? {
    guard naming.compressed?.package == .modelOpt else { return nil }
    let names = engineNames
    let ignored = plain.flatMap { names($0.spec, $0.module) }.unique + missingHead
    return ModelOptSection(plan, naming, ignored: ignored.map(ModulePatterns.glob), names: names)
  }

  /// The names that engines look a module up by.
  private var engineNames: (WeightSpec, String) -> [String] {
    let fused = Set(FusionGroup.all(plan.weights.map(\.stored.spec)).map(\.group))
    return { spec, module in
      ModulePatterns.names(of: module, in: spec.fusionGroup.flatMap { fused.contains($0) ? $0 : nil })
    }
  }

  /// Every linear layer that stays as it is.
  private var plain: [(spec: WeightSpec, module: String)] {
    var plain: [(spec: WeightSpec, module: String)] = []
    for slab in plan.slabs where !CompressedLayout.isQuantized(slab.encoding) {
      for place in [slab.weight, slab.other].compactMap({ $0 }) {
        let spec = plan.weights[place].stored.spec
        guard spec.isLinear, let module = naming.module(of: spec), plain.last?.module != module else {
          continue
        }
        plain.append((spec, module))
      }
    }
    return plain
  }

  /// Modules that the makers' FP8 has quantized and a recipe or the source plain. Source: vLLM 0.33.0, `quantization/fp8.py`
  /// (`from_config`: `ignored_layers`, `modules_to_not_convert`); transformers 5.24, `FineGrainedFP8Config`.
  private var chosenPlain: [String] {
    // Where nothing is converted the source's own section holds.
    let isConverted = plan.slabs.contains { CompressedLayout.isQuantized($0.encoding) && !$0.isKept }
    guard method == "fp8", naming.compressed == nil, isConverted else { return [] }
    return plain.filter { $0.spec.role.isQuantizedByDefault && $0.spec.fusionGroup?.isPlain != true }.map(
      \.module)
  }

  /// The output head that frameworks have where the model has none.
  private var missingHead: [String] {
    let hasHead = plan.weights.contains { $0.stored.spec.role == .outputHead && !$0.stored.spec.isDraft }
    return hasHead ? [] : ["lm_head"]
  }

  /// What compressed-tensors says: a group for each format, and every linear layer that stays as it is.
  private var compressed: JSON {
    var formats: [CompressedFormat] = []
    var modules: [CompressedFormat: [String]] = [:]
    let engineNames = engineNames
    let ignored = plain.flatMap { engineNames($0.spec, $0.module) }.unique + missingHead
    for slab in plan.slabs {
      let planned = plan.weights[slab.weight]
      guard let module = naming.module(of: planned.stored.spec),
        case .compressed(let format)? = naming.format(planned)
      else { continue }
      if modules[format] == nil { formats.append(format) }
      modules[format, default: []] += engineNames(planned.stored.spec, module)
    }
    modules = modules.mapValues(\.unique)
    formats.sort { (modules[$0]?.count ?? 0) > (modules[$1]?.count ?? 0) }
    let groups = formats.enumerated().map { index, format in
      let own = modules[format] ?? []
      let others = formats.filter { $0 != format }.flatMap { modules[$0] ?? [] }
      // The largest group is all linear layers that no other names.
      return (
        "group_\(index)", format.group(targets: index == 0 ? ["Linear"] : ModulePatterns.of(own, but: others))
      )
    }
    let names = Set(formats.map(\.name))
    let all = modules.values.flatMap { $0 }
    let section: JSON = JSON(members: [
      ("config_groups", JSON(members: groups)),
      ("format", JSON(names.count == 1 ? formats[0].name : "mixed-precision")),
      ("global_compression_ratio", JSON(.null)),
      (
        "ignore",
        JSON(
          (ignored.count > ModulePatterns.mostNames ? ModulePatterns.of(ignored, but: all) : ignored).map {
            JSON($0)
          }
        )
      ),
      ("kv_cache_scheme", cacheScheme), ("quant_method", "compressed-tensors"),
      ("quantization_status", "compressed"), ("version", "0.20.0"),
    ])
    return section
  }

  /// `kv_cache_scheme`: null unless the result gives scales.
  private var cacheScheme: JSON {
    guard !naming.scales.caches.isEmpty else { return JSON(.null) }
    return [
      "num_bits": 8, "type": "float", "symmetric": true, "group_size": JSON(.null), "strategy": "tensor",
      "dynamic": false,
    ]
  }
}

extension WeightSpec {
  /// Whether frameworks keep it as a linear layer, so that a configuration must say where it is left alone.
  fileprivate var isLinear: Bool {
    guard shape.rank == 2 || shape.rank == 3 && role.isRouted else { return false }
    switch role {
    case .embedding, .norm, .bias, .selectionBias, .hashTable, .sink, .hyperConnection: return false
    default: return true
    }
  }
}

extension [String] {
  /// Each once, in the order of the first.
  fileprivate var unique: [String] {
    var seen: Set<String> = []
    return filter { seen.insert($0).inserted }
  }
}

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
      && (config["expert_dtype"] == nil || hasFP4)
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
    return (hasFP4 ? [("expert_dtype", "fp4")] : []) + [("quantization_config", JSON(members: members))]
  }

  /// What MiniMax-M3's files say; `ignored_layers` are the modules that stay plain.
  private var mxfp8: JSON {
    [
      "quant_method": "mxfp8", "activation_scheme": "dynamic", "weight_block_size": [1, JSON(FP4.group)],
      "scale_fmt": "ue8m0", "ignored_layers": JSON(plain.map { JSON($0) }),
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
    return ModelOptSection(plan, naming, ignored: ignored.map(ModulePatterns.glob))
  }

  /// Every linear layer that stays as it is.
  private var plain: [String] {
    var plain: [String] = []
    for slab in plan.slabs where !CompressedLayout.isQuantized(slab.encoding) {
      for place in [slab.weight, slab.other].compactMap({ $0 }) {
        let spec = plan.weights[place].stored.spec
        guard spec.isLinear, let module = naming.module(of: spec), plain.last != module else { continue }
        plain.append(module)
      }
    }
    return plain
  }

  /// The same, and the output head that frameworks have where the model has none.
  private var ignored: [String] {
    let hasHead = plan.weights.contains { $0.stored.spec.role == .outputHead && !$0.stored.spec.isDraft }
    return hasHead ? plain : plain + ["lm_head"]
  }

  /// What compressed-tensors says: a group for each format, and every linear layer that stays as it is.
  private var compressed: JSON {
    var formats: [CompressedFormat] = []
    var modules: [CompressedFormat: [String]] = [:]
    let ignored = ignored.flatMap { ModulePatterns.names(of: $0) }
    for slab in plan.slabs {
      let planned = plan.weights[slab.weight]
      guard let module = naming.module(of: planned.stored.spec),
        case .compressed(let format)? = naming.format(planned)
      else { continue }
      if modules[format] == nil { formats.append(format) }
      modules[format, default: []] += ModulePatterns.names(of: module)
    }
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

/// Lists of modules as few patterns.
enum ModulePatterns {
  /// Names that are listed one by one.
  static let mostNames = 2000

  /// Patterns that match all of some modules and none of the others: a number stands for any where that is so of all modules
  /// of the pattern, else an expert's number for any, else the name itself.
  static func of(_ modules: [String], but others: [String]) -> [String] {
    let levels: [(String) -> String] = [
      { pattern($0, onlyExperts: false) }, { pattern($0, onlyExperts: true) },
    ]
    let taken = levels.map { level in Set(others.map(level)) }
    var seen: Set<String> = []
    var patterns: [String] = []
    for module in modules {
      let found = levels.indices.lazy.map { ($0, levels[$0](module)) }.first { !taken[$0.0].contains($0.1) }?
        .1
      // A pattern without a number is a name.
      let pattern = found.flatMap { $0.contains(#"\d+"#) ? $0 : nil } ?? module
      if seen.insert(pattern).inserted { patterns.append(pattern) }
    }
    return patterns
  }

  /// The names that engines look a module up by: its own, and for the matrices of an expert that are named `w1`, `w2`, `w3` the
  /// names by which some engines ask for those of every family (`experts.0.gate_proj`).
  /// Source: SGLang 0.5.23, `srt/layers/quantization/compressed_tensors/compressed_tensors.py` (`unfused_names`).
  static func names(of module: String) -> [String] {
    let words = module.split(separator: ".", omittingEmptySubsequences: false)
    guard words.count > 2, words[words.count - 3] == "experts", let last = words.last,
      let asked = ["w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"][last]
    else { return [module] }
    return [module, (words.dropLast() + [Substring(asked)]).joined(separator: ".")]
  }

  /// A module or pattern of `TensorNaming.module` as a glob, which ModelOpt's lists have.
  static func glob(_ module: String) -> String {
    guard module.hasPrefix("re:^"), module.hasSuffix("..*") else { return module }
    return module.dropFirst(4).dropLast(3).split(separator: #"\."#).joined(separator: ".") + "*"
  }

  private static func pattern(_ module: String, onlyExperts: Bool) -> String {
    let words = module.split(separator: ".", omittingEmptySubsequences: false)
    let parts = words.enumerated().map { index, word in
      let isNumber = !word.isEmpty && word.allSatisfy { $0.isASCII && $0.isNumber }
      guard isNumber, !onlyExperts || index > 0 && words[index - 1] == "experts" else { return String(word) }
      return #"\d+"#
    }
    return "re:^" + parts.joined(separator: #"\."#) + "$"
  }
}

// What config.json and hf_quant_config.json say of weights in ModelOpt's layout. Source: ModelOpt 0.47
// `modelopt/torch/export/{quant_utils,convert_hf_config,unified_export_hf}.py`; readers: vLLM 0.33
// `quantization/modelopt.py`, SGLang 0.5 `modelopt_quant.py`.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// ModelOpt's description of a result.
struct ModelOptSection {
  /// Modules with their formats, in the order of the result.
  private var modules: [(name: String, format: ModelOptFormat)] = []
  /// Fused modules, by which engines ask, with the format of their parts.
  private var fused: [(name: String, format: ModelOptFormat)] = []
  /// Linear layers that stay as they are, in patterns.
  private let excluded: [String]
  private let cachesFP8: Bool

  /// - Parameters:
  ///   - ignored: modules that stay as they are, fused ones among them.
  ///   - names: the names that engines look a module up by, its own first.
  init(
    _ plan: Plan, _ naming: TensorNaming, ignored: [String], names: (WeightSpec, String) -> [String]
  ) {
    var seen: Set<String> = []
    var formats: [String: Set<ModelOptFormat>] = [:]
    for slab in plan.slabs {
      let spec = plan.weights[slab.weight].stored.spec
      let tensor = naming.spelling(spec).tensor
      guard case .modelOpt(let format)? = naming.format(plan.weights[slab.weight]) else { continue }
      let module = String(tensor.dropLast(".weight".count))
      modules.append((module, format))
      for name in names(spec, module).dropFirst() {
        formats[name, default: []].insert(format)
        if seen.insert(name).inserted { fused.append((name, format)) }
      }
    }
    // A fused module whose parts differ has no format: engines are to see that.
    let left = Set(ignored)
    fused.removeAll { formats[$0.name]?.count != 1 || left.contains($0.name) }
    let taken = Set(formats.keys)
    excluded = ModelOptPatterns.of(ignored.filter { !taken.contains($0) }, but: modules.map(\.name))
    cachesFP8 = !naming.scales.caches.isEmpty
  }

  /// `FP8`, `NVFP4` and their like, or `MIXED_PRECISION`.
  private var algorithm: String {
    let names = Set(modules.map(\.format.algorithm))
    return names.count == 1 ? modules[0].format.algorithm : "MIXED_PRECISION"
  }

  private var isMixed: Bool { algorithm == "MIXED_PRECISION" }

  /// Modules as the package lists them, by the names of the checkpoint, and fused modules behind them: SGLang 0.5.23 asks for `qkv_proj`,
  /// `gate_up_proj` and their like (`modelopt_quant.py`, `_resolve_quant_algo`), and its classes of DeepSeek, GLM-4.5, Mixtral, OLMoE, Qwen2-MoE and
  /// Hunyuan 3 do not say what these are made of (`packed_modules_mapping`), so that it takes their weights for plain ones. vLLM 0.33
  /// (`modelopt.py`, the same function) finds either. Experts both find by what is below `experts`.
  private var layers: JSON { JSON(members: (modules + fused).map { ($0.name, $0.format.layer) }) }

  private static let producer: JSON = ["name": "smelt", "version": JSON(smeltVersion)]

  /// hf_quant_config.json.
  var sidecar: [UInt8] {
    var members: [(String, JSON)] = [
      ("quant_algo", JSON(algorithm)), ("kv_cache_quant_algo", cachesFP8 ? "FP8" : JSON(.null)),
    ]
    if isMixed {
      members.append(("quantized_layers", layers))
    } else if let group = modules.first?.format.groupSize {
      members.append(("group_size", JSON(group)))
    }
    members.append(("exclude_modules", JSON(excluded.map { JSON($0) })))
    let json: JSON = ["producer": ModelOptSection.producer, "quantization": JSON(members: members)]
    return Array((json.text(indented: true) + "\n").utf8)
  }

  /// `quantization_config` of config.json.
  var section: JSON {
    var formats: [ModelOptFormat] = []
    for module in modules where !formats.contains(module.format) { formats.append(module.format) }
    let groups = formats.enumerated().map { index, format in
      let names = modules.filter { $0.format == format }.map(\.name)
      return ("group_\(index)", format.group(targets: isMixed ? names : ["Linear"]))
    }
    var members: [(String, JSON)] = [("config_groups", JSON(members: groups))]
    if isMixed { members.append(("quantized_layers", layers)) }
    members += [("ignore", JSON(excluded.map { JSON($0) })), ("quant_algo", JSON(algorithm))]
    if cachesFP8 {
      members.append(("kv_cache_scheme", ["dynamic": false, "num_bits": 8, "type": "float"]))
    }
    members += [("producer", ModelOptSection.producer), ("quant_method", "modelopt")]
    return JSON(members: members)
  }
}

/// Lists of modules as ModelOpt writes them: a container of which nothing is quantized stands for all below it, as `NAME*`, or `NAME.*`
/// where a quantized module's name begins with NAME.
enum ModelOptPatterns {
  static func of(_ modules: [String], but quantized: [String]) -> [String] {
    // Every beginning of a quantized module's name.
    var taken: Set<String> = []
    var containers: Set<String> = []
    for name in quantized {
      var place = name.startIndex
      while place < name.endIndex {
        place = name.index(after: place)
        taken.insert(String(name[..<place]))
        if place < name.endIndex, name[place] == "." { containers.insert(String(name[..<place])) }
      }
    }
    var seen: Set<String> = []
    return modules.compactMap { module in
      let pattern = pattern(module, taken, containers)
      return seen.insert(pattern).inserted ? pattern : nil
    }
  }

  private static func pattern(_ module: String, _ taken: Set<String>, _ containers: Set<String>) -> String {
    for place in module.indices where module[place] == "." {
      let container = String(module[..<place])
      guard !containers.contains(container) else { continue }
      return container + (taken.contains(container) ? ".*" : "*")
    }
    return module
  }
}

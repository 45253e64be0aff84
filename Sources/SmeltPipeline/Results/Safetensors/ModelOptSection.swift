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
  /// Linear layers that stay as they are, in patterns.
  private let excluded: [String]
  private let cachesFP8: Bool

  init(_ plan: Plan, _ naming: TensorNaming, ignored: [String]) {
    for slab in plan.slabs {
      let spec = plan.weights[slab.weight].stored.spec
      let tensor = naming.spelling(spec).tensor
      guard case .modelOpt(let format)? = naming.format(plan.weights[slab.weight]) else { continue }
      modules.append((String(tensor.dropLast(".weight".count)), format))
    }
    excluded = ModelOptPatterns.of(ignored, but: modules.map(\.name))
    cachesFP8 = !naming.scales.caches.isEmpty
  }

  /// `FP8`, `NVFP4` and their like, or `MIXED_PRECISION`.
  private var algorithm: String {
    let names = Set(modules.map(\.format.algorithm))
    return names.count == 1 ? modules[0].format.algorithm : "MIXED_PRECISION"
  }

  private var isMixed: Bool { algorithm == "MIXED_PRECISION" }

  private var layers: JSON { JSON(members: modules.map { ($0.name, $0.format.layer) }) }

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

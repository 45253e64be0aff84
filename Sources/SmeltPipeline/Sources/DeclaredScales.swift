// What a source declares of the rounding that engines do beside its weights: activations, cached keys and values, and the scales that
// calibration chose for them.

package import SmeltContainers
package import SmeltModels
package import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The rounding of activations and caches that a checkpoint asks for.
package struct DeclaredScales: Sendable {
  /// Of the activations that meet one weight.
  package struct Input: Sendable {
    /// What shares a scale.
    package var form: DeclaredActivations.Form
    /// E4M3 or E2M1; else whole numbers to ±127.
    package var isFloat: Bool
    /// The scale that calibration chose; nil where the engine chooses.
    package var scale: InputScale?
    /// The scale that the weight's fused kernel uses in place of its own: that of all weights that are multiplied together.
    package var fused: Float?
    /// The tensor that holds it.
    var tensor: String?
  }

  /// The weights that meet rounded activations.
  package var inputs: [WeightName: Input] = [:]
  /// What keys and values of a layer are divided by before they become E4M3.
  package var caches: [Int: CacheRange] = [:]
  /// The tensors that hold them.
  var cacheTensors: [Int: [String]] = [:]

  /// Whether activations that meet any other quantized weight stay as they are: the configuration is of a package of engines, which
  /// speaks of all weights.
  var saysAll = false

  /// Why nobody can follow what is said of the activations that meet a weight.
  var faults: [WeightName: any Error] = [:]
  /// The same of cached keys and values.
  var cacheFault: (any Error)?

  /// Nothing is rounded.
  package init() {}

  /// What the joined weights of a checkpoint declare.
  /// - Throws: `Q_SCALE_SHAPE`, `Q_SCALE_VALUE`.
  init(
    _ weights: some Sequence<(WeightSpec, JoinedWeight)>, in source: any TensorSource, hasCacheScales: Bool
  ) throws {
    for (spec, joined) in weights {
      if hasCacheScales, let layer = spec.layer, spec.holdsCachedKeys,
        let scales = QuantizationConfig.cacheScales(attentionModule(joined.name), in: source)
      {
        caches[layer] = CacheRange(
          layer: layer, keys: try scales.keys.scaleNumber(), values: try scales.values.scaleNumber())
        cacheTensors[layer] = [scales.keys.name, scales.values.name]
      }
      guard let declared = joined.activations else { continue }
      if let fault = declared.fault {
        faults[spec.name] = fault
        continue
      }
      inputs[spec.name] = Input(
        form: declared.form, isFloat: declared.isFloat, scale: try declared.inputScale(),
        tensor: declared.scaleName)
    }
    fuse(weights.map(\.0))
  }

  /// The same, where all of it can be followed.
  /// - Throws: `CFG_VALUE` for what the configuration cannot mean; `RequestError` unsupported for rounding that is not done here.
  package func sound(_ weights: [WeightSpec]) throws -> DeclaredScales {
    for spec in weights { if let fault = faults[spec.name] { throw fault } }
    if let cacheFault { throw cacheFault }
    return self
  }

  /// Finds for each weight with a scale the one that its fused kernel uses.
  mutating func fuse(_ weights: [WeightSpec]) {
    var groups: [WeightName: (numbers: [Float], divides: Bool)] = [:]
    var keys: [WeightName: WeightName] = [:]
    for spec in weights {
      guard let scale = inputs[spec.name]?.scale else { continue }
      keys[spec.name] = spec.inputScaleKey
      groups[spec.inputScaleKey, default: ([], scale.divides && !spec.role.isRouted)].numbers.append(
        scale.multiplier)
    }
    // Engines keep the largest scale of what they fuse; of compressed-tensors' dense NVFP4 the largest divisor, which is the smallest
    // scale: vLLM 0.33 `compressed_tensors_w4a4_nvfp4.py`, `process_weights_after_loading`.
    for (name, key) in keys {
      guard let group = groups[key] else { continue }
      inputs[name]?.fused = group.divides ? group.numbers.min() : group.numbers.max()
    }
  }
}

extension DeclaredScales {
  /// How much of it a checkpoint says in so many words, for people; nil where it is nothing: what engines do of themselves with codes of
  /// the makers' layouts is not counted.
  var summary: String? {
    let fixed = inputs.values.filter { $0.scale != nil }
    let names = fixed.compactMap(\.tensor).min()
    func counted(_ count: Int, _ one: String, _ many: String? = nil) -> String {
      "\(count) \(count == 1 ? one : many ?? one + "s")"
    }
    var words: [String] = []
    let count = inputs.count + faults.count
    if saysAll, count > 0 {
      words.append("the rounding of activations of \(counted(count, "weight"))")
    }
    if !fixed.isEmpty {
      words.append(
        counted(fixed.count, "static scale") + " of activations"
          + (names.map { " ('\(excerpt($0))'\(fixed.count > 1 ? " and its like" : ""))" } ?? ""))
    }
    if !caches.isEmpty {
      words.append("the scales of cached keys and values of \(counted(caches.count, "layer"))")
    }
    return words.isEmpty ? nil : words.joined(separator: ", ")
  }
}

/// The module that holds a layer's projections: a tensor's name without its last two words.
func attentionModule(_ tensor: String) -> String {
  tensor.split(separator: ".", omittingEmptySubsequences: false).dropLast(2).joined(separator: ".")
}

extension WeightSpec {
  /// Whether a layer's cached keys come from it: a key projection, or the one whose latents are kept for both.
  var holdsCachedKeys: Bool {
    guard let layer, !isDraft else { return false }
    return ["attn_k", "attn_kv_a_mqa"].contains { name.base == "blk.\(layer).\($0).weight" }
  }

  /// Whether a layer keeps the latents that this projection gives rather than keys and values.
  var holdsLatents: Bool { name.base.hasSuffix(".attn_kv_a_mqa.weight") }

  /// What tells the static activation scales of weights apart. Weights that read the output of one norm read the same numbers and share
  /// one, as engines that fuse them need it; gate and up of all routed experts of a layer share one, and all their downs: vLLM 0.33
  /// and SGLang 0.5 keep one for each of the two (`w13_input_scale`, `w2_input_scale`).
  package var inputScaleKey: WeightName {
    switch role {
    case .routedGate, .routedUp: WeightName("\(input?.base ?? name.base) of experts")
    case .routedDown: WeightName(name.base)
    default: input.map { WeightName("\($0.base) of all") } ?? name
    }
  }
}

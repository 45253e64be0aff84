// Scales of activations and caches that a directory gives beside its weights: those of its source where weights are kept, else what
// calibration saw. Formats/layouts.md, section 12.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The scales of a result.
struct StaticScales: Sendable {
  /// Of the activations that meet a weight, where the source gives one and the weight is kept.
  private(set) var carried: [WeightName: InputScale] = [:]
  /// The same from calibration.
  private(set) var chosen: [WeightName: InputScale] = [:]
  /// What a layer's keys and values are divided by.
  private(set) var caches: [Int: CacheRange] = [:]
  /// What the source says of the activations that meet weights that are kept, where its configuration is a package's.
  private(set) var kept: [WeightName: CompressedFormat.ActivationChoice] = [:]
  /// Weights that are kept and whose activations have one scale for all tokens in the source, which is not written beside their codes.
  private(set) var restated: [WeightName] = []
  /// Why what the source says of caches cannot be said again.
  private(set) var cacheFault: (any Error)?
  /// Tensors of the source whose numbers the result gives again.
  private(set) var taken: Set<String> = []

  /// The source's scales, of weights that are kept as they are.
  init(_ model: Model, _ weights: [PlannedWeight], _ layout: CompressedLayout) throws {
    let declared = try model.declaredScales()
    let keeping = weights.filter { $0.isKept && CompressedLayout.isQuantized($0.resultEncoding) }
    if layout.activations == nil {
      for planned in keeping { if let fault = declared.faults[planned.stored.spec.name] { throw fault } }
    }
    if !keeping.isEmpty { cacheFault = declared.cacheFault }
    if declared.saysAll {
      for planned in keeping {
        if let input = declared.inputs[planned.stored.spec.name], input.form == .tensor,
          !CompressedLayout.takesStatic(planned.resultEncoding)
        {
          restated.append(planned.stored.spec.name)
        }
        kept[planned.stored.spec.name] = StaticScales.choice(declared.inputs[planned.stored.spec.name])
      }
    }
    if layout.activations == nil || layout.activations == .fixed {
      for planned in weights where planned.isKept && CompressedLayout.takesStatic(planned.resultEncoding) {
        guard let input = declared.inputs[planned.stored.spec.name], let scale = input.scale else { continue }
        carried[planned.stored.spec.name] = scale
        if let tensor = input.tensor { taken.insert(tensor) }
      }
    }
    caches = declared.caches
    for names in declared.cacheTensors.values { taken.formUnion(names) }
  }

  /// What is said of activations as a result says it again.
  private static func choice(_ input: DeclaredScales.Input?) -> CompressedFormat.ActivationChoice {
    guard let input else { return .kept }
    switch input.form {
    case .token: return .rounded(.token(isFloat: input.isFloat))
    case .group(let columns): return .rounded(.group(columns))
    case .powers, .tensor, .local: return .usual
    }
  }

  /// Whether a weight's activations have such a scale, or will have one once calibration is over.
  func isStatic(_ planned: PlannedWeight, _ layout: CompressedLayout) -> Bool {
    guard CompressedLayout.takesStatic(planned.resultEncoding) else { return false }
    return layout.activations == .fixed || carried[planned.stored.spec.name] != nil
  }

  /// The scale of a weight's activations.
  subscript(_ name: WeightName) -> InputScale? { carried[name] ?? chosen[name] }

  /// Takes what calibration saw, for weights and layers whose source gives no scale.
  /// - Throws: `STAT_FORMAT`; `RequestError` usage without statistics, or where they have no ranges; unsupported where no token came.
  mutating func choose(
    _ statistics: Statistics?, _ weights: [PlannedWeight], _ model: Model, _ layout: CompressedLayout
  ) throws {
    try chooseInputs(statistics, weights, layout)
    if layout.cachesFP8 { try chooseCaches(statistics, weights, model) }
  }

  private mutating func chooseInputs(
    _ statistics: Statistics?, _ weights: [PlannedWeight], _ layout: CompressedLayout
  ) throws {
    let wanting = weights.filter { isStatic($0, layout) && carried[$0.stored.spec.name] == nil }
    guard let first = wanting.first else { return }
    guard let statistics else { throw StaticScales.needsCalibration(first) }
    var ranges: [WeightName: Float] = [:]
    var seen: Set<WeightName> = []
    for planned in wanting {
      let spec = planned.stored.spec
      guard let entry = try statistics.entry(spec.name) else { continue }
      guard let absmax = entry.absmax?.max() else {
        throw RequestError(
          .usage,
          "the statistics\(statistics.file.map { " '\($0)'" } ?? "") have no ranges of activations, as importance matrices have none",
          help: "write them with `smelt calibrate MODEL FILE.safetensors --text TEXT`")
      }
      ranges[spec.inputScaleKey] = max(ranges[spec.inputScaleKey] ?? 0, absmax)
      if entry.counts.contains(where: { $0 > 0 }) || absmax > 0 { seen.insert(spec.inputScaleKey) }
    }
    for planned in wanting {
      let spec = planned.stored.spec
      guard seen.contains(spec.inputScaleKey), let range = ranges[spec.inputScaleKey] else {
        throw RequestError(
          .unsupported, "no calibration token reached '\(spec.name)', so that its activations have no range",
          help: "calibrate with more text, or keep it by a recipe")
      }
      chosen[spec.name] = StaticScales.scale(range, planned.resultEncoding, layout)
    }
  }

  /// The scale of a range. Source: compressed-tensors 0.20 `calculate_qparams` and `generate_gparam`, ModelOpt 0.47
  /// `get_scaling_factor` and `get_activation_scaling_factor`: absmax ÷ 448 of FP8; absmax ÷ (6 × 448) of NVFP4, or the reciprocal,
  /// which divides.
  private static func scale(_ range: Float, _ encoding: any Encoding, _ layout: CompressedLayout)
    -> InputScale
  {
    let e4m3 = FP8.Format.e4m3.largest
    guard encoding is NVFP4 else { return InputScale(usable(range / e4m3)) }
    let most = e4m3 * FP4.largest
    return layout.package == .modelOpt
      ? InputScale(usable(range / most)) : InputScale(usable(most / range), divides: true)
  }

  /// A scale of nothing but zeros is 1.
  private static func usable(_ scale: Float) -> Float { scale.isNormal ? scale : 1 }

  private mutating func chooseCaches(_ statistics: Statistics?, _ weights: [PlannedWeight], _ model: Model)
    throws
  {
    let layers = weights.map(\.stored.spec).filter(\.holdsCachedKeys).compactMap(\.layer)
    guard !layers.isEmpty else {
      throw RequestError(
        .unsupported,
        "no layer of \(model.family.modelType) keeps keys and values that engines scale by a 'k_scale' and a 'v_scale'",
        help: "leave --kv-cache away")
    }
    for layer in layers where caches[layer] == nil {
      guard let range = try statistics?.cacheRange(layer: layer), range.keys > 0, range.values > 0 else {
        throw RequestError(
          .usage,
          "--kv-cache fp8 needs the range of layer \(layer)'s keys and values, which no calibration gives",
          help:
            "give --calibration TEXT to `smelt quantize`, or --statistics of this version's `smelt calibrate`"
        )
      }
      let e4m3 = FP8.Format.e4m3.largest
      caches[layer] = CacheRange(
        layer: layer, keys: StaticScales.usable(range.keys / e4m3),
        values: StaticScales.usable(range.values / e4m3))
    }
  }

  /// The refusal of static scales that nothing can choose.
  static func needsCalibration(_ planned: PlannedWeight) -> RequestError {
    let isFP4 = planned.resultEncoding is NVFP4
    return RequestError(
      .usage,
      "'\(planned.stored.spec.name)' needs a scale of its activations, which calibration chooses: static scales were asked for",
      help:
        "give --calibration TEXT to `smelt quantize`, or --statistics FILE; without, "
        + (isFP4
          ? "NVFP4A16 leaves activations as they are" : "FP8_DYNAMIC lets the engine choose their scales"))
  }
}

extension TensorNaming {
  /// The scales of a layer's cached keys and values, beside the projection they come from.
  ///
  /// | package | keys | values |
  /// |---|---|---|
  /// | compressed-tensors | `self_attn.k_scale` [1] | `self_attn.v_scale` [1] |
  /// | ModelOpt | `self_attn.k_proj.k_scale` [] | `self_attn.v_proj.v_scale` [] |
  func cacheScales(_ spec: WeightSpec) -> [DeclaredTensor] {
    guard let compressed, spec.holdsCachedKeys, let layer = spec.layer, let scales = scales.caches[layer]
    else { return [] }
    let module = attentionModule(spelling(spec).tensor)
    let isModelOpt = compressed.package == .modelOpt
    return [("k", scales.keys), ("v", scales.values)].map { letter, scale in
      .number(
        "\(module).\(isModelOpt ? "\(letter)_proj." : "")\(letter)_scale", scale,
        shape: isModelOpt ? [] : [1])
    }
  }
}

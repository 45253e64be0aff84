// What engines do with a directory that no configuration says: from the sources of vLLM 0.33 and SGLang 0.5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

extension SafetensorsResult {
  /// Scales of activations and caches that stand beside the weights again.
  package func takenScales(_ weights: [PlannedWeight], _ model: Model) throws -> Set<String> {
    let naming = try TensorNaming(model, weights, layout)
    return naming.compressed == nil ? [] : naming.scales.taken
  }

  /// What engines do with a result that no configuration says.
  /// - Throws: `RequestError` usage for static scales that nothing can choose.
  package func remarks(_ weights: [PlannedWeight], _ model: Model, _ options: ConvertOptions) throws
    -> [String]
  {
    var naming = try TensorNaming(model, weights, layout)
    let unused = unusedWords(weights, naming)
    guard let layout = naming.compressed else { return unused }
    if options.statistics != nil || !options.calibrates {
      try naming.chooseScales(options.statistics, weights, model)
    }
    if let fault = naming.scales.cacheFault, !(fault is RequestError) { throw fault }
    return unused + restated(naming)
      + (layout.package == .modelOpt
        ? modelOptRemarks(weights, naming, layout) : compressedRemarks(weights, naming, layout))
  }

  /// What the source says of activations and caches and the result does not.
  private func restated(_ naming: TensorNaming) -> [String] {
    var remarks: [String] = []
    if let first = naming.scales.restated.first, layout.activations == nil {
      let count = naming.scales.restated.count
      remarks.append(
        "'\(first)'\(count > 1 ? " and \(count - 1) more" : "") meet activations with one scale for all tokens in the source; the result says a scale for each token, as engines have it for such codes"
      )
    }
    if let fault = naming.scales.cacheFault as? RequestError {
      remarks.append("the result says nothing of cached keys and values: \(fault.sentence)")
    }
    return remarks
  }

  /// Words of the user's that decide nothing here.
  private func unusedWords(_ weights: [PlannedWeight], _ naming: TensorNaming) -> [String] {
    var remarks: [String] = []
    if naming.compressed == nil, let package = layout.package {
      remarks.append(
        "--layout \(package.rawValue) decides nothing: it says how quantized weights lie, and no weight is written so"
      )
    }
    if layout.activations == .fixed, !weights.contains(where: { naming.scales.isStatic($0, layout) }) {
      remarks.append(
        "--activations static decides nothing: FP8 with one scale a weight and NVFP4 have static scales of activations, and no weight is stored so"
      )
    }
    return remarks
  }

  private func compressedRemarks(
    _ weights: [PlannedWeight], _ naming: TensorNaming, _ layout: CompressedLayout
  ) -> [String] {
    let groups = groupRemarks(weights, layout)
    guard !layout.keepsActivations,
      let expert = weights.first(where: {
        $0.stored.spec.role.isRouted && $0.resultEncoding.name == FP8(.e4m3, .tensor).name
          && !naming.scales.isStatic($0, layout)
      })
    else { return groups }
    return groups + [
      "'\(expert.stored.spec.name)' and its like have one scale a weight and no scale of activations: vLLM 0.33 runs such experts by kernels "
        + "that leave activations as they are; --activations static with calibration, or fp8-channel, is for its FP8 kernels"
    ]
  }

  /// Engines multiply 4-bit integers by activations in FP8 in groups of one length. Sources: vLLM 0.33.0,
  /// `compressed_tensors_w4a8_fp8.py` and `compressed_tensors_moe_w4a8_fp8.py`; SGLang 0.5.23,
  /// `cutlass_w4a8_moe.py`.
  private func groupRemarks(_ weights: [PlannedWeight], _ layout: CompressedLayout) -> [String] {
    let odd = weights.first { planned in
      guard case .compressed(let format)? = layout.format(planned, isStatic: false), format.bits == 4,
        !format.isFloat,
        format.activations == .token(isFloat: true)
      else { return false }
      return format.strategy != .group(128)
    }
    guard let odd else { return [] }
    return [
      "'\(odd.stored.spec.name)' and its like are \(odd.resultEncoding.name) with activations in FP8 (W4AFP8): "
        + "vLLM 0.33 and SGLang 0.5 have kernels for groups of 128 alone; W4A16, which leaves activations as they "
        + "are, runs in groups of 32, 64 and 128"
    ]
  }

  private func modelOptRemarks(
    _ weights: [PlannedWeight], _ naming: TensorNaming, _ layout: CompressedLayout
  ) -> [String] {
    var algorithms: Set<String> = []
    var (expert, block): (WeightName?, WeightName?)
    for planned in weights {
      guard
        case .modelOpt(let format)? = layout.format(
          planned, isStatic: naming.scales.isStatic(planned, layout))
      else { continue }
      algorithms.insert(format.algorithm)
      if format.hasBlocks { block = block ?? planned.stored.spec.name }
      if planned.stored.spec.role.isRouted, !format.fitsExperts {
        expert = expert ?? planned.stored.spec.name
      }
    }
    var remarks: [String] = []
    if let expert {
      remarks.append(
        "'\(expert)' and its like would be FP8_PER_CHANNEL_PER_TOKEN: vLLM 0.33 and SGLang 0.5 read experts of ModelOpt's FP8 "
          + "with one scale a weight; --layout compressed-tensors has channels")
    }
    if let block {
      remarks.append(
        "'\(block)' and its like would be FP8_PB_WO\(algorithms.count > 1 ? " beside other formats" : ""): SGLang 0.5 looks for scales of blocks "
          + "as weight_scale_inv, of two dimensions, and so does vLLM 0.33 for experts; ModelOpt has weight_scale of four. "
          + "--layout compressed-tensors has blocks that both read")
    }
    guard algorithms.count > 1 else { return remarks }
    if !algorithms.contains(where: { $0.hasSuffix("NVFP4") }) {
      remarks.append(
        "SGLang 0.5 takes MIXED_PRECISION without NVFP4 (\(algorithms.sorted().joined(separator: ", "))) for another format"
      )
    }
    if layout.cachesFP8,
      weights.contains(where: { $0.stored.spec.holdsCachedKeys && $0.stored.spec.holdsLatents })
    {
      remarks.append(
        "vLLM 0.33 takes no scales for the cache of latents from MIXED_PRECISION: it caches them in FP8 under a scale of 1"
      )
    }
    return remarks
  }
}

// Whether a result is written for the package compressed-tensors, and which words of the user's mean it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// What the user's words for a scheme say beyond the numbers.
struct CompressedLayout: Sendable {
  /// What engines are told of activations where the recipe says nothing of a weight's.
  let activations: EngineActivations?
  /// Whether compressed-tensors was named where the makers have a layout of their own (`FP8_BLOCK`).
  let isAsked: Bool
  /// The scheme that was named for the whole model, where one was.
  let scheme: (any Scheme)?

  init(schemeWord: String?) {
    let word = schemeWord.flatMap { try? SchemeWord($0) }
    activations = word?.activations
    scheme = word?.scheme
    isAsked = schemeWord?.uppercased() == "FP8_BLOCK"
  }

  /// Whether an encoding has codes and scales.
  static func isQuantized(_ encoding: any Encoding) -> Bool {
    !(encoding is Plain || encoding is IntegerTable)
  }

  /// Whether some weight has no layout that the family's makers use.
  func isNeeded(
    _ weights: [PlannedWeight], _ family: any ModelFamily, column: Int, saysMXFP8: Bool
  ) -> Bool {
    let isV4 = TensorNaming.isDeepSeekV4(family)
    let isDeepSeek = isV4 || family.modelType.hasPrefix("deepseek")
    let quantized = weights.filter {
      CompressedLayout.isQuantized($0.resultEncoding)
        && !TensorNaming.isEngramTable($0.resultEncoding, $0.stored.spec.spellings[column], family)
    }
    // One configuration says one size of blocks.
    let sides = Set(quantized.compactMap { TensorNaming.square($0.resultEncoding) })
    let isMX = quantized.contains { TensorNaming.isMX($0.resultEncoding) }
    return quantized.contains { planned in
      let (encoding, spec) = (planned.resultEncoding, planned.stored.spec)
      let place = spec.spellings[column]
      if chosen(planned) != format(planned, .usual) { return true }
      if encoding is FP4 || encoding.isBlockFP4 {
        return isV4 ? !(spec.role.isRouted && place.isWhole) : !(place.stackIndex != nil && place.transposed)
      }
      if TensorNaming.isMX(encoding), place.isWhole, planned.hasByteScales {
        return !(saysMXFP8 || TensorNaming.isMiniMaxM3(family)) || !sides.isEmpty
      }
      guard TensorNaming.square(encoding) != nil, sides.count == 1, !isMX, place.isWhole else { return true }
      return isAsked || !isDeepSeek && !planned.isKept
    }
  }

  /// What compressed-tensors says of activations.
  private func choice(_ activations: EngineActivations) -> CompressedFormat.ActivationChoice {
    switch activations {
    case .kept: .kept
    case .int8: .rounded(.token(isFloat: false))
    case .fp8: .rounded(.token(isFloat: true))
    case .fp8Groups: .rounded(.group(128))
    }
  }

  /// The format of a weight, or nil where the package has none.
  func format(_ planned: PlannedWeight, column: Int) -> CompressedFormat? {
    CompressedLayout.isModule(planned.stored.spec, column) ? chosen(planned) : nil
  }

  /// The format of a weight with the activations that were asked for, wherever it lies.
  private func chosen(_ planned: PlannedWeight) -> CompressedFormat? {
    if let own = planned.decision.activations { return format(planned, choice(own)) }
    // A word for the whole model says nothing of what is kept in another encoding.
    return activations.flatMap { format(planned, choice($0)) } ?? format(planned, .usual)
  }

  private func format(_ planned: PlannedWeight, _ choice: CompressedFormat.ActivationChoice)
    -> CompressedFormat?
  {
    let encoding = planned.resultEncoding.isBlockFP4 ? FP4.mxfp4 : planned.resultEncoding
    return CompressedFormat(
      encoding, planned.stored.spec.shape, scaleType: planned.hasByteScales ? nil : .f32, choice)
  }

  /// Whether a weight is all of a linear layer's.
  private static func isModule(_ spec: WeightSpec, _ column: Int) -> Bool {
    spec.shape.rank == 2 && spec.spellings[column].isWhole
      && spec.spellings[column].tensor.hasSuffix(".weight")
  }

  /// Whether the package has a format for a weight of an encoding.
  func holds(_ encoding: any Encoding, _ spec: WeightSpec, column: Int) -> Bool {
    CompressedLayout.isModule(spec, column) && CompressedFormat(encoding, spec.shape, .usual) != nil
  }
}

extension PlannedWeight {
  /// Whether scales of MXFP8 are the bytes they should be: another program may have written floats.
  fileprivate var hasByteScales: Bool {
    !TensorNaming.isMX(resultEncoding) || !isKept || stored.hasPowerScales
  }
}

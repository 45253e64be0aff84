// Whether a result is written for the package compressed-tensors, and which words of the user's mean it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// What the user's words for a scheme say beyond the numbers.
struct CompressedLayout: Sendable {
  /// Whether activations stay as they are (`…A16`).
  let keepsActivations: Bool
  /// Whether compressed-tensors was named where the makers have a layout of their own (`FP8_BLOCK`).
  let isAsked: Bool

  init(schemeWord: String?) {
    let word = schemeWord?.uppercased() ?? ""
    keepsActivations = word.hasSuffix("A16")
    isAsked = word == "FP8_BLOCK"
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
    return weights.contains { planned in
      let (encoding, spec) = (planned.resultEncoding, planned.stored.spec)
      guard CompressedLayout.isQuantized(encoding) else { return false }
      let place = spec.spellings[column]
      if encoding is FP4 || encoding.isBlockFP4 {
        return isV4 ? !(spec.role.isRouted && place.isWhole) : !(place.stackIndex != nil && place.transposed)
      }
      if saysMXFP8, TensorNaming.isMX(encoding), place.isWhole { return !planned.isKept }
      guard encoding.name == FP8(.e4m3, .block128).name, place.isWhole else { return true }
      return isAsked || !isDeepSeek && !planned.isKept
    }
  }

  /// The format of a weight, or nil where the package has none.
  func format(_ encoding: any Encoding, _ spec: WeightSpec, column: Int) -> CompressedFormat? {
    guard spec.shape.rank == 2, spec.spellings[column].isWhole,
      spec.spellings[column].tensor.hasSuffix(".weight")
    else { return nil }
    return CompressedFormat(encoding, spec.shape, keepsActivations: keepsActivations)
  }
}

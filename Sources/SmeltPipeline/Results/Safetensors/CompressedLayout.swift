// Which layout of engines a result is written in, and which words of the user's mean what about activations.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How one weight lies in the layout of an engine.
enum EngineFormat {
  case compressed(CompressedFormat)
  case modelOpt(ModelOptFormat)

  /// The tensors of a weight, codes first.
  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor] {
    switch self {
    case .compressed(let format): format.declare(weight)
    case .modelOpt(let format): format.declare(weight)
    }
  }
}

/// What the user's words for a scheme say beyond the numbers.
struct CompressedLayout: Sendable {
  /// The packages whose layouts engines read.
  enum Package: String, Sendable, CaseIterable {
    case compressedTensors = "compressed-tensors"
    case modelOpt = "modelopt"
  }

  /// What becomes of activations.
  enum Activations: String, Sendable, CaseIterable {
    /// Scales that calibration chose, where a format has them: FP8 with one scale a weight, NVFP4.
    case fixed = "static"
    /// Scales that the engine chooses for each token.
    case dynamic
    /// They stay as they are.
    case none
  }

  /// The package; nil where the source and the encodings decide.
  var package: Package?
  /// What was asked for; nil where formats decide.
  let activations: Activations?
  /// Whether keys and values are cached in FP8.
  let cachesFP8: Bool
  /// Whether compressed-tensors was named where the makers have a layout of their own (`FP8_BLOCK`).
  let isAsked: Bool

  /// Whether activations stay as they are (`…A16`).
  var keepsActivations: Bool { activations == Activations.none }

  init(
    schemeWord: String?, package: Package? = nil, activations: Activations? = nil, cachesFP8: Bool = false
  ) {
    let word = schemeWord?.uppercased() ?? ""
    self.package = package
    self.activations =
      activations
      ?? (word.hasSuffix("A16") ? Activations.none : CompressedLayout.meansStatic(schemeWord) ? .fixed : nil)
    self.cachesFP8 = cachesFP8
    isAsked = word == "FP8_BLOCK" || package != nil || cachesFP8
  }

  /// Whether the ecosystem means static activation scales by a word: its presets `FP8` and `NVFP4`, in capitals as it spells them.
  /// `nvfp4` is the scheme of the weights alone, which it calls `NVFP4A16`, and `fp8` is `FP8_DYNAMIC`.
  static func meansStatic(_ word: String?) -> Bool { word.map { presets[$0] != nil } ?? false }

  /// Presets of compressed-tensors that have static activation scales, and the schemes of their weights. In a directory, which alone can
  /// hold such scales, they are taken at their word.
  static let presets = ["FP8": "fp8-tensor", "NVFP4": "nvfp4"]

  /// Whether an encoding has codes and scales.
  static func isQuantized(_ encoding: any Encoding) -> Bool {
    !(encoding is Plain || encoding is IntegerTable)
  }

  /// Whether activations that meet codes of an encoding can have a scale that calibration chose.
  static func takesStatic(_ encoding: any Encoding) -> Bool {
    encoding.name == FP8(.e4m3, .tensor).name || encoding is NVFP4
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
      if saysMXFP8, TensorNaming.isMX(encoding), place.isWhole { return !planned.isKept || package != nil }
      guard encoding.name == FP8(.e4m3, .block128).name, place.isWhole else { return true }
      return isAsked || !isDeepSeek && !planned.isKept
    }
  }

  /// The format of a weight, or nil where the package has none.
  /// - Parameter isStatic: whether its activations have a scale that calibration chose.
  func format(_ encoding: any Encoding, _ spec: WeightSpec, column: Int, isStatic: Bool) -> EngineFormat? {
    guard spec.shape.rank == 2, spec.spellings[column].isWhole,
      spec.spellings[column].tensor.hasSuffix(".weight")
    else { return nil }
    return format(encoding, spec.shape, isStatic: isStatic)
  }

  /// The same of some dimensions.
  func format(_ encoding: any Encoding, _ shape: Shape, isStatic: Bool) -> EngineFormat? {
    if package == .modelOpt {
      guard let format = ModelOptFormat(encoding, shape, isStatic: isStatic),
        !(keepsActivations && format.roundsActivations)
      else { return nil }
      return .modelOpt(format)
    }
    return CompressedFormat(encoding, shape, keepsActivations: keepsActivations, isStatic: isStatic).map {
      .compressed($0)
    }
  }
}

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
  /// Whether the user said it in so many words, and not with a scheme's name, which speaks of what is converted.
  private let asksForActivations: Bool
  /// What the source says of the activations that meet weights that are kept.
  var kept: [WeightName: CompressedFormat.ActivationChoice] = [:]
  /// What the scheme's word says of activations, where the recipe says nothing of a weight's.
  let word: EngineActivations?
  /// The scheme that was named for the whole model, where one was.
  let scheme: (any Scheme)?
  /// Whether keys and values are cached in FP8.
  let cachesFP8: Bool
  /// Whether compressed-tensors was named where the makers have a layout of their own (`FP8_BLOCK`).
  let isAsked: Bool

  /// Whether activations stay as they are (`…A16`).
  var keepsActivations: Bool { activations == Activations.none }

  init(
    schemeWord: String?, package: Package? = nil, activations: Activations? = nil, cachesFP8: Bool = false
  ) {
    let text = schemeWord?.uppercased() ?? ""
    let known = schemeWord.flatMap { try? SchemeWord(CompressedLayout.presets[$0] ?? $0) }
    self.package = package
    word = known?.activations
    scheme = known?.scheme
    asksForActivations = activations != nil
    self.activations =
      activations
      ?? (text.hasSuffix("A16") ? Activations.none : CompressedLayout.meansStatic(schemeWord) ? .fixed : nil)
    self.cachesFP8 = cachesFP8
    isAsked = text == "FP8_BLOCK" || package != nil || cachesFP8
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
      if compressed(planned, isStatic: false) != compressed(planned, .usual, isStatic: false) { return true }
      if encoding is FP4 || encoding.isBlockFP4 {
        return isV4 ? !(spec.role.isRouted && place.isWhole) : !(place.stackIndex != nil && place.transposed)
      }
      if TensorNaming.isMX(encoding), place.isWhole, planned.hasByteScales {
        return !(saysMXFP8 || TensorNaming.isMiniMaxM3(family)) || !sides.isEmpty || package != nil
      }
      guard TensorNaming.square(encoding) != nil, sides.count == 1, !isMX, place.isWhole else { return true }
      return isAsked || !isDeepSeek && !planned.isKept
    }
  }

  /// The format of a weight, or nil where the package has none.
  /// - Parameter isStatic: whether its activations have a scale that calibration chose.
  func format(_ planned: PlannedWeight, column: Int, isStatic: Bool) -> EngineFormat? {
    CompressedLayout.isModule(planned.stored.spec, column) ? format(planned, isStatic: isStatic) : nil
  }

  /// The same wherever it lies.
  func format(_ planned: PlannedWeight, isStatic: Bool) -> EngineFormat? {
    guard package == .modelOpt else { return compressed(planned, isStatic: isStatic).map { .compressed($0) } }
    let own = planned.decision.activations ?? (speaks(of: planned) ? word : nil)
    guard own == nil || own == .kept,
      let format = ModelOptFormat(planned.resultEncoding, planned.stored.spec.shape, isStatic: isStatic),
      !((leavesActivations(planned) || own == .kept) && format.roundsActivations)
    else { return nil }
    return .modelOpt(format)
  }

  /// Whether the scheme's word speaks of a weight: of what is converted, and of what is stored as it asks already.
  private func speaks(of planned: PlannedWeight) -> Bool {
    guard planned.isSources else { return true }
    guard let scheme, !scheme.keepsBytes else { return false }
    return scheme.encoding(for: Plain.f32, shape: planned.stored.spec.shape).name
      == planned.resultEncoding.name
  }

  /// Whether activations stay as they are because the user said so.
  private func leavesActivations(_ planned: PlannedWeight) -> Bool {
    keepsActivations && (asksForActivations || speaks(of: planned))
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

  /// The format of a weight with the activations that were asked for, wherever it lies.
  private func compressed(_ planned: PlannedWeight, isStatic: Bool) -> CompressedFormat? {
    if let own = planned.decision.activations { return compressed(planned, choice(own), isStatic: isStatic) }
    // A scheme's word says nothing of what is kept, whose source has said it.
    let asked =
      leavesActivations(planned)
      ? .kept : speaks(of: planned) ? word.map(choice) : kept[planned.stored.spec.name]
    return asked.flatMap { compressed(planned, $0, isStatic: isStatic) }
      ?? compressed(planned, .usual, isStatic: isStatic)
  }

  private func compressed(
    _ planned: PlannedWeight, _ choice: CompressedFormat.ActivationChoice, isStatic: Bool
  ) -> CompressedFormat? {
    let encoding = planned.resultEncoding.isBlockFP4 ? FP4.mxfp4 : planned.resultEncoding
    return CompressedFormat(
      encoding, planned.stored.spec.shape, scaleType: planned.hasByteScales ? nil : .f32, choice,
      isStatic: isStatic)
  }

  /// Whether a weight is all of a linear layer's.
  private static func isModule(_ spec: WeightSpec, _ column: Int) -> Bool {
    spec.shape.rank == 2 && spec.spellings[column].isWhole
      && spec.spellings[column].tensor.hasSuffix(".weight")
  }

  /// Whether the package has a format for a weight of an encoding.
  func holds(_ encoding: any Encoding, _ spec: WeightSpec, column: Int) -> Bool {
    guard CompressedLayout.isModule(spec, column) else { return false }
    guard package == .modelOpt else { return CompressedFormat(encoding, spec.shape, .usual) != nil }
    return [true, false].contains { isStatic in
      ModelOptFormat(encoding, spec.shape, isStatic: isStatic).map {
        !(keepsActivations && $0.roundsActivations)
      }
        ?? false
    }
  }
}

extension PlannedWeight {
  /// Whether the source's own codes stay.
  fileprivate var isSources: Bool { isKept && stored.prepared == nil }

  /// Whether scales of MXFP8 are the bytes they should be: another program may have written floats.
  fileprivate var hasByteScales: Bool {
    !TensorNaming.isMX(resultEncoding) || !isKept || stored.hasPowerScales
  }
}

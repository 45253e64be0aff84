// NVIDIA ModelOpt's unified checkpoints: FP8 by tensor, channel or block, MXFP8, and NVFP4.

internal import SmeltStorage
internal import SmeltTensors

/// `X.weight` F8_E4M3 with `X.weight_scale`, or U8 [out, in / 2] with E4M3 `X.weight_scale` [out, in / 16] and F32
/// `X.weight_scale_2`. Formats/layouts.md, section 7.
struct ModelOpt: Layout {
  let name = "modelopt"

  func codes(of place: Spelling, in source: any TensorSource, _ config: QuantizationConfig) -> TensorInfo? {
    guard config.modelOpt != nil, let tensor = source.tensor(place.tensor),
      [.u8, .f8E4M3].contains(tensor.dtype)
    else { return nil }
    return tensor
  }

  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.dtype == .u8 ? codes.shape.widened(2) : codes.shape
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    guard let config = context.config.modelOpt else { preconditionFailure("codes(of:) saw a configuration") }
    try context.requireWhole()
    let (codes, module, shape) = (context.codes, context.place.module, context.shape)
    guard shape.rank == 2 else {
      throw context.refuse(.configShape, "is \(name), expected plain numbers for a weight of \(shape)")
    }
    let algorithm: ModelOptConfig.Algorithm
    switch config.rule(for: module) {
    case .excluded(let pattern):
      throw context.contradicts("is \(codes.dtype), but '\(config.file)' excludes '\(pattern)'")
    case .none:
      throw context.contradicts("is \(codes.dtype), but '\(config.file)' gives '\(module)' no quant_algo")
    case .quantized(let found): algorithm = found
    }
    guard codes.dtype == algorithm.dtype else {
      throw context.contradicts("is \(codes.dtype), expected \(algorithm.dtype) for \(algorithm.rawValue)")
    }
    switch algorithm {
    case .nvfp4, .weightNVFP4:
      return try context.nvfp4(.multiplied, globalScale: "\(module).weight_scale_2")
    case .blockFP8, .blockScales: return try joinBlocks(context)
    case .mxfp8:
      let scale = try context.sibling("\(module).weight_scale")
      guard shape.columns % FP4.group == 0 else {
        throw context.contradicts(
          "has \(shape.columns) columns, expected a multiple of \(FP4.group) for MXFP8")
      }
      try context.require(scale, [.u8, .f8E8M0], [shape.rows, shape.columns / FP4.group])
      return try joined(
        context, scale, .block(rows: 1, columns: FP4.group), scale.shape, dtype: .f8E8M0)
    case .fp8, .channelFP8:
      let scale = try context.sibling("\(module).weight_scale")
      let isChannel = algorithm == .channelFP8
      if isChannel {
        try context.require(scale, Self.floats, [shape.rows], [shape.rows, 1])
      } else {
        try context.require(scale, Self.floats, [], [1])
      }
      return try joined(context, scale, isChannel ? .channel : .tensor, [scale.shape.count])
    }
  }

  private static let floats: [DType] = [.f32, .bf16, .f16]

  /// One scale a block of 128 × 128: [out / 128, in / 128], rounded up, or with a 1 after each, as the package writes them.
  private func joinBlocks(_ context: JoinContext) throws -> JoinedWeight {
    let scale = try context.sibling(
      "\(context.place.module).weight_scale", "\(context.place.module).weight_scale_inv")
    let (down, across) = (ceilDivide(context.shape.rows, 128), ceilDivide(context.shape.columns, 128))
    try context.require(scale, Self.floats, [down, across], [down, 1, across, 1])
    return try joined(context, scale, .block128, [down, across])
  }

  private func joined(
    _ context: JoinContext, _ scale: TensorInfo, _ granularity: FP8.Granularity, _ shape: Shape,
    dtype: DType? = nil
  ) throws -> JoinedWeight {
    try context.lent(
      FP8(.e4m3, granularity),
      [
        context.part(.values, context.codes, context.codes.shape),
        context.part(.scales, scale, shape, dtype: dtype),
      ], from: [Share(context.codes), Share(scale)])
  }
}

/// ModelOpt's part of a configuration: `quantization_config` of config.json, or `quantization` of hf_quant_config.json.
struct ModelOptConfig: Sendable {
  /// The file beside config.json that older versions write instead of a section in it.
  static let sidecarName = "hf_quant_config.json"

  /// The values of `quant_algo` that are read; capitals do not matter.
  enum Algorithm: String, Sendable, CaseIterable {
    case fp8 = "FP8"
    case channelFP8 = "FP8_PER_CHANNEL_PER_TOKEN"
    case blockFP8 = "FP8_PB_WO"
    /// TensorRT-LLM's name for blocks.
    case blockScales = "FP8_BLOCK_SCALES"
    case mxfp8 = "MXFP8"
    case nvfp4 = "NVFP4"
    /// The same codes; activations stay as they are.
    case weightNVFP4 = "W4A16_NVFP4"

    var isFP4: Bool { self == .nvfp4 || self == .weightNVFP4 }
    var dtype: DType { isFP4 ? .u8 : .f8E4M3 }
    /// Columns of a group, where the format has one length only.
    var group: Int? { isFP4 ? NVFP4.group : self == .mxfp8 ? FP4.group : nil }
  }

  /// What a module's weight is.
  enum Rule: Equatable {
    case quantized(Algorithm)
    /// Left alone by this entry.
    case excluded(String)
    case none
  }

  let file: String
  private let all: Algorithm?
  /// Modules, containers of modules, and patterns.
  private let modules: [String: Algorithm]
  private let patterns: [(pattern: String, algorithm: Algorithm)]
  private let excluded: Set<String>
  private let excludedPatterns: [String]

  /// Whether some weight must be quantized for the configuration to be true.
  var needsQuantizedWeights: Bool { all != nil || !modules.isEmpty || !patterns.isEmpty }

  /// Reads a section of config.json, or hf_quant_config.json as a whole.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for algorithms that are not read.
  init(_ reader: QuantizationReader) throws {
    file = reader.file
    let section = try reader.object("quantization") ?? reader
    var modules: [String: Algorithm] = [:]
    var patterns: [(pattern: String, algorithm: Algorithm)] = []
    if let layers = try section.object("quantized_layers")?.json.object {
      for (key, value) in zip(layers.keys, layers.values) {
        guard value.object != nil else {
          throw section.error("quantized_layers", "'\(excerpt(key))' is \(value.kind), expected an object")
        }
        guard let found = try Self.algorithm(QuantizationReader(value, file: reader.file)) else { continue }
        if Self.isPattern(key) { patterns.append((key, found)) } else { modules[Self.name(key)] = found }
      }
    }
    self.modules = modules
    // The longest pattern is the most particular one.
    self.patterns = patterns.sorted {
      ($0.pattern.utf8.count, $1.pattern) > ($1.pattern.utf8.count, $0.pattern)
    }
    let left = try section.strings("exclude_modules") + section.strings("ignore")
    excluded = Set(left.filter { !Self.isPattern($0) }.map(Self.name))
    excludedPatterns = left.filter(Self.isPattern)
    let name = try section.string("quant_algo")
    // Mixed precision says for each module what it has.
    all = name?.uppercased() == "MIXED_PRECISION" ? nil : try Self.algorithm(section)
  }

  private static func isPattern(_ text: String) -> Bool { text.contains { $0 == "*" || $0 == "?" } }

  /// A module's name; some writers name the weight, or a container with a dot behind it.
  private static func name(_ key: String) -> String {
    if key.hasSuffix(".weight") { return String(key.dropLast(".weight".count)) }
    return key.hasSuffix(".") ? String(key.dropLast()) : key
  }

  private static func algorithm(_ section: QuantizationReader) throws -> Algorithm? {
    guard let name = try section.string("quant_algo") else { return nil }
    guard let algorithm = Algorithm(rawValue: name.uppercased()) else {
      throw section.unsupported(
        "quant_algo", "'\(name)'",
        Algorithm.allCases.map(\.rawValue).joined(separator: ", ") + ", MIXED_PRECISION")
    }
    if let length = algorithm.group, let size = try section.integer("group_size", in: 1...65536),
      size != length
    {
      throw section.unsupported("group_size", "\(size) for \(algorithm.rawValue)", "\(length)")
    }
    return algorithm
  }

  /// How a module's weight is quantized. An entry for a module or for a container applies to everything below it; the longest
  /// name wins, names before patterns, and what `exclude_modules` names is not quantized unless a longer name says so.
  func rule(for module: String) -> Rule {
    var name = Substring(module)
    while true {
      if let found = modules[String(name)] { return .quantized(found) }
      if excluded.contains(String(name)) { return .excluded(String(name)) }
      guard let dot = name.lastIndex(of: ".") else { break }
      name = name[..<dot]
    }
    if let pattern = excludedPatterns.first(where: { Self.matches($0, module) }) { return .excluded(pattern) }
    if let (_, found) = patterns.first(where: { Self.matches($0.pattern, module) }) {
      return .quantized(found)
    }
    return all.map { .quantized($0) } ?? .none
  }

  /// Whether a pattern matches a module or a container that holds it. `NAME*` is what the package writes for a container and
  /// all below it: `layers.1*` means no layer 10.
  private static func matches(_ pattern: String, _ module: String) -> Bool {
    var pattern = pattern
    if pattern.hasSuffix("*"), pattern.count > 1, !pattern.hasSuffix(".*"), !pattern.hasSuffix("**") {
      pattern.removeLast()
    }
    return matchesGlob(pattern, module) || matchesGlob(pattern + ".*", module)
  }
}

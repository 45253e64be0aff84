// NVIDIA ModelOpt's unified checkpoints: FP8 by tensor or channel, and NVFP4.

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

  func join(_ context: JoinContext) throws -> JoinedWeight {
    guard let config = context.config.modelOpt else { preconditionFailure("codes(of:) saw a configuration") }
    try context.requireWhole()
    let (codes, module, shape) = (context.codes, context.place.module, context.shape)
    guard shape.rank == 2 else {
      throw context.refuse(.configShape, "is \(name), expected plain numbers for a weight of \(shape)")
    }
    guard let algorithm = config.algorithm(of: module) else {
      throw context.contradicts("is \(codes.dtype), but '\(config.file)' gives '\(module)' no quant_algo")
    }
    guard codes.dtype == algorithm.dtype else {
      throw context.contradicts("is \(codes.dtype), expected \(algorithm.dtype) for \(algorithm.rawValue)")
    }
    if algorithm == .nvfp4 {
      return try context.nvfp4(.multiplied, globalScale: "\(module).weight_scale_2")
    }
    let scale = try context.sibling("\(module).weight_scale")
    let isChannel = algorithm == .channelFP8
    if isChannel {
      try context.require(scale, [.f32, .bf16, .f16], [shape.rows], [shape.rows, 1])
    } else {
      try context.require(scale, [.f32, .bf16, .f16], [], [1])
    }
    return try context.lent(
      FP8(.e4m3, isChannel ? .channel : .tensor),
      [context.part(.values, codes, codes.shape), context.part(.scales, scale, [scale.shape.count])],
      from: [Share(codes), Share(scale)])
  }
}

/// ModelOpt's part of a configuration: `quantization_config` of config.json, or `quantization` of hf_quant_config.json.
struct ModelOptConfig: Sendable {
  /// The file beside config.json that older versions write instead of a section in it.
  static let sidecarName = "hf_quant_config.json"

  /// The values of `quant_algo` that are read.
  enum Algorithm: String, Sendable, CaseIterable {
    case fp8 = "FP8"
    case channelFP8 = "FP8_PER_CHANNEL_PER_TOKEN"
    case nvfp4 = "NVFP4"

    var dtype: DType { self == .nvfp4 ? .u8 : .f8E4M3 }
  }

  let file: String
  private let all: Algorithm?
  private let modules: [String: Algorithm]

  /// Whether some weight must be quantized for the configuration to be true.
  var needsQuantizedWeights: Bool { all != nil || !modules.isEmpty }

  /// Reads a section of config.json, or hf_quant_config.json as a whole.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for algorithms that are not read.
  init(_ reader: QuantizationReader) throws {
    file = reader.file
    let section = try reader.object("quantization") ?? reader
    var modules: [String: Algorithm] = [:]
    if let layers = try section.object("quantized_layers")?.json.object {
      for (key, value) in zip(layers.keys, layers.values) {
        modules[key] = try ModelOptConfig.algorithm(QuantizationReader(value, file: reader.file))
      }
    }
    self.modules = modules
    let name = try section.string("quant_algo")
    // Mixed precision says for each module what it has.
    all = name == "MIXED_PRECISION" ? nil : try ModelOptConfig.algorithm(section)
  }

  private static func algorithm(_ section: QuantizationReader) throws -> Algorithm? {
    guard let name = try section.string("quant_algo") else { return nil }
    guard let algorithm = Algorithm(rawValue: name) else {
      throw section.unsupported(
        "quant_algo", "'\(name)'",
        Algorithm.allCases.map(\.rawValue).joined(separator: ", ") + ", MIXED_PRECISION")
    }
    if algorithm == .nvfp4, let size = try section.integer("group_size", in: 1...65536), size != NVFP4.group {
      throw section.unsupported("group_size", "\(size) for NVFP4", "\(NVFP4.group)")
    }
    return algorithm
  }

  /// How a module's weight is quantized.
  func algorithm(of module: String) -> Algorithm? { modules[module] ?? all }
}

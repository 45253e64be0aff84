// What a checkpoint declares of the activations that meet a weight, and of cached keys and values: how many bits, what shares a
// scale, and where the scale lies when calibration has chosen it. Formats/layouts.md, section 12.

package import SmeltStorage
internal import SmeltTensors

/// One scale for all tokens, as a checkpoint stores it.
package struct InputScale: Sendable, Hashable {
  /// The number in the file.
  package let stored: Float
  /// Whether codes are divided by it, as of compressed-tensors' NVFP4; else they are multiplied.
  package let divides: Bool

  /// A scale.
  package init(_ stored: Float, divides: Bool = false) { (self.stored, self.divides) = (stored, divides) }

  /// What codes are multiplied by: of a divisor the reciprocal, rounded to float32.
  package var multiplier: Float { divides ? 1 / stored : stored }

  /// The number as a layout stores it that divides, or does not; rounded once where the other way was stored.
  package func stored(divides wanted: Bool) -> Float { wanted == divides ? stored : 1 / stored }
}

/// How an engine rounds what it multiplies a weight with.
package struct DeclaredActivations: Sendable {
  /// The numbers of a token that share a scale.
  package enum Form: Sendable, Hashable {
    /// All of them, by the token's own largest magnitude.
    case token
    /// So many channels, by their own largest magnitude.
    case group(Int)
    /// So many channels under a power of two, as MXFP8 has them.
    case powers(Int)
    /// All numbers of all tokens: one scale that calibration chose, or, without one, that of the batch.
    case tensor
    /// 16 channels with an E4M3 scale that the engine chooses under one that calibration chose: NVFP4.
    case local
  }

  /// What shares a scale.
  package let form: Form
  /// E4M3 or E2M1; else whole numbers.
  package let isFloat: Bool
  /// The tensor with the scale, where one was chosen beforehand and is there.
  let scale: TensorInfo?
  /// The name of that tensor.
  package var scaleName: String? { scale?.name }
  /// Whether that scale divides.
  let divides: Bool
  /// The scale that the configuration promises and that is not there.
  private let missing: String?

  init(
    _ form: Form, isFloat: Bool = true, scale: TensorInfo? = nil, divides: Bool = false,
    missing: String? = nil
  ) {
    (self.form, self.isFloat, self.scale, self.divides) = (form, isFloat, scale, divides)
    self.missing = scale == nil ? missing : nil
  }

  /// The scale that was chosen beforehand; nil where the engine chooses.
  /// - Throws: `Q_SCALE_MISSING` if the configuration declares a scale that is absent, `Q_SCALE_SHAPE` if it is not a single number,
  ///   `Q_SCALE_VALUE` if it is not positive and finite.
  package func inputScale() throws(FormatError) -> InputScale? {
    if let missing {
      throw FormatError(
        .scaleMissing, subject: missing,
        "is not there, and the configuration says that activations have this scale",
        help: "get the checkpoint anew, or say in its configuration that activations are dynamic")
    }
    return try scale.map { tensor throws(FormatError) in
      InputScale(try tensor.scaleNumber(), divides: divides)
    }
  }
}

extension TensorInfo {
  /// A single scale.
  /// - Throws: `Q_SCALE_SHAPE`, `Q_SCALE_VALUE`.
  package func scaleNumber() throws(FormatError) -> Float {
    guard shape.count == 1, [.f32, .bf16, .f16].contains(dtype) else {
      throw FormatError(
        .scaleShape, file: fileName(file), subject: name, offset: offset,
        "is \(dtype) \(shape), expected one F32, BF16 or F16")
    }
    let bits: (UInt32, UInt16) = bytes.withUnsafeBytes {
      // SAFETY: the tensor has the bytes of its shape and dtype, one number of four or of two
      dtype == .f32
        ? (UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)), 0)
        : (0, UInt16(littleEndian: $0.loadUnaligned(as: UInt16.self)))
    }
    let number =
      switch dtype {
      case .f32: Float(bitPattern: bits.0)
      case .bf16: Float(bitPattern: UInt32(bits.1) << 16)
      default: Float(Float16(bitPattern: bits.1))
      }
    guard number > 0, number.isFinite else {
      throw FormatError(
        .scaleValue, file: fileName(file), subject: name, offset: offset,
        "is \(number), expected a positive finite number")
    }
    return number
  }
}

extension CompressedTensorsConfig {
  /// `input_activations` of a group.
  struct Inputs: Sendable {
    let bits: Int
    let isFloat: Bool
    let strategy: String
    let group: Int?
    /// Whether scales are E8M0.
    let hasPowers: Bool
    /// Whether the engine chooses every scale: `dynamic` is true, rather than false or `local`.
    let isDynamic: Bool

    /// Reads the section; nil where activations stay as they are.
    init?(_ reader: QuantizationReader?) throws {
      guard let reader else { return nil }
      bits = try reader.integer("num_bits", in: 1...16) ?? 8
      isFloat = try reader.string("type") == "float"
      group = try reader.integer("group_size", in: -1...65536).flatMap { $0 > 0 ? $0 : nil }
      strategy = try reader.string("strategy") ?? (group == nil ? "tensor" : "group")
      hasPowers = try reader.string("scale_dtype") == "torch.uint8"
      isDynamic = reader.value("dynamic")?.value.bool ?? false
    }

    /// What it says of a module's inputs.
    func activations(_ module: String, in source: any TensorSource) -> DeclaredActivations? {
      guard bits <= 8 else { return nil }
      switch strategy {
      case "tensor_group":
        return DeclaredActivations(
          .local, isFloat: isFloat, scale: source.tensor("\(module).input_global_scale"), divides: true,
          missing: "\(module).input_global_scale")
      case "tensor":
        return DeclaredActivations(
          .tensor, isFloat: isFloat, scale: isDynamic ? nil : source.tensor("\(module).input_scale"),
          missing: isDynamic ? nil : "\(module).input_scale")
      case "group", "block":
        return DeclaredActivations(
          group.map { hasPowers ? .powers($0) : .group($0) } ?? .token, isFloat: isFloat)
      default: return DeclaredActivations(.token, isFloat: isFloat)
      }
    }
  }
}

extension ModelOptConfig.Algorithm {
  /// What it says of a module's inputs; nil where they stay as they are.
  func activations(_ module: String, in source: any TensorSource) -> DeclaredActivations? {
    let scale = source.tensor("\(module).input_scale")
    switch self {
    case .fp8: return DeclaredActivations(.tensor, scale: scale)
    case .channelFP8: return DeclaredActivations(.token)
    case .blockFP8, .blockScales: return DeclaredActivations(.group(128))
    case .mxfp8: return DeclaredActivations(.powers(FP4.group))
    case .nvfp4: return scale.map { DeclaredActivations(.local, scale: $0) }
    case .weightNVFP4: return nil
    }
  }
}

extension QuantizationConfig {
  /// Where the scales of a layer's cached keys and values lie, of an attention module such as `model.layers.3.self_attn`: the names that
  /// vLLM 0.33 (`maybe_remap_kv_scale_name`) and SGLang 0.5 take.
  package static func cacheScales(_ attention: String, in source: any TensorSource) -> (
    keys: TensorInfo, values: TensorInfo
  )? {
    func first(_ letter: String) -> TensorInfo? {
      [
        "\(letter)_scale", "\(letter)_proj.\(letter)_scale", "attn.\(letter)_scale",
        "\(letter)_proj.output_scale", "qkv_proj.\(letter)_scale", "kv_scale",
      ].lazy.compactMap { source.tensor("\(attention).\($0)") }.first
    }
    guard let keys = first("k"), let values = first("v") else { return nil }
    return (keys, values)
  }

  /// Whether a section says that keys and values are cached in FP8: `kv_cache_scheme` of compressed-tensors and of ModelOpt, or
  /// `kv_cache_quant_algo` of hf_quant_config.json.
  static func declaresCache(_ section: JSON?) -> Bool {
    guard let section else { return false }
    if let scheme = section["kv_cache_scheme"], scheme.object != nil {
      return scheme["type"]?.string == "float" && scheme["num_bits"]?.integer == 8
    }
    let name = section["kv_cache_quant_algo"] ?? section["quantization"]?["kv_cache_quant_algo"]
    return name?.string?.uppercased() == "FP8"
  }
}

// How NVIDIA ModelOpt lays out quantized weights: the way back from `ModelOpt`. Source: ModelOpt 0.47,
// `modelopt/torch/export/{unified_export_hf,quant_utils,convert_hf_config}.py`. Formats/layouts.md, section 10.

package import SmeltStorage
package import SmeltTensors

/// How one weight is laid out, and what the configuration says about it.
package struct ModelOptFormat: Hashable, Sendable {
  private let kind: ModelOptConfig.Algorithm

  /// `quant_algo`.
  package var algorithm: String { kind.rawValue }

  /// Whether the engine rounds activations by a scale that the checkpoint gives.
  package var isStatic: Bool { kind == .fp8 || kind == .nvfp4 }

  /// Whether the engine rounds activations at all.
  package var roundsActivations: Bool { kind != .weightNVFP4 }

  /// Whether scales are those of square blocks.
  package var hasBlocks: Bool { kind == .blockFP8 }

  /// Whether an engine reads experts so: vLLM 0.33 and SGLang 0.5 read FP8 experts with one scale a matrix, or in blocks.
  package var fitsExperts: Bool { kind != .channelFP8 }

  /// The format of an encoding, or nil where the package has none.
  /// - Parameter isStatic: whether there is a scale of activations. FP8 with one scale a weight has no other form.
  package init?(_ encoding: any Encoding, _ shape: Shape, isStatic: Bool) {
    switch encoding {
    case let fp8 as FP8 where fp8.format == .e4m3:
      switch fp8.granularity {
      case .tensor:
        guard isStatic else { return nil }
        kind = .fp8
      case .channel: kind = .channelFP8
      case .block128: kind = .blockFP8
      case .block(rows: 1, columns: FP4.group):
        guard shape.columns % FP4.group == 0 else { return nil }
        kind = .mxfp8
      case .block: return nil
      }
    case is NVFP4: kind = isStatic ? .nvfp4 : .weightNVFP4
    default: return nil
    }
  }

  /// The tensors of a weight, codes first, in the order of its parts; the scale of its activations behind them.
  package func declare(_ weight: DeclaredWeight) -> [DeclaredTensor] {
    let module = weight.module
    var entries = weight.parts.map { part in
      var entry = DeclaredTensor(name: weight.tensor, dtype: part.dtype, shape: part.shape)
      switch part.name {
      case .values: if kind.isFP4 { entry.dtype = .u8 }
      case .globalScale:
        entry.name = "\(module).weight_scale_2"
        entry.shape = []
        entry.isReciprocal = (weight.encoding as? NVFP4)?.isDivided ?? false
      default:
        entry.name = "\(module).weight_scale"
        switch kind {
        case .fp8: entry.shape = []
        case .blockFP8: entry.shape = [part.shape.rows, 1, part.shape.columns, 1]
        case .mxfp8: entry.dtype = .u8
        default: break
        }
      }
      return entry
    }
    if isStatic, let scale = weight.inputScale {
      entries.append(.number("\(module).input_scale", scale.stored(divides: false), shape: []))
    }
    return entries
  }

  /// What `quantized_layers` says of a module.
  package var layer: JSON {
    var members: [(String, JSON)] = [("quant_algo", JSON(algorithm))]
    if let group = groupSize { members.append(("group_size", JSON(group))) }
    return JSON(members: members)
  }

  /// `group_size`, where the algorithm has one.
  package var groupSize: Int? { kind.group ?? (kind == .blockFP8 ? 128 : nil) }

  /// One entry of `config_groups`, as `convert_hf_quant_config_format` writes it.
  package func group(targets: [String]) -> JSON {
    func numbers(_ bits: Int, strategy: String? = nil) -> JSON {
      var members: [(String, JSON)] = [("dynamic", false), ("num_bits", JSON(bits)), ("type", "float")]
      if let groupSize, kind != .blockFP8 { members.append(("group_size", JSON(groupSize))) }
      if let strategy { members.append(("strategy", JSON(strategy))) }
      return JSON(members: members)
    }
    let bits = kind.isFP4 ? 4 : 8
    var members: [(String, JSON)] = []
    if kind != .weightNVFP4, kind != .blockFP8 { members.append(("input_activations", numbers(bits))) }
    members.append(("weights", numbers(bits, strategy: kind == .channelFP8 ? "channel" : nil)))
    members.append(("targets", JSON(targets.map { JSON($0) })))
    return JSON(members: members)
  }
}

extension DeclaredTensor {
  /// A tensor of one float32, whatever the weight's numbers are.
  package static func number(_ name: String, _ value: Float, shape: Shape) -> DeclaredTensor {
    let bits = value.bitPattern.littleEndian
    return DeclaredTensor(
      name: name, dtype: .f32, shape: shape, constant: Bytes(withUnsafeBytes(of: bits) { Array($0) }))
  }
}

extension Bytes {
  /// One little-endian float32, its reciprocal in its place; and whether that is exact.
  package var reciprocal: (bytes: Bytes, isExact: Bool) {
    precondition(count == 4, "a reciprocal of \(count) bytes")
    // SAFETY: four bytes, as was asked
    let value = withUnsafeBytes { Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) }
    let turned = 1 / value
    return (
      Bytes(Swift.withUnsafeBytes(of: turned.bitPattern.littleEndian) { Array($0) }),
      value.significand == 1 && turned.isNormal
    )
  }
}

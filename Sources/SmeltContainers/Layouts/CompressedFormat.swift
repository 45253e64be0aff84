// How the package compressed-tensors (0.20) lays out quantized weights: the way back from `CompressedTensors`.
// Formats/layouts.md, section 10.

package import SmeltStorage
package import SmeltTensors

/// How one weight is laid out, and what the configuration says about it.
package struct CompressedFormat: Hashable {
  /// What shares a scale.
  package enum Strategy: Hashable {
    case tensor, channel
    case group(Int)
    case block(rows: Int, columns: Int)
    /// Groups under one scale for all.
    case tensorGroup(Int)
  }

  /// Activations that the engine rounds as it goes.
  package enum Activations: Hashable {
    case token(isFloat: Bool)
    case group(Int)
    /// One scale for all numbers: the batch's own, or one that the checkpoint gives. Weights by tensor have no other form in
    /// fused experts: vLLM 0.33 `compressed_tensors_moe_w8a8_fp8.py`, SGLang 0.5 `compressed_tensors_w8a8_fp8_moe.py`.
    case tensor(isStatic: Bool)
    /// Groups, rounded to four bits under a scale that the checkpoint gives.
    case local(Int)
    /// E4M3 under a power of two for each 32 columns.
    case mx
  }

  /// What the user wants of activations.
  package enum ActivationChoice: Hashable, Sendable {
    /// What goes with the encoding.
    case usual
    /// They stay as they are.
    case kept
    case rounded(Activations)
  }

  /// The package's name.
  package let name: String
  package let bits: Int
  package let isFloat: Bool
  package let strategy: Strategy
  package let activations: Activations?
  /// Whether each scale has a zero point.
  package var hasZeroPoints = false
  /// Whether a table says which group a column belongs to.
  package var isIndexed = false
  /// The type of the stored scales, where the package wants to know.
  package var scaleType: String?

  /// Whether the codes are in `weight_packed`.
  private var isPacked: Bool { name.hasSuffix("pack-quantized") }

  /// Whether 4-bit codes have a byte each, as engines want them that multiply integers.
  private var hasByteCodes: Bool { !isFloat && bits == 4 && !isPacked }

  /// The format of an encoding, or nil where the package has none, or none with such activations.
  /// - Parameters:
  ///   - scaleType: the type of the scales; nil: what goes with the encoding.
  ///   - isStatic: whether there is a scale of activations that calibration chose.
  package init?(
    _ encoding: any Encoding, _ shape: Shape, scaleType stored: DType? = nil, _ choice: ActivationChoice,
    isStatic: Bool = false
  ) {
    let found: Parts?
    switch encoding {
    case is INT8: found = Parts.int8(choice)
    case let integers as GroupedIntegers:
      (hasZeroPoints, isIndexed) = (integers.hasZeroPoints, integers.isIndexed)
      found = Parts.integers(integers, shape, choice)
    case let fp8 as FP8 where fp8.format == .e4m3:
      found = Parts.fp8(
        fp8, shape, isMX: stored.map { [.f8E8M0, .u8].contains($0) } ?? true, isStatic: isStatic, choice)
    case is NVFP4:
      found = Parts.nvfp4(isStatic: isStatic, choice)
      scaleType = "torch.float8_e4m3fn"
    case is FP4:
      found = Parts.mxfp4(choice)
      scaleType = "torch.uint8"
    default: return nil
    }
    guard let found else { return nil }
    // Words of 32 bits hold whole codes.
    guard found.isFloat || !found.name.hasPrefix("pack") || shape.columns % (32 / found.bits) == 0 else {
      return nil
    }
    (name, bits, isFloat) = (found.name, found.bits, found.isFloat)
    (strategy, activations) = (found.strategy, found.activations)
    if name == CompressedFormat.mxfp8 { scaleType = "torch.uint8" }
  }

  fileprivate static let mxfp8 = "mxfp8-quantized"

  /// The tensors of a weight, codes first, in the order of its parts.
  package func declare(_ weight: DeclaredWeight) -> [DeclaredTensor] {
    let (module, shape) = (weight.module, weight.shape)
    var entries = weight.parts.map { part in
      var entry = DeclaredTensor(name: weight.tensor, dtype: part.dtype, shape: part.shape)
      switch part.name {
      case .values where isPacked:
        entry.name = "\(module).weight_packed"
        entry.dtype = isFloat ? .u8 : .i32
        if !isFloat { entry.shape = [shape.rows, shape.columns * bits / 32] }
        entry.flipsTopBits = !isFloat && bits == 8
      case .values where hasByteCodes:
        entry.dtype = .i8
        entry.shape = [shape.rows, shape.columns]
        entry.hasByteCodes = true
      case .values: break
      case .globalScale:
        entry.name = "\(module).weight_global_scale"
        entry.isReciprocal = (weight.encoding as? NVFP4)?.isDivided == false
      case .zeroPoints:
        let groups = part.shape.rank == 2 ? part.shape.columns : 1
        entry.name = "\(module).weight_zero_point"
        entry.dtype = .i32
        entry.shape = [(shape.rows * bits + 31) / 32, groups]
        entry.packed = DeclaredTensor.Packing(bits: bits, groups: groups)
      case .groupIndex: entry.name = "\(module).weight_g_idx"
      default:
        entry.name = "\(module).weight_scale"
        if strategy == .channel { entry.shape = [shape.rows, 1] }
        if name == "mxfp4-pack-quantized" || name == CompressedFormat.mxfp8 { entry.dtype = .u8 }
      }
      return entry
    }
    if isPacked, !isFloat {
      let numbers = [shape.rows, shape.columns].map { Int64($0).littleEndian }
      entries.append(
        DeclaredTensor(
          name: "\(module).weight_shape", dtype: .i64, shape: [2],
          constant: Bytes(numbers.withUnsafeBytes { Array($0) })))
    }
    if let scale = weight.inputScale {
      switch activations {
      case .tensor(isStatic: true):
        entries.append(.number("\(module).input_scale", scale.stored(divides: false), shape: [1]))
      case .local:
        entries.append(.number("\(module).input_global_scale", scale.stored(divides: true), shape: [1]))
      default: break
      }
    }
    return entries
  }

  /// One entry of `config_groups`.
  package func group(targets: [String]) -> JSON {
    [
      "targets": JSON(targets.map { JSON($0) }), "weights": weights, "input_activations": inputs,
      "output_activations": JSON(.null), "format": JSON(name),
    ]
  }

  private var weights: JSON {
    var members: [(String, JSON)] = [
      ("num_bits", JSON(bits)), ("type", JSON(isFloat ? "float" : "int")),
      ("symmetric", JSON(!hasZeroPoints)),
      ("group_size", JSON(.null)), ("strategy", "tensor"), ("dynamic", false),
    ]
    switch strategy {
    case .tensor: break
    case .channel: members[4].1 = "channel"
    case .group(let size): (members[3].1, members[4].1) = (JSON(size), "group")
    case .tensorGroup(let size): (members[3].1, members[4].1) = (JSON(size), "tensor_group")
    case .block(let rows, let columns):
      members[4].1 = "block"
      members.append(("block_structure", [JSON(rows), JSON(columns)]))
    }
    if isIndexed { members.append(("actorder", "group")) }
    if let scaleType { members.append(("scale_dtype", JSON(scaleType))) }
    return JSON(members: members)
  }

  private var inputs: JSON {
    guard let activations else { return JSON(.null) }
    var (size, strategy, isFloat): (JSON, JSON, Bool) = (JSON(.null), "token", true)
    var (bits, dynamic): (JSON, JSON) = (8, true)
    switch activations {
    case .token(let float): isFloat = float
    case .group(let columns): (size, strategy) = (JSON(columns), "group")
    case .mx: (size, strategy) = (JSON(FP4.group), "group")
    case .tensor(let isStatic): (strategy, dynamic) = ("tensor", JSON(!isStatic))
    case .local(let columns): (size, strategy, bits, dynamic) = (JSON(columns), "tensor_group", 4, "local")
    }
    var members: [(String, JSON)] = [
      ("num_bits", bits), ("type", isFloat ? "float" : "int"), ("symmetric", true), ("group_size", size),
      ("strategy", strategy), ("dynamic", dynamic),
    ]
    if case .local = activations { members.append(("scale_dtype", "torch.float8_e4m3fn")) }
    if activations == .mx { members.append(("scale_dtype", "torch.uint8")) }
    return JSON(members: members)
  }
}

extension CompressedFormat.ActivationChoice {
  /// Whether the encoding's own format holds, which leaves activations alone.
  fileprivate var isPlain: Bool { self == .usual || self == .kept }
}

/// What an encoding becomes with a choice of activations. Which combinations there are is what engines have kernels for: vLLM 0.33.0,
/// `quantization/compressed_tensors/compressed_tensors.py`, `_get_scheme_from_parts`, and `compressed_tensors_moe.py`,
/// `get_moe_method`.
private struct Parts {
  let name: String
  let bits: Int
  let isFloat: Bool
  let strategy: CompressedFormat.Strategy
  let activations: CompressedFormat.Activations?

  init(
    _ name: String, _ bits: Int, _ isFloat: Bool, _ strategy: CompressedFormat.Strategy,
    _ activations: CompressedFormat.Activations?
  ) {
    (self.name, self.bits, self.isFloat) = (name, bits, isFloat)
    (self.strategy, self.activations) = (strategy, activations)
  }

  static func int8(_ choice: CompressedFormat.ActivationChoice) -> Parts? {
    switch choice {
    case .usual, .rounded(.token(isFloat: false)):
      Parts("int-quantized", 8, false, .channel, .token(isFloat: false))
    case .kept: Parts("pack-quantized", 8, false, .channel, nil)
    case .rounded: nil
    }
  }

  /// Activations in eight bits go with symmetric 4-bit codes: integers want codes of a byte each, E4M3 packed ones.
  static func integers(
    _ integers: GroupedIntegers, _ shape: Shape, _ choice: CompressedFormat.ActivationChoice
  ) -> Parts? {
    let strategy: CompressedFormat.Strategy
    switch integers.granularity {
    case .group(let size):
      guard shape.columns % size == 0 else { return nil }
      strategy = .group(size)
    case .channel: strategy = .channel
    case .tensor: return nil
    }
    let bits = integers.width.rawValue
    let isSymmetric = bits == 4 && !integers.hasZeroPoints && !integers.isIndexed
    switch choice {
    case .usual, .kept: return Parts("pack-quantized", bits, false, strategy, nil)
    case .rounded(.token(isFloat: false)) where isSymmetric:
      return Parts("int-quantized", 4, false, strategy, .token(isFloat: false))
    case .rounded(.token(isFloat: true)) where isSymmetric && strategy != .channel:
      return Parts("pack-quantized", 4, false, strategy, .token(isFloat: true))
    case .rounded: return nil
    }
  }

  /// - Parameters:
  ///   - isMX: whether scales are powers of two in a byte.
  ///   - isStatic: whether there is a scale of activations that calibration chose.
  static func fp8(
    _ fp8: FP8, _ shape: Shape, isMX: Bool, isStatic: Bool, _ choice: CompressedFormat.ActivationChoice
  ) -> Parts? {
    let strategy: CompressedFormat.Strategy
    let own: CompressedFormat.Activations
    switch fp8.granularity {
    case .tensor: (strategy, own) = (.tensor, .tensor(isStatic: isStatic))
    case .channel: (strategy, own) = (.channel, .token(isFloat: true))
    case .block(rows: 1, columns: FP4.group) where isMX:
      guard shape.columns % FP4.group == 0, choice.isPlain else { return nil }
      return Parts(
        CompressedFormat.mxfp8, 8, true, .group(FP4.group), choice == .kept ? nil : .mx)
    case .block(let rows, let columns):
      (strategy, own) = (.block(rows: rows, columns: columns), .group(columns))
    }
    switch choice {
    case .usual, .rounded(own): return Parts("float-quantized", 8, true, strategy, own)
    case .kept: return Parts("naive-quantized", 8, true, strategy, nil)
    case .rounded: return nil
    }
  }

  static func nvfp4(isStatic: Bool, _ choice: CompressedFormat.ActivationChoice) -> Parts? {
    guard choice.isPlain else { return nil }
    return Parts(
      "nvfp4-pack-quantized", 4, true, .tensorGroup(NVFP4.group),
      isStatic && choice == .usual ? .local(NVFP4.group) : nil)
  }

  static func mxfp4(_ choice: CompressedFormat.ActivationChoice) -> Parts? {
    switch choice {
    case .usual, .kept: Parts("mxfp4-pack-quantized", 4, true, .group(FP4.group), nil)
    case .rounded(.group(let columns)):
      Parts("mxfp4-pack-quantized", 4, true, .group(FP4.group), .group(columns))
    case .rounded: nil
    }
  }
}

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

  /// The format of an encoding, or nil where the package has none.
  /// - Parameter isStatic: whether there is a scale of activations that calibration chose.
  package init?(
    _ encoding: any Encoding, _ shape: Shape, keepsActivations: Bool, isStatic: Bool = false
  ) {
    func floats(_ strategy: Strategy, _ activations: Activations) -> (
      String, Int, Bool, Strategy, Activations?
    ) {
      keepsActivations
        ? ("naive-quantized", 8, true, strategy, nil) : ("float-quantized", 8, true, strategy, activations)
    }
    let found: (String, Int, Bool, Strategy, Activations?)
    switch encoding {
    case is INT8:
      found =
        keepsActivations
        ? ("pack-quantized", 8, false, .channel, nil)
        : ("int-quantized", 8, false, .channel, .token(isFloat: false))
      guard !keepsActivations || shape.columns % 4 == 0 else { return nil }
    case let integers as GroupedIntegers:
      (hasZeroPoints, isIndexed) = (integers.hasZeroPoints, integers.isIndexed)
      let bits = integers.width.rawValue
      guard shape.columns % (32 / bits) == 0 else { return nil }
      switch integers.granularity {
      case .group(let size):
        guard shape.columns % size == 0 else { return nil }
        found = ("pack-quantized", bits, false, .group(size), nil)
      case .channel: found = ("pack-quantized", bits, false, .channel, nil)
      case .tensor: return nil
      }
    case let fp8 as FP8 where fp8.format == .e4m3:
      switch fp8.granularity {
      case .tensor: found = floats(.tensor, .tensor(isStatic: isStatic))
      case .channel: found = floats(.channel, .token(isFloat: true))
      case .block(let rows, let columns):
        found = floats(.block(rows: rows, columns: columns), .group(columns))
      }
    case is NVFP4:
      found = (
        "nvfp4-pack-quantized", 4, true, .tensorGroup(NVFP4.group), isStatic ? .local(NVFP4.group) : nil
      )
      scaleType = "torch.float8_e4m3fn"
    case is FP4:
      found = ("mxfp4-pack-quantized", 4, true, .group(FP4.group), nil)
      scaleType = "torch.uint8"
    default: return nil
    }
    (name, bits, isFloat, strategy, activations) = found
  }

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
        if name == "mxfp4-pack-quantized" { entry.dtype = .u8 }
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
    case .tensor(let isStatic): (strategy, dynamic) = ("tensor", JSON(!isStatic))
    case .local(let columns): (size, strategy, bits, dynamic) = (JSON(columns), "tensor_group", 4, "local")
    }
    var members: [(String, JSON)] = [
      ("num_bits", bits), ("type", isFloat ? "float" : "int"), ("symmetric", true), ("group_size", size),
      ("strategy", strategy), ("dynamic", dynamic),
    ]
    if case .local = activations { members.append(("scale_dtype", "torch.float8_e4m3fn")) }
    return JSON(members: members)
  }
}

// What a configuration says of a module's weight, as engines read it: bits, what shares a scale, how activations are rounded.

import SmeltStorage
import SmeltTensors

/// How activations are declared.
struct EngineInputs: Hashable, Sendable {
  var bits: Int
  var isFloat: Bool
  /// `tensor`, `token`, `group`, `tensor_group`.
  var strategy: String
  var group: Int?
  /// Whether scales are computed as the model runs.
  var isDynamic: Bool

  /// How rules call it: `token`, `tensor` and `group` of scales that are computed as the model runs, `static` for one that is
  /// stored, `local` for NVFP4's two levels; the bits before it where they are not 8.
  var word: String {
    let bits = bits == 8 ? "" : "\(bits)-bit "
    if strategy == "tensor_group" { return "local" }
    return bits + (isDynamic ? strategy : "static")
  }

  init(bits: Int, isFloat: Bool, strategy: String, group: Int? = nil, isDynamic: Bool) {
    (self.bits, self.isFloat, self.strategy) = (bits, isFloat, strategy)
    (self.group, self.isDynamic) = (group, isDynamic)
  }

  /// A group's `input_activations` of compressed-tensors.
  init?(_ json: JSON?) {
    guard let json, json.object != nil else { return nil }
    let group = json["group_size"]?.integer
    self.init(
      bits: json["num_bits"]?.integer ?? 8, isFloat: json["type"]?.string == "float",
      strategy: json["strategy"]?.string ?? (group == nil ? "tensor" : "group"), group: group,
      isDynamic: json["dynamic"]?.bool ?? (json["dynamic"]?.string != nil))
  }
}

/// How a module's weight is declared.
struct EngineScheme: Hashable, Sendable {
  var bits: Int
  var isFloat: Bool
  /// `tensor`, `channel`, `group`, `tensor_group`, `block`.
  var strategy: String
  /// Columns of a group.
  var group: Int?
  /// Rows of a block.
  var blockRows: Int?
  var isSymmetric = true
  /// Whether a table says which group a column belongs to.
  var isIndexed = false
  /// The package's name of the layout, where it has one.
  var format: String?
  var activations: EngineInputs?

  /// The kind of weight that it declares.
  var kind: EngineKind {
    switch (isFloat, bits, strategy) {
    case (true, 8, "tensor"): .fp8Tensor
    case (true, 8, "channel"): .fp8Channel
    case (true, 8, "block"): blockRows == 1 ? .mxfp8 : .fp8Block
    case (true, 8, _): .mxfp8
    case (true, 4, "tensor_group"): .nvfp4
    case (true, _, _): .mxfp4
    case (false, 8, _): format == "pack-quantized" || format == nil ? .packed : .int8
    default: format == "int-quantized" ? .int4 : .packed
    }
  }

  /// How people read it.
  var text: String {
    let group = group.map { strategy == "channel" || strategy == "tensor" ? "" : " of \($0)" } ?? ""
    return "\(kind.rawValue) by \(strategy)\(group)"
      + (activations.map { ", activations by \($0.word)" } ?? "")
  }

  /// Whether a weight is stored so.
  func fits(_ weight: EngineWeight) -> Bool {
    guard kind == weight.kind else { return false }
    guard kind == .packed || kind == .int4 else { return true }
    return weight.columnsPerScale == (strategy == "channel" || group == -1 ? nil : group)
  }

  /// A group of compressed-tensors' config_groups; nil where it quantizes no weights.
  init?(group json: JSON, format all: String?) {
    guard let weights = json["weights"], weights.object != nil else { return nil }
    let group = weights["group_size"]?.integer
    let block = weights["block_structure"]?.array?.compactMap(\.integer)
    self.init(
      bits: weights["num_bits"]?.integer ?? 8, isFloat: weights["type"]?.string == "float",
      strategy: weights["strategy"]?.string ?? (group == nil ? "tensor" : group == -1 ? "channel" : "group"),
      group: group ?? block?.last, blockRows: block?.first,
      isSymmetric: weights["symmetric"]?.bool ?? true,
      isIndexed: ["group", "dynamic"].contains(weights["actorder"]?.string ?? ""),
      format: json["format"]?.string ?? all, activations: EngineInputs(json["input_activations"]))
  }

  init(
    bits: Int, isFloat: Bool, strategy: String, group: Int? = nil, blockRows: Int? = nil,
    isSymmetric: Bool = true,
    isIndexed: Bool = false, format: String? = nil, activations: EngineInputs? = nil
  ) {
    (self.bits, self.isFloat, self.strategy, self.group) = (bits, isFloat, strategy, group)
    (self.blockRows, self.isSymmetric, self.isIndexed) = (blockRows, isSymmetric, isIndexed)
    (self.format, self.activations) = (format, activations)
  }

  /// ModelOpt's `quant_algo`; nil for one that no engine here knows.
  /// Source: vLLM 0.33.0, `model_executor/layers/quantization/modelopt.py`, `LINEAR_ALGOS` and `resolve`.
  init?(algorithm: String, group: Int?) {
    switch algorithm.uppercased() {
    case "FP8":
      self.init(
        bits: 8, isFloat: true, strategy: "tensor",
        activations: EngineInputs(bits: 8, isFloat: true, strategy: "tensor", isDynamic: false))
    case "FP8_PER_CHANNEL_PER_TOKEN":
      self.init(
        bits: 8, isFloat: true, strategy: "channel",
        activations: EngineInputs(bits: 8, isFloat: true, strategy: "token", isDynamic: true))
    case "FP8_PB_WO", "FP8_BLOCK_SCALES":
      let size = group ?? 128
      self.init(
        bits: 8, isFloat: true, strategy: "block", group: size, blockRows: size,
        activations: EngineInputs(
          bits: 8, isFloat: true, strategy: "group", group: size, isDynamic: true))
    case "NVFP4":
      self.init(
        bits: 4, isFloat: true, strategy: "tensor_group", group: 16,
        activations: EngineInputs(
          bits: 4, isFloat: true, strategy: "tensor_group", group: 16, isDynamic: true))
    case "W4A16_NVFP4": self.init(bits: 4, isFloat: true, strategy: "tensor_group", group: 16)
    case "MXFP8":
      self.init(
        bits: 8, isFloat: true, strategy: "group", group: 32,
        activations: EngineInputs(bits: 8, isFloat: true, strategy: "group", group: 32, isDynamic: true))
    default: return nil
    }
  }
}

/// What an engine finds for a module.
enum EngineFound: Equatable, Sendable {
  /// It stays as it is.
  case plain
  case scheme(EngineScheme)
  /// Parts of a fused module are ignored and others are not.
  case mixed

  var text: String {
    switch self {
    case .plain: "plain"
    case .scheme(let scheme): scheme.text
    case .mixed: "some parts plain, some quantized"
    }
  }
}

// A model's weights as an engine's loader meets them: stored in one of a few ways, parts of fused matrices, cut into shards.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// How engines call the ways in which weights are stored.
package enum EngineKind: String, Sendable, CaseIterable {
  case plain
  case fp8Tensor = "fp8-tensor"
  case fp8Channel = "fp8-channel"
  case fp8Block = "fp8-block"
  case mxfp8
  case int8
  /// Integers of 4 bits with a byte each.
  case int4
  /// Integers in words of 32 bits.
  case packed
  case nvfp4, mxfp4
  /// One of llama.cpp's blocks.
  case ggml

  /// Those with codes and scales in safetensors.
  static let quantized: [EngineKind] = allCases.filter { $0 != .plain && $0 != .ggml }

  init(_ encoding: any Encoding, isPacked: Bool) {
    switch encoding {
    case is Plain, is IntegerTable: self = .plain
    case let fp8 as FP8:
      switch fp8.granularity {
      case .tensor: self = .fp8Tensor
      case .channel: self = .fp8Channel
      case .block(1, FP4.group): self = .mxfp8
      case .block: self = .fp8Block
      }
    case is INT8: self = isPacked ? .packed : .int8
    case let integers as GroupedIntegers: self = isPacked ? .packed : integers.width == .eight ? .int8 : .int4
    case is NVFP4: self = .nvfp4
    case is FP4: self = .mxfp4
    default: self = .ggml
    }
  }
}

/// Along what a matrix is cut where several devices share it.
enum EngineSplit: Sendable {
  /// Output channels: a column-parallel layer.
  case rows
  /// Input channels: a row-parallel layer.
  case columns
  /// Every device has all of it.
  case none
}

/// One weight.
struct EngineWeight: Sendable {
  let spec: WeightSpec
  let encoding: any Encoding
  /// Its tensors, codes first.
  let tensors: [String]
  /// The module that the codes belong to, as the files call it.
  let module: String
  let kind: EngineKind
  /// Whether its codes lie in a tensor that holds several weights.
  let isStacked: Bool

  /// Whether it belongs to a routed expert.
  var isExpert: Bool { spec.role.isRouted }

  init(_ stored: StoredWeight, isStacked: Bool) {
    spec = stored.spec
    encoding = stored.encoding
    tensors = stored.tensors.map(\.name)
    let codes = tensors.first ?? spec.name.description
    module = EngineWeight.module(codes)
    kind = EngineKind(encoding, isPacked: codes.hasSuffix("_packed") || codes.hasSuffix(".qweight"))
    self.isStacked = isStacked
  }

  /// A tensor's module: its name without the last word, of stacks without a suffix the name.
  static func module(_ tensor: String) -> String {
    for suffix in [".weight_packed", ".weight", ".qweight", "_blocks"] where tensor.hasSuffix(suffix) {
      return String(tensor.dropLast(suffix.count))
    }
    return tensor
  }

  /// Columns that share a scale: of groups and blocks; nil where a row or more does.
  var columnsPerScale: Int? {
    switch encoding {
    case let fp8 as FP8:
      if case .block(_, let columns) = fp8.granularity { columns } else { nil }
    case let integers as GroupedIntegers:
      if case .group(let size) = integers.granularity { size } else { nil }
    case is NVFP4: NVFP4.group
    case is FP4: FP4.group
    default: nil
    }
  }

  /// Rows that share a scale: of blocks.
  var rowsPerScale: Int? {
    guard let fp8 = encoding as? FP8, case .block(let rows, _) = fp8.granularity, rows > 1 else { return nil }
    return rows
  }

  var hasZeroPoints: Bool { (encoding as? GroupedIntegers)?.hasZeroPoints ?? false }
  var isIndexed: Bool { (encoding as? GroupedIntegers)?.isIndexed ?? false }

  /// The word of a module's own that tells its place in a layer.
  private var word: String { module.split(separator: ".").last.map(String.init) ?? "" }

  /// How engines cut it; by the role, and by the names that attention's matrices have.
  /// Source: vLLM 0.33.0, `ColumnParallelLinear`, `QKVParallelLinear`, `MergedColumnParallelLinear`, `RowParallelLinear` and
  /// `ReplicatedLinear` in `model_executor/models/*.py`.
  var split: EngineSplit {
    switch spec.role {
    case .routedGate, .routedUp, .sharedGate, .sharedUp, .denseGate, .denseUp, .outputHead, .embedding:
      return .rows
    case .routedDown, .sharedDown, .denseDown: return .columns
    case .attention: break
    default: return .none
    }
    let words = spec.name.base.split(separator: ".", omittingEmptySubsequences: false)
    let part = words.count > 3 && words[0] == "blk" ? String(words[2]) : word
    if EngineWeight.cutRows.contains(part) { return .rows }
    return EngineWeight.cutColumns.contains(part) ? .columns : .none
  }

  private static let cutRows: Set<String> = [
    "attn_q", "attn_k", "attn_v", "attn_q_b", "attn_kv_b", "attn_output_a", "q_proj", "k_proj", "v_proj",
    "qkv_proj", "q_b_proj", "kv_b_proj", "wq_b", "wo_a",
  ]
  private static let cutColumns: Set<String> = ["attn_output", "attn_output_b", "o_proj", "out_proj", "wo_b"]
  private static let keysAndValues: Set<String> = ["attn_k", "attn_v", "k_proj", "v_proj"]

  /// Whether its output channels are the heads of keys or values, of which every device has at least one.
  var isKeyOrValue: Bool {
    let words = spec.name.base.split(separator: ".", omittingEmptySubsequences: false)
    return EngineWeight.keysAndValues.contains(
      words.count > 3 && words[0] == "blk" ? String(words[2]) : word)
  }
}

/// A matrix that an engine makes of several.
struct EngineMatrix: Sendable {
  /// Its name in the engine.
  let name: String
  /// Its parts in the engine's order, as places among the view's weights.
  let parts: [Int]
  /// Whether it belongs to a routed expert.
  let isExpert: Bool
}

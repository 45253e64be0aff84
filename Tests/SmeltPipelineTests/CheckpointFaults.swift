// The zoo of checkpoints: sound tiny models, each with one fault, and what a reader must say. Some are kept under
// Fixtures/malformed/checkpoint for other readers; all are made again at every run.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport

/// One way for a checkpoint to be wrong.
struct CheckpointFault: Sendable, CustomStringConvertible {
  /// When the fault must be noticed.
  enum Stage: String, Sendable {
    /// From headers and config.json alone.
    case open
    /// When the weight's bytes are first needed: `check`, `convert` and `evaluate` all refuse.
    case scan
  }

  let name: String
  let code: ErrorCode
  /// The file the refusal names; empty for the folder itself.
  let file: String
  let subject: String?
  let stage: Stage
  let layout: TinyV4.Layout
  let size: TinyV4.Size
  let change: @Sendable (inout TinyV4) -> Void
  /// What is done to the folder after it was written.
  let spoil: @Sendable (String) -> Void
  /// Whether the folder is kept in Fixtures.
  let isKept: Bool

  var description: String { name }

  init(
    _ name: String, _ code: ErrorCode, _ subject: String?, file: String = "model.safetensors",
    stage: Stage = .open, layout: TinyV4.Layout = .published, size: TinyV4.Size = .smallest,
    kept isKept: Bool = false, _ change: @escaping @Sendable (inout TinyV4) -> Void = { _ in },
    spoil: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.name = name
    self.code = code
    self.file = file
    self.subject = subject
    self.stage = stage
    self.layout = layout
    self.size = size
    self.change = change
    self.spoil = spoil
    self.isKept = isKept
  }

  /// Writes the folder.
  func write(to folder: String) {
    var tiny = TinyV4(layout, size: size)
    change(&tiny)
    tiny.write(to: folder)
    spoil(folder)
  }

  /// What Fixtures/malformed has beside the folder.
  var json: JSON {
    var members: [(String, JSON)] = [("code", JSON(code.name))]
    if !file.isEmpty { members.append(("file", JSON(file))) }
    if let subject { members.append(("subject", JSON(subject))) }
    members.append(("stage", JSON(stage.rawValue)))
    return JSON(members: members)
  }

  // MARK: the zoo

  private static let queries = "layers.0.attn.wq_a"
  private static let expert = "layers.0.ffn.experts.2.w2"
  private static let table = "layers.0.ffn.gate.tid2eid"

  /// A fault of a value in config.json.
  private static func config(_ name: String, _ key: String, _ value: JSON?, kept: Bool = false) -> Self {
    Self(name, .configValue, key, file: "config.json", kept: kept) { $0.set(key, value) }
  }

  /// A fault of the bytes of config.json.
  private static func configFile(
    _ name: String, _ code: ErrorCode, _ text: @escaping @Sendable (String) -> [UInt8]
  ) -> Self {
    Self(
      name, code, nil, file: "config.json", kept: name == "config-cut",
      spoil: { folder in
        let path = folder + "/config.json"
        let old = (try? readSmallFile(path, limit: 1 << 20, code: .configJSON).array) ?? []
        putFile(path, text(String(decoding: old, as: UTF8.self)))
      })
  }

  /// A fault of a tensor, seen in its header.
  private static func tensor(
    _ name: String, _ code: ErrorCode, _ tensor: String, subject: String? = nil,
    layout: TinyV4.Layout = .published, kept: Bool = false,
    _ change: @escaping @Sendable (inout TinyTensor) -> Void
  ) -> Self {
    Self(name, code, subject ?? tensor, layout: layout, kept: kept) { $0.change(tensor, change) }
  }

  /// A fault of a tensor's bytes.
  private static func bytes(
    _ name: String, _ code: ErrorCode, _ tensor: String, subject: String? = nil,
    layout: TinyV4.Layout = .published, kept: Bool = false,
    _ change: @escaping @Sendable (inout TinyTensor) -> Void
  ) -> Self {
    Self(name, code, subject ?? tensor, stage: .scan, layout: layout, kept: kept) {
      $0.change(tensor, change)
    }
  }

  /// The scale of the query projection in another dtype, the last of the four with this value.
  private static func scale(_ name: String, _ value: Float, kept: Bool = false) -> Self {
    bytes(name, .scaleValue, queries + ".scale", subject: queries + ".weight", kept: kept) { tensor in
      tensor.dtype = .f32
      tensor.bytes = littleEndian([1, 1, 1, value].map { (scale: Float) in scale.bitPattern })
    }
  }

  static let all: [CheckpointFault] = files + configs + structures + layouts + contents

  private static let files: [CheckpointFault] = [
    Self(
      "no-config", .notModel, nil, file: "",
      spoil: { folder in
        for name in (try? namesInFolder(folder)) ?? [] { removeFile(folder + "/" + name) }
      }),
    Self("no-config-scales", .quantConfig, queries + ".weight", spoil: { removeFile($0 + "/config.json") }),
    configFile("config-empty", .configJSON) { _ in [] },
    configFile("config-cut", .configJSON) { Array($0.utf8.dropLast(9)) },
    configFile("config-list", .configJSON) { _ in Array("[]".utf8) },
    configFile("config-text", .configJSON) { _ in Array("<!doctype html>".utf8) },
    configFile("config-latin", .configJSON) { Array($0.utf8.dropLast(3)) + [0x22, 0xE9, 0x22, 0x7D] },
    configFile("config-key-twice", .configJSON) { Array(("{\"hidden_size\": 32," + $0.dropFirst()).utf8) },
    configFile("config-deep", .configJSON) { _ in Array(String(repeating: "[", count: 100_000).utf8) },
    configFile("config-large", .configValue) { Array($0.utf8) + [UInt8](repeating: 0x20, count: 16 << 20) },
  ]

  private static let configs: [CheckpointFault] =
    [
      config("heads-zero", "num_attention_heads", 0), config("heads-text", "num_attention_heads", "two"),
      config("experts-zero", "n_routed_experts", 0), config("experts-missing", "n_routed_experts", nil),
      config("top-k-over-experts", "num_experts_per_tok", 5, kept: true),
      config("rope-over-head", "qk_rope_head_dim", 18),
      config("layers-over-limit", "num_hidden_layers", 4097),
      config("layers-fraction", "num_hidden_layers", 1.5), config("hidden-list", "hidden_size", [32]),
      config("hidden-infinite", "hidden_size", 1e300), config("type-missing", "model_type", nil),
      config("type-number", "model_type", 4), config("quantization-list", "quantization_config", []),
      Self("method-number", .configValue, "quant_method", file: "config.json") {
        $0.set("quantization_config", ["quant_method": 8])
      },
      Self("method-missing", .configValue, "quant_method", file: "config.json") {
        $0.set("quantization_config", [:])
      },
    ]
    + ([[0, 16], [16], [16, 16, 16], "16", [65537, 16], [16, -1], [16.5, 16], ["a", "b"]] as [JSON])
    .enumerated().map { index, size in
      Self("block-size-\(index)", .configValue, "weight_block_size", file: "config.json") {
        $0.set("quantization_config", ["quant_method": "fp8", "weight_block_size": size])
      }
    }

  private static let structures: [CheckpointFault] = [
    Self("experts-more-in-config", .incomplete, "layers.0.ffn.experts.4.w1.weight", file: "") {
      $0.set("n_routed_experts", 5)
    },
    Self("experts-fewer-in-config", .configShape, "layers.0.ffn.gate.weight") {
      $0.set("n_routed_experts", 3)
    },
    // Products of the largest sizes there are do not fit in 63 bits.
    Self("sizes-enormous", .configShape, "embed.weight") {
      for (key, value) in [
        ("hidden_size", 1 << 24), ("vocab_size", 1 << 24), ("num_attention_heads", 65536),
        ("head_dim", 65536),
        ("o_groups", 65536), ("o_lora_rank", 1 << 24), ("q_lora_rank", 1 << 24),
        ("moe_intermediate_size", 1 << 24), ("n_shared_experts", 64), ("hc_mult", 16),
      ] {
        $0.set(key, JSON(value))
      }
    },
    Self("expert-gap", .incomplete, expert + ".weight", file: "", kept: true) {
      $0.remove(expert + ".weight")
      $0.remove(expert + ".scale")
    },
    Self("names-of-another-program", .otherNames, expert + ".weight", file: "") {
      for index in $0.tensors.indices where $0.tensors[index].name.hasPrefix(expert) {
        $0.tensors[index].name = $0.tensors[index].name.replacing(".experts.", with: ".specialists.")
      }
    },
    Self("layers-more-in-config", .incomplete, "layers.1.attn_norm.weight", file: "") {
      $0.set("num_hidden_layers", 2)
      $0.set("compress_ratios", [0, 0])
    },
    Self("layers-fewer-in-config", .unknownTensor, "layers.1.attn_norm.weight", size: TinyV4.Size()) {
      $0.set("num_hidden_layers", 1)
    },
    Self("unknown-tensor", .unknownTensor, "layers.0.attn.wq_c.weight", kept: true) {
      $0.tensors.append(TinyTensor("layers.0.attn.wq_c.weight", .f32, [1], [0, 0, 0, 0]))
    },
    Self("scale-beside-plain", .unknownTensor, queries + ".scale", layout: .plain) {
      $0.tensors.append(TinyTensor(queries + ".scale", .f8E8M0, [2, 2], [127, 127, 127, 127]))
    },
    Self("two-scales", .unknownTensor, queries + ".weight_scale_inv") {
      $0.tensors.append(TinyTensor(queries + ".weight_scale_inv", .f8E8M0, [2, 2], [127, 127, 127, 127]))
    },
    tensor("shape-transposed", .configShape, "embed.weight") { $0.shape.reverse() },
    tensor("shape-flat", .configShape, "embed.weight") { $0.shape = [$0.shape.reduce(1, *)] },
    tensor("shape-extra", .configShape, "norm.weight") { $0.shape = [1, 32] },
    tensor("shape-scalar", .configShape, "hc_head_scale") { $0.shape = [] },
    tensor("table-floats", .configShape, table) { $0.dtype = .f64 },
    tensor("table-bytes", .configShape, table) { ($0.dtype, $0.bytes) = (.u8, Array($0.bytes.prefix(48))) },
    tensor("norm-integers", .configShape, "norm.weight") {
      ($0.dtype, $0.bytes) = (.i32, $0.bytes + $0.bytes)
    },
    tensor("norm-doubles", .configShape, "norm.weight") {
      ($0.dtype, $0.bytes) = (.f64, $0.bytes + $0.bytes + $0.bytes + $0.bytes)
    },
  ]

  private static let layouts: [CheckpointFault] = [
    Self("scale-missing", .scaleMissing, queries + ".weight", kept: true) { $0.remove(queries + ".scale") },
    Self("expert-scale-missing", .scaleMissing, expert + ".weight") { $0.remove(expert + ".scale") },
    tensor("scale-grid", .scaleShape, queries + ".scale", subject: queries + ".weight", kept: true) {
      ($0.shape, $0.bytes) = ([2, 1], [127, 127])
    },
    tensor("scale-grid-transposed", .scaleShape, expert + ".scale", subject: expert + ".weight") {
      $0.shape.reverse()
    },
    Self("scale-grid-of-another-block", .scaleShape, queries + ".weight") {
      $0.set("quantization_config", ["quant_method": "fp8", "weight_block_size": [32, 32]])
    },
    tensor("scale-integers", .scaleShape, queries + ".scale", subject: queries + ".weight") {
      ($0.dtype, $0.bytes) = (.i32, [UInt8](repeating: 1, count: 16))
    },
    tensor("expert-scale-floats", .scaleShape, expert + ".scale", subject: expert + ".weight") {
      ($0.dtype, $0.bytes) = (.f32, [UInt8](repeating: 1, count: 4 * $0.bytes.count))
    },
    tensor("packed-width", .packed, expert + ".weight", kept: true) {
      ($0.shape, $0.bytes) = ([32, 32], $0.bytes + $0.bytes)
    },
    tensor("packed-quarter", .packed, expert + ".weight") {
      ($0.shape, $0.bytes) = ([32, 8], Array($0.bytes.prefix(256)))
    },
    Self(
      "packed-group", .packed, "layers.0.ffn.experts.0.w1.weight",
      size: {
        var size = TinyV4.Size.smallest
        size.hidden = 48
        return size
      }()),
    Self(
      "fp8-without-fp8-tensors", .quantConfig, "quantization_config", file: "config.json", layout: .plain,
      kept: true
    ) {
      $0.set("quantization_config", ["quant_method": "fp8", "weight_block_size": [128, 128]])
    },
    Self("fp8-without-config", .quantConfig, queries + ".weight", kept: true) {
      $0.set("quantization_config", nil)
    },
    Self("fp8-without-block-size", .quantConfig, queries + ".weight") {
      $0.set("quantization_config", ["quant_method": "fp8"])
    },
    Self("mixed-experts", .mixedExperts, expert + ".weight", kept: true) {
      $0.remove(expert + ".scale")
      $0.change(expert + ".weight") {
        ($0.dtype, $0.shape, $0.bytes) = (.bf16, [32, 32], [UInt8](repeating: 0x3C, count: 2048))
      }
    },
    Self("mixed-experts-fp8", .mixedExperts, expert + ".weight") {
      $0.change(expert + ".scale") { ($0.shape, $0.bytes) = ([2, 2], [127, 127, 127, 127]) }
      $0.change(expert + ".weight") {
        ($0.dtype, $0.shape, $0.bytes) = (.f8E4M3, [32, 32], [UInt8](repeating: 0x38, count: 1024))
      }
    },
  ]

  private static let contents: [CheckpointFault] = [
    scale("scale-nan", .nan), scale("scale-infinite", .infinity), scale("scale-zero", 0, kept: true),
    scale("scale-minus-zero", -0.0), scale("scale-negative", -1),
    bytes("scale-e8m0-nan", .scaleValue, queries + ".scale", subject: queries + ".weight", kept: true) {
      $0.bytes[2] = 0xFF
    },
    bytes("expert-scale-nan", .scaleValue, expert + ".scale", subject: expert + ".weight") {
      $0.bytes[31] = 0xFF
    },
    bytes("scale-overflows", .scaleValue, queries + ".scale", subject: queries + ".weight") {
      $0.bytes[0] = 0xFE
    },
    bytes("code-nan", .codeNaN, queries + ".weight", kept: true) { $0.bytes[700] = 0x7F },
    bytes("code-minus-nan", .codeNaN, queries + ".weight") { $0.bytes[1023] = 0xFF },
    bytes("code-e5m2-infinite", .codeNaN, queries + ".weight") {
      ($0.dtype, $0.bytes) = (.f8E5M2, [UInt8](repeating: 0x3C, count: 1023) + [0x7C])
    },
    bytes("bf16-nan", .codeNaN, "embed.weight") { $0.bytes.replaceSubrange(100..<102, with: [0xC0, 0x7F]) },
    bytes("bf16-infinite", .codeNaN, expert + ".weight", layout: .plain) {
      $0.bytes.replaceSubrange(100..<102, with: [0x80, 0xFF])
    },
    bytes("f32-nan", .codeNaN, "layers.0.hc_ffn_fn") {
      $0.bytes.replaceSubrange(40..<44, with: [0, 0, 0xC0, 0x7F])
    },
    bytes("head-nan", .codeNaN, "head.weight") { $0.bytes.replaceSubrange(0..<2, with: [0xFF, 0xFF]) },
    bytes("table-expert-beyond", .configValue, table, kept: true) { $0.bytes[8 * 17] = 4 },
    bytes("table-expert-negative", .configValue, table) {
      $0.bytes.replaceSubrange(0..<8, with: [UInt8](repeating: 0xFF, count: 8))
    },
    bytes("table-expert-lowest", .configValue, table) {
      $0.bytes.replaceSubrange(0..<8, with: littleEndian([Int64.min]))
    },
  ]
}

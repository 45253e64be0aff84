// The damages of LayoutErrorTests: each spoils a good checkpoint of Fixtures/layouts in one way.

import SmeltTensors
import Testing

/// One damage and the refusal it must meet when the weight `key` is joined and read.
struct LayoutFault: CustomTestStringConvertible, Sendable {
  let fixture: String
  let key: String
  let code: String
  /// The tensor or key named, by its end.
  let subject: String
  /// What the message says.
  let mentions: String
  let damage: @Sendable (inout LayoutFixture) -> Void
  var testDescription: String { "\(fixture) \(key): \(code) \(mentions)" }

  init(
    _ fixture: String, _ key: String, _ code: String, _ subject: String, _ mentions: String,
    _ damage: @escaping @Sendable (inout LayoutFixture) -> Void
  ) {
    self.fixture = fixture
    self.key = key
    self.code = code
    self.subject = subject
    self.mentions = mentions
    self.damage = damage
  }
}

private let attention = "model.layers.0.self_attn."
private let dense = "model.layers.0.mlp."
private let experts = "model.layers.1.mlp.experts."

extension LayoutFault {
  static let compressed: [LayoutFault] = [
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "Q_SCALE_MISSING", "q_proj.weight", "weight_scale"
    ) {
      $0.remove(attention + "q_proj.weight_scale")
    },
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "Q_SCALE_SHAPE", "weight_scale",
      "is [48], expected [20, 1] or [20]"
    ) { $0.replace(attention + "q_proj.weight_scale", shape: [48]) },
    LayoutFault(
      "compressed-mixed", attention + "k_proj.weight", "Q_SCALE_SHAPE", "weight_scale",
      "is F8_E8M0, expected F32 or BF16"
    ) { $0.replace(attention + "k_proj.weight_scale", dtype: .f8E8M0) },
    LayoutFault(
      "compressed-mixed", attention + "v_proj.weight", "Q_SCALE_MISSING", "v_proj.weight", "weight_zero_point"
    ) { $0.remove(attention + "v_proj.weight_zero_point") },
    LayoutFault(
      "compressed-mixed", attention + "v_proj.weight", "Q_SCALE_SHAPE", "weight_zero_point",
      "is U8, expected I8"
    ) { $0.replace(attention + "v_proj.weight_zero_point", dtype: .u8) },
    LayoutFault(
      "compressed-mixed", attention + "o_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "expected [20, 3]"
    ) {
      $0.replace(attention + "o_proj.weight_scale", shape: [20, 2])
    },
    LayoutFault(
      "compressed-mixed", attention + "o_proj.weight", "Q_CONFIG", "o_proj.weight",
      "has 48 columns, expected a multiple"
    ) {
      $0.edit(
        "\"group_size\": 16,\n     \"strategy\": \"group\"",
        "\"group_size\": 20,\n     \"strategy\": \"group\"")
    },
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "CFG_SHAPE", "q_proj.weight", "expected [20, 48]"
    ) {
      $0.replace(attention + "q_proj.weight", shape: [48, 20])
    },
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "Q_CONFIG", "q_proj.weight",
      "is F8_E4M3, expected I8 weight"
    ) { $0.replace(attention + "q_proj.weight", dtype: .f8E4M3) },
    LayoutFault(
      "compressed-mixed", dense + "gate_proj.weight", "Q_SCALE_SHAPE", "gate_proj.weight", "expected [2, 2]"
    ) {
      $0.replace(dense + "gate_proj.weight_scale", shape: [2, 1])
    },
    LayoutFault(
      "compressed-mixed", dense + "up_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "expected [20]"
    ) {
      $0.replace(dense + "up_proj.weight_scale", shape: [1])
    },
    LayoutFault(
      "compressed-mixed", dense + "up_proj.weight", "Q_CODE_NAN", "up_proj.weight", "row 0, column 3"
    ) {
      $0.replace(dense + "up_proj.weight", bytes: [0, 0, 0, 0x7F] + [UInt8](repeating: 0, count: 956))
    },
    LayoutFault(
      "compressed-mixed", experts + "0.gate_proj.weight", "Q_SCALE_SHAPE", "weight_scale",
      "is F32, expected U8 or F8_E8M0"
    ) { $0.replace(experts + "0.gate_proj.weight_scale", dtype: .f32) },
    LayoutFault(
      "compressed-mixed", experts + "0.up_proj.weight", "Q_PACK", "weight_packed", "expected [20, 48]"
    ) {
      $0.replace(experts + "0.up_proj.weight_packed", shape: [20, 96])
    },
    LayoutFault(
      "compressed-mixed", experts + "0.up_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "expected [20, 3]"
    ) {
      $0.replace(experts + "0.up_proj.weight_scale", shape: [20, 6])
    },
    LayoutFault(
      "compressed-mixed", experts + "0.up_proj.weight", "Q_CONFIG", "weight_packed",
      "is I32, expected U8 weight_packed"
    ) { $0.replace(experts + "0.up_proj.weight_packed", dtype: .i32, shape: [20, 12]) },
    LayoutFault(
      "compressed-mixed", experts + "0.down_proj.weight", "Q_SCALE_MISSING", "weight_packed",
      "weight_global_scale"
    ) { $0.remove(experts + "0.down_proj.weight_global_scale") },
    LayoutFault(
      "compressed-mixed", experts + "0.down_proj.weight", "Q_SCALE_SHAPE", "weight_global_scale",
      "is [2], expected [1] or []"
    ) { $0.replace(experts + "0.down_proj.weight_global_scale", shape: [2]) },
    LayoutFault(
      "compressed-mixed", experts + "0.down_proj.weight", "Q_SCALE_SHAPE", "weight_scale",
      "is BF16, expected F8_E4M3"
    ) { $0.replace(experts + "0.down_proj.weight_scale", dtype: .bf16) },
    LayoutFault(
      "compressed-mixed", experts + "1.up_proj.weight", "Q_PACK", "weight_packed",
      "is [20, 4], expected [20, 5]"
    ) {
      $0.replace(experts + "1.up_proj.weight_packed", shape: [20, 4])
    },
    LayoutFault("compressed-mixed", experts + "1.up_proj.weight", "Q_PACK", "weight_shape", "says [20, 37]") {
      $0.replace(
        experts + "1.up_proj.weight_shape",
        bytes: [20, 0, 0, 0, 0, 0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0])
    },
    LayoutFault(
      "compressed-mixed", experts + "1.up_proj.weight", "Q_PACK", "weight_shape", "is [3], expected [2]"
    ) {
      $0.replace(experts + "1.up_proj.weight_shape", shape: [3])
    },
    LayoutFault(
      "compressed-mixed", experts + "1.down_proj.weight", "Q_SCALE_MISSING", "weight_packed",
      "weight_zero_point"
    ) {
      $0.remove(experts + "1.down_proj.weight_zero_point")
    },
    LayoutFault(
      "compressed-mixed", experts + "1.down_proj.weight", "Q_SCALE_SHAPE", "weight_zero_point",
      "expected [3, 3]"
    ) {
      $0.replace(experts + "1.down_proj.weight_zero_point", shape: [20, 3])
    },
    LayoutFault(
      "compressed-mixed", experts + "1.down_proj.weight", "Q_SCALE_VALUE", "weight_packed",
      "scale [0, 0] is 0"
    ) {
      $0.replace(experts + "1.down_proj.weight_scale")
    },
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "Q_CONFIG", "q_proj.weight",
      "'ignore' in 'config.json'"
    ) {
      $0.edit("\"lm_head\"", "\"model.layers.0.self_attn.q_proj\"")
    },
    LayoutFault(
      "compressed-mixed", attention + "q_proj.weight", "Q_CONFIG", "q_proj.weight",
      "'ignore' in 'config.json'"
    ) {
      $0.edit("mlp\\\\.gate$", "q_proj$")
    },
    LayoutFault(
      "compressed-mixed", experts + "3.down_proj.weight", "Q_CONFIG", "weight_packed",
      "no group of config_groups"
    ) {
      $0.edit("\"Linear\"", "\"linear\"")
    },
    LayoutFault(
      "compressed-w4a16", dense + "down_proj.weight", "Q_CONFIG", "weight_packed", "keeps weights as they are"
    ) {
      $0.edit("pack-quantized", "dense")
    },
  ]

  static let others: [LayoutFault] = [
    LayoutFault("modelopt-fp8", dense + "up_proj.weight", "Q_SCALE_MISSING", "up_proj.weight", "weight_scale")
    {
      $0.remove(dense + "up_proj.weight_scale")
    },
    LayoutFault(
      "modelopt-fp8", dense + "up_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "is [20], expected [] or [1]"
    ) {
      $0.replace(dense + "up_proj.weight_scale", shape: [20])
    },
    LayoutFault(
      "modelopt-fp8", dense + "up_proj.weight", "Q_CONFIG", "up_proj.weight",
      "is F8_E4M3, expected U8 for NVFP4"
    ) {
      $0.sidecar = #"{"quantization": {"quant_algo": "NVFP4", "group_size": 16}}"#
    },
    LayoutFault("modelopt-fp8", dense + "up_proj.weight", "Q_CONFIG", "up_proj.weight", "no quant_algo") {
      $0.sidecar = #"{"quantization": {"quant_algo": null}}"#
    },
    LayoutFault(
      "modelopt-nvfp4", dense + "up_proj.weight", "Q_SCALE_MISSING", "up_proj.weight", "weight_scale_2"
    ) {
      $0.remove(dense + "up_proj.weight_scale_2")
    },
    LayoutFault(
      "modelopt-nvfp4", dense + "up_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "expected [20, 6]"
    ) {
      $0.replace(dense + "up_proj.weight_scale", shape: [20, 12])
    },
    LayoutFault(
      "modelopt-nvfp4", dense + "up_proj.weight", "Q_PACK", "up_proj.weight",
      "are [20, 96], expected [20, 48]"
    ) {
      $0.replace(dense + "up_proj.weight", shape: [20, 96])
    },
    LayoutFault(
      "modelopt-nvfp4", dense + "up_proj.weight", "Q_SCALE_VALUE", "up_proj.weight", "the global scale is 0"
    ) {
      $0.replace(dense + "up_proj.weight_scale_2")
    },
    LayoutFault(
      "modelopt-nvfp4", dense + "gate_proj.weight", "Q_SCALE_SHAPE", "weight_scale", "is [1], expected [20]"
    ) {
      $0.replace(dense + "gate_proj.weight_scale", shape: [1])
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_PACK", "qweight", "is [24, 12], expected [12, 24]")
    {
      $0.replace(dense + "experts.3.w1.qweight", shape: [24, 12])
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_PACK", "qweight", "is I64, expected I32") {
      $0.replace(dense + "experts.3.w1.qweight", dtype: .i64)
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_SCALE_MISSING", "qweight", "qzeros") {
      $0.remove(dense + "experts.3.w1.qzeros")
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_SCALE_MISSING", "qweight", "scales") {
      $0.remove(dense + "experts.3.w1.scales")
    },
    LayoutFault(
      "gptq", dense + "experts.3.w1.weight", "Q_SCALE_SHAPE", "qzeros", "is [3, 4], expected [3, 3]"
    ) {
      $0.replace(dense + "experts.3.w1.qzeros", shape: [3, 4])
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_SCALE_SHAPE", "scales", "expected [6, 24]") {
      $0.edit("\"group_size\": 32", "\"group_size\": 16")
    },
    LayoutFault("gptq", dense + "experts.3.w1.weight", "Q_SCALE_SHAPE", "g_idx", "is [24], expected [96]") {
      $0.replace(dense + "experts.3.w1.g_idx", shape: [24])
    },
    LayoutFault(
      "gptq", dense + "experts.3.w1.weight", "Q_CONFIG", "g_idx", "channel 32 into another group than 1"
    ) {
      $0.replace(dense + "experts.3.w1.g_idx")
    },
    LayoutFault("gptq-act-order", dense + "experts.3.w1.weight", "Q_SCALE_MISSING", "qweight", "g_idx") {
      $0.remove(dense + "experts.3.w1.g_idx")
    },
    LayoutFault(
      "gptq-act-order", dense + "experts.3.w1.weight", "Q_SCALE_SHAPE", "qweight", "column 1 is in group 3"
    ) {
      $0.replace(
        dense + "experts.3.w1.g_idx", bytes: [0, 0, 0, 0, 3, 0, 0, 0] + [UInt8](repeating: 0, count: 376))
    },
    LayoutFault("awq", attention + "q_proj.weight", "Q_PACK", "qweight", "is [3, 96], expected [96, 3]") {
      $0.replace(attention + "q_proj.qweight", shape: [3, 96])
    },
    LayoutFault("awq", attention + "q_proj.weight", "Q_SCALE_SHAPE", "qzeros", "is [3, 24], expected [3, 3]")
    {
      $0.replace(attention + "q_proj.qzeros", shape: [3, 24])
    },
    LayoutFault("awq", attention + "q_proj.weight", "Q_SCALE_SHAPE", "scales", "is I8, expected F16") {
      $0.replace(attention + "q_proj.scales", dtype: .i8)
    },
    LayoutFault("mxfp4-blocks", "gate_up_proj.0.0", "Q_SCALE_MISSING", "_blocks", "gate_up_proj_scales") {
      $0.remove(dense + "experts.gate_up_proj_scales")
    },
    LayoutFault(
      "mxfp4-blocks", "gate_up_proj.0.0", "Q_SCALE_SHAPE", "_scales", "is [3, 40, 4], expected [3, 40, 2]"
    ) {
      $0.replace(dense + "experts.gate_up_proj_scales", shape: [3, 40, 4])
    },
    LayoutFault("mxfp4-blocks", "gate_up_proj.0.0", "Q_PACK", "_blocks", "is U8 [3, 40, 4, 8]") {
      $0.replace(dense + "experts.gate_up_proj_blocks", shape: [3, 40, 4, 8])
    },
    LayoutFault(
      "mxfp4-blocks", "gate_up_proj.2.1", "CFG_SHAPE", "_blocks",
      "has no [20, 64] for expert 2, every 2nd row"
    ) {
      $0.replace(dense + "experts.gate_up_proj_blocks", shape: [2, 40, 2, 16])
      $0.replace(dense + "experts.gate_up_proj_scales", shape: [2, 40, 2])
    },
    LayoutFault("mxfp4-blocks", "gate_up_proj.0.0", "Q_CONFIG", "_blocks", "says 'fp8', expected 'mxfp4'") {
      $0.edit("mxfp4", "fp8")
    },
    LayoutFault("mxfp4-blocks", "down_proj.0", "Q_SCALE_VALUE", "_blocks", "scale [0, 0] is NaN") {
      $0.replace(
        dense + "experts.down_proj_scales", bytes: [UInt8](repeating: 255, count: 3 * 64 * 5))
    },
    LayoutFault(
      "plain-fused", "gate_up_proj.0.0", "CFG_SHAPE", "gate_up_proj", "has no [20, 64] for expert 0"
    ) {
      $0.replace(dense + "experts.gate_up_proj", shape: [3, 40, 64])
    },
    LayoutFault(
      "plain-fused", "gate_up_proj.2.0", "CFG_SHAPE", "gate_up_proj", "has no [20, 64] for expert 2"
    ) {
      $0.replace(dense + "experts.gate_up_proj", shape: [2, 64, 40])
    },
    LayoutFault("plain-fused", "gate_up_proj_bias.0.1", "CFG_SHAPE", "gate_up_proj_bias", "has no [20]") {
      $0.replace(dense + "experts.gate_up_proj_bias", shape: [3, 38])
    },
    LayoutFault("plain-fused", "rows.0", "CFG_SHAPE", "experts.rows", "in rows 20..<40") {
      $0.replace(dense + "experts.rows", shape: [3, 39, 64])
    },
    LayoutFault("plain-fused", "rows.0", "CFG_SHAPE", "experts.rows", "is F8_E5M2FNUZ, which no layout") {
      $0.replace(dense + "experts.rows", dtype: .f8E5M2FNUZ)
    },
    LayoutFault("deepseek", dense + "up_proj.weight", "Q_SCALE_MISSING", "up_proj.weight", "up_proj.scale") {
      $0.remove(dense + "up_proj.weight_scale_inv")
    },
    LayoutFault(
      "deepseek", dense + "up_proj.weight", "Q_SCALE_SHAPE", "up_proj.weight", "are [2, 1], expected [2, 2]"
    ) {
      $0.replace(dense + "up_proj.weight_scale_inv", shape: [2, 1])
    },
    LayoutFault(
      "deepseek", dense + "up_proj.weight", "Q_CONFIG", "up_proj.weight", "has no weight_block_size"
    ) {
      $0.edit("weight_block_size", "block_size")
    },
    LayoutFault("deepseek", "layers.2.ffn.experts.0.w1.weight", "Q_PACK", "w1.weight", "expected [20, 48]") {
      $0.replace("layers.2.ffn.experts.0.w1.weight", shape: [20, 96])
    },
    LayoutFault(
      "deepseek", "model.layers.3.mlp.experts.gate_up_proj.1.1", "Q_SCALE_SHAPE", "_scale_inv",
      "has no [1, 1]"
    ) { $0.replace("model.layers.3.mlp.experts.gate_up_proj_scale_inv", shape: [2, 1, 1]) },
    LayoutFault(
      "deepseek", "model.layers.3.mlp.experts.gate_up_proj.1.1", "Q_CONFIG", "gate_up_proj",
      "begin inside a block of 96"
    ) { $0.edit("128,\n   128", "96,\n   128") },
  ]
}

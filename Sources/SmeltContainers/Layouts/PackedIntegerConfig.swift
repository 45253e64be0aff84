// What GPTQ and AWQ say about quantized tensors.

internal import CKernels
internal import SmeltStorage
internal import SmeltTensors

/// `quantization_config` of GPTQ and AWQ. Formats/layouts.md, sections 8 and 9.
struct PackedIntegerConfig: Sendable {
  /// Input channels of a group, or nil for one group.
  let group: Int?
  /// Whether groups are not runs of input channels (`desc_act`).
  let isReordered: Bool
  /// Whether stored zero points are one less than they mean (`gptq`, not `gptq_v2`).
  let zeroPointsAreOffset: Bool

  /// Reads the section.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for other widths and forms.
  init(_ reader: QuantizationReader, method: String) throws {
    let bits = try reader.integer("bits", "w_bit", in: 1...32)
    guard let bits else { throw reader.error("bits", "is missing, expected 4") }
    guard bits == 4 else { throw reader.unsupported("bits", "\(bits)", "4") }
    let size = try reader.integer("group_size", "q_group_size", in: -1...65536) ?? -1
    guard size != 0 else {
      throw reader.error("group_size", "found 0, expected -1 or a number from 1 to 65536")
    }
    group = size > 0 ? size : nil
    if method == "awq" {
      let version = try reader.string("version") ?? "gemm"
      guard version.lowercased() == "gemm" else {
        throw reader.unsupported("version", "'\(version)'", "gemm")
      }
      guard try reader.bool("zero_point", default: true) else {
        throw reader.unsupported("zero_point", "false", "true")
      }
      (isReordered, zeroPointsAreOffset) = (false, false)
      return
    }
    isReordered = try reader.bool("desc_act", default: false)
    let form = try reader.string("checkpoint_format") ?? reader.string("format") ?? "gptq"
    guard ["gptq", "gptq_v2"].contains(form) else {
      throw reader.unsupported("checkpoint_format", "'\(form)'", "gptq, gptq_v2")
    }
    zeroPointsAreOffset = form == "gptq"
    // Entries that begin with "-:" leave modules alone; others would change bits or groups of some.
    if let rules = try reader.object("dynamic")?.json.object,
      let rule = rules.keys.first(where: { !$0.hasPrefix("-:") })
    {
      throw reader.unsupported("dynamic", "a rule for '\(rule)'", "rules that leave modules out")
    }
  }
}

// What a checkpoint's configuration says about quantized tensors: `quantization_config` of config.json, or ModelOpt's
// hf_quant_config.json. The part of a method is read by its layout's file.

package import SmeltStorage
import SmeltTensors

/// What the configuration says about quantized tensors; one object, which every question about a weight takes along.
package final class QuantizationConfig: Sendable {
  /// The values of `quant_method` that are read; `modelopt_fp4` and its like are `modelopt`.
  package static let methods = ["fp8", "mxfp8", "mxfp4", "compressed-tensors", "modelopt", "gptq", "awq"]

  /// The file beside config.json in which older versions of ModelOpt say what others say in it.
  package static let sidecarName = ModelOptConfig.sidecarName

  /// Keys under which configurations of wrappers keep the text model's, its quantization included.
  package static let wrapperKeys = ["text_config", "llm_config", "language_config", "thinker_config"]

  /// `quant_method`, or nil when the model is not quantized.
  package let method: String?
  /// `weight_block_size`: rows and columns of a scale block, or nil.
  package let block: (rows: Int, columns: Int)?
  /// The file, for messages.
  package let file: String
  /// The place of the section in the file.
  package let offset: Int?
  /// Whether some weight must be quantized for the configuration to be true.
  package let needsQuantizedWeights: Bool
  /// Whether activations have scales that calibration chose: `activation_scheme` is static.
  let hasStaticActivations: Bool
  /// Why nobody can follow what is said of activations, where that is so.
  let activationFault: FormatError?
  /// What is said of cached keys and values.
  private let caches: CacheDeclaration
  /// Whether keys and values are cached in FP8.
  package var hasCacheScales: Bool { if case .fp8 = caches { true } else { false } }
  /// Why nobody can follow what is said of cached keys and values, where that is so.
  package var cacheFault: (any Error)? { if case .faulty(let error) = caches { error } else { nil } }
  /// Whether it says for every quantized weight what becomes of activations: it is of a package of engines.
  package var saysActivations: Bool { compressed != nil || modelOpt != nil }
  /// What compressed-tensors says.
  let compressed: CompressedTensorsConfig?
  /// What ModelOpt says.
  let modelOpt: ModelOptConfig?
  /// What GPTQ or AWQ say.
  let packed: PackedIntegerConfig?

  /// Reads `quantization_config` (or the older `compression_config`); absent means that nothing is quantized, unless
  /// `sidecar`, the content of hf_quant_config.json, says otherwise.
  /// - Throws: `CFG_VALUE` for a malformed entry; `RequestError` unsupported for a method or a variant that is not read.
  package init(config: JSON, file: String, sidecar: JSON? = nil) throws {
    var section: JSON?
    for holder in [config] + QuantizationConfig.wrapperKeys.compactMap({ config[$0] }) {
      for key in ["quantization_config", "compression_config"] where section == nil {
        if let value = holder[key], !value.isNull { section = value }
      }
    }
    var method: String?
    var file = file
    if let section {
      guard section.object != nil else {
        throw FormatError(
          .configValue, file: file, subject: "quantization_config", offset: section.offset,
          "found \(section.kind), expected an object")
      }
      let copied = section["mode"] == nil ? nil : MLXConfig(section)
      if section["quant_method"] == nil, let affine = MLXConfig(config["quantization"]) ?? copied {
        throw affine.refusal(file)
      }
      guard let name = section["quant_method"], let found = name.string else {
        throw FormatError(
          .configValue, file: file, subject: "quant_method",
          offset: section["quant_method"]?.offset ?? section.offset,
          section["quant_method"].map { "found \($0.kind), expected a string" }
            ?? "is missing, expected a string")
      }
      let spelled = found.hasPrefix("modelopt") ? "modelopt" : found
      guard QuantizationConfig.methods.contains(spelled) else {
        throw RequestError(
          .unsupported, "quant_method '\(found)' in '\(file)' is not supported",
          help: "supported: " + QuantizationConfig.methods.joined(separator: ", "))
      }
      method = spelled
    } else if let affine = MLXConfig(config["quantization"]) {
      throw affine.refusal(file)
    } else if let sidecar {
      file = ModelOptConfig.sidecarName
      section = sidecar
      method = "modelopt"
    }
    let reader = QuantizationReader(section ?? JSON(members: []), file: file)
    self.method = method
    self.file = file
    offset = section?.offset
    block = method == "fp8" || method == "mxfp8" ? try reader.pair("weight_block_size") : nil
    if method == "mxfp8", let block, block != (1, FP4.group) {
      throw reader.error("weight_block_size", "expected [1, \(FP4.group)] for mxfp8")
    }
    let scheme = method == "fp8" || method == "mxfp8" ? reader.value("activation_scheme")?.value : nil
    hasStaticActivations = method == "fp8" && scheme?.string == "static"
    activationFault = scheme.flatMap { value in
      ["static", "dynamic"].contains(value.string)
        ? nil
        : FormatError(
          .configValue, file: reader.file, subject: "activation_scheme", offset: value.offset,
          "found \(value.string.map { "'\(excerpt($0))'" } ?? value.kind), expected static or dynamic",
          help: "correct the entry, or convert with a scheme for all weights, which does not ask for it")
    }
    caches = CacheDeclaration(section, file: file)
    compressed = method == "compressed-tensors" ? try CompressedTensorsConfig(reader) : nil
    modelOpt = method == "modelopt" ? try ModelOptConfig(reader) : nil
    packed = method == "gptq" || method == "awq" ? try PackedIntegerConfig(reader, method: method ?? "") : nil
    needsQuantizedWeights =
      compressed?.needsQuantizedWeights ?? modelOpt?.needsQuantizedWeights ?? (method != nil)
  }
}

/// What MLX says of a model that it quantized: a section `quantization` of config.json, and a copy as `quantization_config`.
private struct MLXConfig {
  private let words: String

  /// A section of MLX's form, or nil: it has bits and a length of groups and names no method.
  init?(_ section: JSON?) {
    guard let section, section.object != nil, section["quant_method"] == nil,
      let bits = section["bits"]?.integer, let group = section["group_size"]?.integer
    else { return nil }
    words = "MLX \(bits)-bit \(excerpt(section["mode"]?.string ?? "affine")), group \(group)"
  }

  func refusal(_ file: String) -> RequestError {
    RequestError(
      .unsupported,
      "'quantization' in '\(file)' says \(words): weights in U32 words with 'scales' and 'biases'",
      help:
        "use the checkpoint that it was made from, or make a plain one of it: mlx_lm.convert --hf-path MODEL --mlx-path PLAIN --dequantize"
    )
  }
}

// Encodings that no engine's safetensors hold, by the names people know them by, and what to do instead.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Why an encoding cannot be written as safetensors.
enum SafetensorsRefusal {
  /// A weight that would have such an encoding, or activations that do not go with it.
  static func unsupported(
    _ encoding: any Encoding, _ spec: WeightSpec, package: CompressedLayout.Package? = nil,
    activations: EngineActivations? = nil
  ) -> RequestError {
    if package == .modelOpt { return withoutModelOpt(encoding, spec) }
    let (name, help) = known(encoding)
    if let activations {
      return RequestError(
        .unsupported,
        "'\(spec.name)' (\(spec.shape)) would be \(name) (\(encoding.name)) with activations '\(activations.rawValue)', which no engine's format has",
        help: "leave '@\(activations.rawValue)' away, or choose a scheme that goes with it: "
          + "int4-group@a8, int4-group@afp8, int8-channel@a16, mxfp8@a16")
    }
    return RequestError(
      .unsupported,
      "'\(spec.name)' (\(spec.shape)) would be \(name) (\(encoding.name)), which cannot be written as safetensors here",
      help: help ?? "choose a scheme such as bf16 or f32, or an .ingot or a .gguf as the result")
  }

  /// A weight that ModelOpt's layout has no form for.
  private static func withoutModelOpt(_ encoding: any Encoding, _ spec: WeightSpec) -> RequestError {
    let isFP8 = encoding.name == FP8(.e4m3, .tensor).name
    return RequestError(
      .unsupported,
      "'\(spec.name)' (\(spec.shape)) would be \(encoding.name)\(isFP8 ? " without a scale of its activations" : ""), "
        + "which ModelOpt's layout does not have",
      help: isFP8
        ? "give --activations static and calibrate, or choose fp8-channel"
        : "choose fp8-tensor, fp8-channel, fp8-block or nvfp4 (which alone leaves activations as they are), or --layout compressed-tensors"
    )
  }

  /// The name by which people know an encoding, and what to do with it.
  private static func known(_ encoding: any Encoding) -> (name: String, help: String?) {
    switch encoding {
    case let integers as GroupedIntegers:
      let bits = integers.width.rawValue
      let kind =
        integers.hasZeroPoints ? "W\(bits)A16 asymmetric (INT\(bits) with zero points)" : "INT\(bits)"
      return (
        kind,
        "keep it in an .ingot, or choose a scheme such as \(bits == 4 ? "int4-group" : "int8-channel"), which rounds again"
      )
    case is NVFP4:
      return (
        "NVFP4 in a part of a tensor",
        "keep it in an .ingot or a .gguf, or choose a scheme such as bf16"
      )
    case let block as GGUFBlock:
      return (
        "GGUF's \(GGUFTensorType.storing(block)?.name ?? block.name)",
        "keep it in an .ingot or a .gguf, or choose a scheme such as bf16 or int4-group"
      )
    case let fp8 as FP8: return ("FP8 \(fp8.format.rawValue.uppercased())", nil)
    case is FP4: return ("MXFP4", nil)
    default: return (encoding.name.uppercased(), nil)
    }
  }
}

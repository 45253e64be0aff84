// Where each package's configuration says how activations and caches are rounded. Formats/layouts.md, section 12.

import SmeltStorage
internal import SmeltTensors

extension CompressedTensorsConfig {
  /// What a group says of activations.
  enum Inputs: Sendable {
    /// They stay as they are.
    case kept
    case rounded(ActivationArguments)
    /// Something that nobody can follow, which is said where it is asked for.
    case faulty(any Error)

    /// Reads the sections of a group.
    init(_ group: JSON, name: String, file: String) {
      func section(_ key: String) throws -> ActivationArguments? {
        guard let json = group[key], !json.isNull else { return nil }
        return try ActivationArguments(json, file: file, path: "\(name).\(key)")
      }
      do {
        if let fault = try section("output_activations")?.outputFault { throw fault }
        self = try section("input_activations").map { .rounded($0) } ?? .kept
      } catch {
        self = .faulty(error)
      }
    }

    /// What it says of a module's inputs; nil where they stay as they are.
    func activations(_ module: String, columns: Int, in source: any TensorSource) -> DeclaredActivations? {
      switch self {
      case .kept: return nil
      case .faulty(let error): return DeclaredActivations(fault: error)
      case .rounded(let arguments):
        do {
          return try arguments.inputs(module, columns: columns, in: source)
        } catch {
          return DeclaredActivations(fault: error)
        }
      }
    }
  }
}

extension ModelOptConfig.Algorithm {
  /// What it says of a module's inputs; nil where they stay as they are.
  func activations(_ module: String, in source: any TensorSource) -> DeclaredActivations? {
    let scale = source.tensor("\(module).input_scale")
    switch self {
    case .fp8: return DeclaredActivations(.tensor, scale: scale)
    case .channelFP8: return DeclaredActivations(.token)
    case .blockFP8, .blockScales: return DeclaredActivations(.group(128))
    case .mxfp8: return DeclaredActivations(.powers(FP4.group))
    case .nvfp4: return scale.map { DeclaredActivations(.local, scale: $0) }
    case .weightNVFP4: return nil
    }
  }
}

extension QuantizationConfig {
  /// Where the scales of a layer's cached keys and values lie, of an attention module such as `model.layers.3.self_attn`: the names that
  /// vLLM 0.33 (`maybe_remap_kv_scale_name`) and SGLang 0.5 take.
  package static func cacheScales(_ attention: String, in source: any TensorSource) -> (
    keys: TensorInfo, values: TensorInfo
  )? {
    func first(_ letter: String) -> TensorInfo? {
      [
        "\(letter)_scale", "\(letter)_proj.\(letter)_scale", "attn.\(letter)_scale",
        "\(letter)_proj.output_scale", "qkv_proj.\(letter)_scale", "kv_scale",
      ].lazy.compactMap { source.tensor("\(attention).\($0)") }.first
    }
    guard let keys = first("k"), let values = first("v") else { return nil }
    return (keys, values)
  }
}

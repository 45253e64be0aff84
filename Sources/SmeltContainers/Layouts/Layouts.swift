// Published layouts: how several tensors of a checkpoint (codes here, scales there) make one weight. Decided by the
// tensors' names and dtypes and by quantization_config, never by guessing from sizes. A new layout is a file in this
// folder and a line in `Layouts.all`.

package import SmeltStorage
package import SmeltTensors

/// The layouts, and joining by the first that fits.
package enum Layouts {
  /// All of them. Those that a name of their own identifies come first, plain tensors last.
  package static let all: [any Layout] = [
    MXFP4Blocks(), CompressedTensors(), ModelOpt(), GPTQ(), AWQ(), ScaledFP8(), ScaledINT8(), PackedFP4(),
    PlainTensors(),
  ]

  /// A layout, and the tensor with the codes of a weight that is kept in it.
  package struct FoundCodes: Sendable {
    /// The layout's place in `all`.
    fileprivate let place: Int
    /// The codes.
    package let codes: TensorInfo
    /// The layout.
    var layout: any Layout { Layouts.all[place] }
  }

  /// The layout of a weight and the tensor with its codes, or nil when no tensor of the weight is there.
  package static func find(_ place: Spelling, in source: any TensorSource, _ config: QuantizationConfig)
    -> FoundCodes?
  {
    let plain = source.tensor(place.tensor)
    for number in all.indices {
      if let codes = all[number].codes(of: place, plain: plain, in: source, config) {
        return FoundCodes(place: number, codes: codes)
      }
    }
    return nil
  }

  /// The weight a family asks for, from headers alone; nil when no tensor of it is there.
  /// - Throws: what the layout's `join` throws.
  package static func join(
    _ request: WeightRequest, in source: any TensorSource, _ config: QuantizationConfig
  ) throws -> JoinedWeight? {
    guard let found = find(request.place, in: source, config) else { return nil }
    return try join(request, found, in: source, config)
  }

  /// The same of what `find` found at the place that is asked for.
  package static func join(
    _ request: WeightRequest, _ found: FoundCodes, in source: any TensorSource, _ config: QuantizationConfig
  ) throws -> JoinedWeight {
    let (layout, codes) = (found.layout, found.codes)
    let context = JoinContext(
      layout: layout.name, codes: codes, request: request, source: source, config: config)
    // A quantized layout's codes may be integers; a table and numbers to multiply by are never.
    let isTable = layout is PlainTensors && [.i64, .i32].contains(codes.dtype)
    guard request.isTable == isTable || request.takesAnyType else {
      throw context.refuse(
        .configShape, "is \(codes.dtype), expected \(request.isTable ? "I64 or I32" : "numbers")")
    }
    return try layout.join(context)
  }

  /// The tensors that a weight becomes in the layout that stores it as makers do; nil where none does.
  package static func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? {
    all.lazy.compactMap { $0.declare(weight) }.first
  }

  /// The rule that leaves out scales of activations and of the key-value cache.
  package static let activationScale = (
    name: "activation-scale",
    reason:
      "Scales and zero points that a runtime applies to activations or cached keys and values, not to weights."
  )

  /// Whether a tensor of a quantized checkpoint falls under `activationScale`.
  package static func isActivationScale(_ tensor: TensorInfo, _ config: QuantizationConfig) -> Bool {
    let name = tensor.name
    guard config.method != nil, let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")) else { return false }
    return activationScales.contains(String(name[name.utf8.index(after: dot)...]))
  }

  private static let activationScales: Set<String> = [
    "input_scale", "input_zero_point", "input_global_scale", "activation_scale", "output_scale",
    "output_zero_point", "q_scale", "k_scale", "v_scale", "k_zero_point", "v_zero_point", "kv_scale",
    "k_global_scale", "v_global_scale", "q_zero_point",
  ]
}

extension QuantizationConfig {
  /// Refuses a configuration whose promise of quantized weights none of a model's weights keeps.
  /// - Throws: `Q_CONFIG`.
  package func check(_ places: some Sequence<Spelling>, in source: any TensorSource) throws(FormatError) {
    guard let method, needsQuantizedWeights else { return }
    for place in places {
      if let found = Layouts.find(place, in: source, self), !(found.layout is PlainTensors) { return }
    }
    throw FormatError(
      .quantConfig, file: file, subject: "quantization_config", offset: offset,
      "says \(method), but no weight is stored that way")
  }
}
